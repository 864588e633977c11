"""Latency as a budget: a table of what the nodes of a model cost on a runtime, made by measuring, read to choose by."""
