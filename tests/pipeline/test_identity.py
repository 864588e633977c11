"""By what data are recognised when a run goes on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from onnx_oto.pipeline import identity
from onnx_oto.pipeline.folder import MANIFEST, METRICS


def folder_of(place: Path, names: list[bytes]) -> Path:
    place.mkdir()
    for name in names:
        file = os.path.join(os.fsencode(place), name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as stream:
            stream.write(b"content of " + name)
    return place


def test_small_data_are_known_by_contents_and_large_ones_by_names_sizes_and_times(tmp_path, monkeypatch):
    place = folder_of(tmp_path / "data", [b"b/2", b"a/1", b"3"])
    before = identity.of_path(place)
    assert (before["files"], before["bytes"]) == (3, 40)
    os.utime(place / "a/1", (1, 1))
    assert identity.changed(before, identity.of_path(place)) is None
    (place / "a/1").write_bytes(b"CONTENT of a/1")
    assert identity.changed(before, identity.of_path(place)) == "the contents differ"
    monkeypatch.setattr(identity, "WHOLE_BYTES", 39)
    large = identity.of_path(place)
    assert "sha256" not in large
    assert identity.changed(large, identity.of_path(place)) is None
    os.utime(place / "a/1", (1, 1))
    assert identity.changed(large, identity.of_path(place)) == identity.WRITTEN
    (place / "a/1").rename(place / "a/0")
    os.utime(place / "a/0", (1, 1))
    assert identity.changed(large, identity.of_path(place)) == identity.WRITTEN
    (place / "a/0").unlink()
    assert identity.changed(large, identity.of_path(place)) == "there were 3 and now 2 files"


def test_what_a_run_wrote_among_its_data_is_none_of_them(tmp_path):
    place = folder_of(tmp_path / "data", [b"1", b"run/mine"])
    (place / "run" / MANIFEST).touch()
    before = identity.of_path(place)
    (place / "run" / METRICS).touch()
    assert identity.of_path(place) == before


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are text there")
def test_names_that_are_no_text(tmp_path):
    place = folder_of(tmp_path / "data", [b"\xff\xfe.png"])
    known = identity.of_path(place)
    assert known["files"] == 1
    assert identity.of_path(place) == known
