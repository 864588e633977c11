"""Ranks that would not train the same are refused before the first step, each with its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnx_oto.errors import DataError, OtoError, PeersError, UsageError
from onnx_oto.pipeline.folder import Manifest, RunFolder, claim
from onnx_oto.pipeline.going_on import Going, Stamp
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.resume import _dealt
from onnx_oto.pipeline.together import held_by_first, require_alike

from .threads import ThreadPeers, together

FIRST = Stamp(
    settings={"lr": 0.1, "epochs": 3},
    model={"sha256": "a"},
    data={"files": 1, "bytes": 10, "times": "t", "train": {"samples": 8, "sampled": "s"}},
    files={"teacher": {"sha256": "c", "times": "t"}},
    versions={"numpy": "2.4"},
)


def of_both(other: Stamp) -> None:
    together(2, lambda peers: require_alike(peers, other if peers.rank else FIRST))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"settings": {"lr": 0.2, "epochs": 3}}, UsageError, "lr is 0.2 at rank 1, and 0.1 at rank 0"),
        ({"settings": {"lr": 0.1}}, UsageError, "epochs is None at rank 1"),
        ({"model": {"sha256": "b"}}, UsageError, "rank 1 has read another model"),
        ({"files": {"teacher": {"sha256": "d"}}}, UsageError, "--teacher is another one at rank 1"),
        ({"versions": {"numpy": "2.3"}}, PeersError, "rank 1 has numpy 2.3, rank 0 2.4"),
        (
            {"data": {**FIRST.data, "train": {"samples": 9, "sampled": "s"}}},
            DataError,
            "rank 1 has 9 train samples, rank 0 has 8",
        ),
        (
            {"data": {**FIRST.data, "train": {"samples": 8, "sampled": "r"}}},
            DataError,
            "the train samples of rank 1 are not those of rank 0",
        ),
        ({"data": {}}, DataError, "rank 1 does not find the data that rank 0 reads"),
        ({"data": {**FIRST.data, "bytes": 11}}, DataError, "the data of rank 1 are not those of rank 0"),
    ],
)
def test_others_are_refused(change: dict[str, Any], kind: type[OtoError], message: str) -> None:
    with pytest.raises(kind, match=message):
        of_both(replace(FIRST, **change))


def test_copies_are_the_same() -> None:
    of_both(replace(FIRST, data={**FIRST.data, "times": "later"}, files={"teacher": {"sha256": "c"}}))


def test_rank_0_has_the_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def work(peers: ThreadPeers) -> Path:
        with held_by_first(peers, claim(run, verb="train"), "train") as folder:
            folder.place("metrics.jsonl").write_text("{}\n")
            folder.stay()
            assert isinstance(folder, RunFolder)
            peers.gather(None)
            return folder.path

    first, other = together(2, work)
    assert first == run
    assert (run / "metrics.jsonl").exists()
    assert not other.exists()
    assert Manifest() == RunFolder(other, "train", Manifest()).holds


def test_more_ranks_than_shards_get_one_each() -> None:
    said: list[str] = []
    options, going = _dealt(TrainOptions(shards=2), Going(), 4, said.append)
    assert options.shards == 4
    assert "2 shards and has 4 now" in said[0]
    going.require_same(Stamp(settings={"shards": 4}))
    for kept in (TrainOptions(shards=8), TrainOptions()):
        assert _dealt(kept, Going(), 4, said.append)[0] is kept
    assert len(said) == 1
