"""Nodes, tensors, names and their order: what a model consists of, and how its parts are written."""
