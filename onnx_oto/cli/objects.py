"""Results as JSON objects on stdout, without what draws tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from onnx_oto.cli.streams import RESULTS


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object, in ASCII; numbers that JSON cannot hold become null."""
    RESULTS.write(json.dumps(_plain(value), indent=1) + "\n")
    RESULTS.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
