"""What a compact model says of itself: what was removed, from what, and by which command. No dates, no paths."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import onnx

from onnx_oto import __version__
from onnx_oto.errors import StorageError
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.files.loading import stored_files
from onnx_oto.model.files.saving import EXTERNAL_ABOVE
from onnx_oto.pipeline.bookkeeping import FREE, OWN, SETTLED
from onnx_oto.pipeline.budgeting import widths_of
from onnx_oto.pipeline.describing import PREFIX
from onnx_oto.pipeline.summary import Summary
from onnx_oto.settings import Setting, Settings, settings_of
from onnx_oto.settings.topics import RUNNING
from onnx_oto.zigs import Analysis
from onnx_oto.zigs.budgets import Budget

MOST_DIMENSIONS = 200
"""Dimensions that are listed by name; of the others it is said how many there are."""
_APART = frozenset((*FREE, *OWN, *SETTLED)) - {"from_"}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Explanation:
    """Where a compact model comes from. command: see `command_of`; original: digests, see `digests`.

    most_bytes: what the file may take, where that is a budget.
    """

    command: str
    original: dict[str, Any]
    most_bytes: float = math.inf

    def within(self, budgets: Iterable[Budget]) -> Explanation:
        """Return it for a model that is to keep these budgets."""
        most = (each.most for each in budgets if each.name == "bytes")
        return replace(self, most_bytes=min(most, default=math.inf))

    def write(self, model: onnx.ModelProto, full: Analysis, drop: BoolArray, summary: Summary) -> None:
        """Write it into the metadata of a compact model, as JSON; what an earlier run said of the same is replaced.

        onnx_oto.version, command, original (digests), removed (channels, parameters and MACs, each "before" and
        "after", and the sizes of the dimensions that lost something). What would break a budget of bytes is left out,
        from the end on.
        """
        facts = {
            "version": __version__,
            "command": self.command,
            "original": self.original,
            "removed": _removed(full, drop, summary),
        }
        replaced = {PREFIX + name for name in facts}
        others = [entry for entry in model.metadata_props if entry.key not in replaced]
        del model.metadata_props[:]
        model.metadata_props.extend(others)
        for name, value in facts.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = PREFIX + name, json.dumps(value, ensure_ascii=False)
            if self.most_bytes < math.inf and model.ByteSize() > self.most_bytes:
                del model.metadata_props[-1]
                return


def command_of(verb: str, settings: Settings) -> str:
    """Return the command of a verb with the settings that are no defaults, as far as its result depends on them.

    Paths stand as words in capitals: where files lay is nobody's business, and the same command must give the same
    bytes elsewhere. So must a run that was left, or repeated from its run.toml: what runs settle is left out.
    """
    words = ["onnx-oto", verb]
    for each in settings_of(type(settings)):
        if each.about.recorded and each.topic != RUNNING and each.name not in _APART:
            words.extend(_words(each, getattr(settings, each.name)))
    return shlex.join(words)


def _words(setting: Setting, value: Any) -> Iterator[str]:
    if setting.entries:
        for entry in setting.entries:
            yield from _words(entry, value.get(entry.name))
    elif value is None or value == setting.default:
        return
    elif isinstance(value, bool):
        yield f"--{'' if value else 'no-'}{setting.key}"
    elif setting.kind.repeats:
        for item in value:
            yield from (f"--{setting.key}", str(item))
    elif isinstance(value, tuple):
        yield from (f"--{setting.key}", ",".join(map(str, value)))
    elif isinstance(value, PurePath):
        yield from (f"--{setting.key}", setting.key.upper())
    else:
        yield from (f"--{setting.key}", str(value))


def digests(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return {"sha256": digest of a model's file}, and under "data" those of files beside it, by their names.

    Files beside it that take more than a message of protobuf holds are left out: reading them once is enough. Raises
    StorageError.
    """
    own, *beside = stored_files(path)
    found: dict[str, Any] = {"sha256": _digest(own)}
    if beside and sum(file.stat().st_size for file in beside) <= EXTERNAL_ABOVE:
        found["data"] = {file.name: _digest(file) for file in beside}
    return found


def _digest(path: Path) -> str:
    hashed = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                hashed.update(block)
    except OSError as error:
        raise StorageError(f"cannot read '{path}': {error.strerror or error}") from None
    return hashed.hexdigest()


def _removed(full: Analysis, drop: BoolArray, summary: Summary) -> dict[str, Any]:
    """Return what went, in numbers, and the sizes of the dimensions that lost something, before and after."""
    sizes = widths_of(full, drop)
    listed = dict(list(sizes.items())[:MOST_DIMENSIONS])
    more = {"more_dimensions": len(sizes) - len(listed)} if len(sizes) > len(listed) else {}
    return {
        "channels": {"before": summary.prunable, "after": summary.prunable - summary.removed},
        "parameters": {"before": summary.params.before, "after": summary.params.after},
        "macs": {"before": summary.macs.before, "after": summary.macs.after, "at": dict(summary.macs_at)},
        "dimensions": listed,
        **more,
    }
