"""Settings that say how a run is carried out, not what comes out of it."""

from __future__ import annotations

FREE = ("limit_memory", "limit_time", "skip_latency", "python", "threads", "checkpoint_minutes", "loaders")
"""Settings that no step depends on: they may change when a run goes on."""

OWN = ("table", "cache")
"""Paths of what runs write themselves, and others besides."""

SETTLED = ("shards", "session_threads", "statistics", "backend", "teacher_scale", "from_")
"""Settings that a run decides for itself where they are left open."""
