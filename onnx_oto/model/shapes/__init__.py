"""Shapes, types and partly known values of every tensor: inference, and what stands in for it where it ends."""
