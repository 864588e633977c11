"""Lanes: which positions of which axes must be kept or dropped together."""
