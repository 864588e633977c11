"""A run, or two models, on a page: what was gained, how it was trained, what every layer lost, the graph drawn.

Nothing here is computed that training depends on, and nothing is loaded before somebody asks.
"""
