"""Imported by the process that others are forked from: loads all there is to load."""

import trainable_table.probe  # noqa: F401
from trainable_table.forks import load

load()
