"""A run that several processes share: whether they are alike, and who writes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from onnx_oto.errors import DataError, OtoError, PeersError, UsageError
from onnx_oto.machine import has_compiler
from onnx_oto.peers.seam import Peers
from onnx_oto.pipeline import identity
from onnx_oto.pipeline.folder import Manifest, RunFolder
from onnx_oto.pipeline.going_on import Stamp
from onnx_oto.signals import UNDONE, done


@contextlib.contextmanager
def held_by_first(peers: Peers, claim: AbstractContextManager[RunFolder], verb: str) -> Iterator[RunFolder]:
    """Give the folder of a run to rank 0, and to every other rank one of its own, which is removed at the end."""
    if peers.rank == 0:
        with claim as folder:
            yield folder
        return
    place = Path(tempfile.mkdtemp(prefix=f"onnx-oto-rank-{peers.rank}-"))
    remove = partial(shutil.rmtree, place, ignore_errors=True)
    UNDONE.append(remove)
    try:
        yield RunFolder(place, verb, Manifest())
    finally:
        done(remove)


def require_alike(peers: Peers, stamp: Stamp) -> None:
    """Raise, at every rank, for one that computes otherwise than rank 0, or with another model or other data.

    PeersError for versions, UsageError for settings, model and files, DataError for data.
    """
    if peers.size == 1:
        return
    versions = {**stamp.versions, "a compiler (numba)": str(has_compiler())}
    every = peers.gather((versions, stamp))
    first, known = every[0]
    for rank, (other, found) in enumerate(every):
        trouble = _difference(rank, (first, known), (other, found))
        if trouble is not None:
            raise trouble


def _difference(
    rank: int, first: tuple[Mapping[str, str], Stamp], other: tuple[Mapping[str, str], Stamp]
) -> OtoError | None:
    """Return what is wrong with a rank."""
    (versions, stamp), (own, found) = first, other
    if (name := _differing(versions, own)) is not None:
        return PeersError(
            f"rank {rank} has {name} {own.get(name)}, rank 0 {versions.get(name)}: install the same on all machines"
        )
    if (name := _differing(stamp.settings, found.settings)) is not None:
        return UsageError(
            f"{name.replace('_', '-')} is {found.settings.get(name)!r} at rank {rank}, and "
            f"{stamp.settings.get(name)!r} at rank 0: start all with the same options"
        )
    if dict(stamp.model) != dict(found.model):
        return UsageError(f"rank {rank} has read another model than rank 0: give all the same file")
    if (name := _differing(_lasting(stamp.files), _lasting(found.files))) is not None:
        return UsageError(
            f"the file of --{name.replace('_', '-')} is another one at rank {rank} than at rank 0: give all the same"
        )
    if difference := _of_data(stamp.data, found.data, rank):
        return DataError(f"{difference}: give all ranks the same data")
    return None


def _of_data(first: Mapping[str, Any], other: Mapping[str, Any], rank: int) -> str | None:
    if first and not other:
        return f"rank {rank} does not find the data that rank 0 reads"
    for split in sorted(identity.SPLITS):
        one, own = first.get(split), other.get(split)
        if one != own:
            counts = [each["samples"] if each else 0 for each in (own, one)]
            if counts[0] == counts[1]:
                return f"the {split} samples of rank {rank} are not those of rank 0"
            return f"rank {rank} has {counts[0]} {split} samples, rank 0 has {counts[1]}"
    if _timeless(first) != _timeless(other):
        return f"the data of rank {rank} are not those of rank 0"
    return None


def _lasting(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: _timeless(facts) for name, facts in files.items()}


def _timeless(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts of a path without when it was written: copies of one file differ in that."""
    return {name: value for name, value in facts.items() if name != "times" and name not in identity.SPLITS}


def _differing(first: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return the first name under which two mappings differ."""
    names = [*first, *(name for name in other if name not in first)]
    return next((name for name in names if first.get(name) != other.get(name)), None)
