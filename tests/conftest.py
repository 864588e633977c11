"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("shared", deadline=None)  # seconds say nothing on a machine that others use too
settings.load_profile("shared")
