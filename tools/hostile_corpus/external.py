"""Weights outside the model file: places, ranges and kinds of files that must not be read, or cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from onnx import TensorProto

from hostile_corpus.case import ANY, FILES, INSPECT, PRUNE, Build, Case, pair
from hostile_corpus.placing import carrier, write

Prepare = Callable[[Path], None]

SIZE = 4 * 16 * 4
"""Bytes of w1."""
REFUSED = frozenset({3, 4, 8})
SECRET = "../outside/secret.bin"


def cases() -> Iterator[Case]:
    """Yield all cases of this module; a model whose weights are inspected only is judged all the same."""
    twin = stored()
    for name, hostile in _CASES.items():
        yield pair("external", name, hostile, twin, PRUNE, REFUSED | {0} if name in _ODD else REFUSED)
    for name in ("escaping", "absolute", "link-out", "offset-beyond", "fifo"):
        yield pair("external", f"{name}-inspected", _CASES[name], twin, INSPECT, REFUSED)
    for name, written in (
        ("exact", "w.bin"),
        ("by-link", "link"),
        ("by-hard-link", "hard"),
        ("by-dots", "./w.bin"),
    ):
        words = ("prune", "m.onnx", "-o", written)
        yield pair(
            "external", f"output-is-data-{name}", _with_links, pair("", "", twin, twin).twin, words,
            FILES | {0} if name == "by-hard-link" else FILES,
        )  # fmt: skip
    words = ("prune", "m.onnx", "-o", "out.onnx", "--save-zeroed", "w.bin")
    yield pair("external", "zeroed-is-data", _with_links, pair("", "", twin, twin).twin, words, FILES)
    words = ("prune", "m.onnx", "-o", "out.onnx", "--kept", "w.bin")
    yield pair("external", "kept-is-data", _with_links, pair("", "", twin, twin).twin, words, FILES)
    yield pair("external", "checksum-nonsense", stored(checksum="no checksum\x1b"), twin, PRUNE, ANY | {8})


def stored(
    location: str = "w.bin",
    offset: str | None = "0",
    length: str | None = str(SIZE),
    checksum: str | None = None,
    prepare: Prepare | None = None,
    size: int = SIZE,
) -> Build:
    """Return a builder: w1 lies outside, its payload in w.bin, unless `prepare` puts something else there."""

    def build(folder: Path) -> None:
        model = carrier()
        tensor = model.graph.initializer[0]
        payload = tensor.raw_data
        bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=1)
        entries = {"location": location, "offset": offset, "length": length, "checksum": checksum}
        for key, value in entries.items():
            if value is not None:
                bare.external_data.add(key=key, value=value)
        tensor.CopyFrom(bare)
        write(folder, model)
        if prepare is None:
            (folder / "w.bin").write_bytes(payload[:size] + bytes(max(size - SIZE, 0)))
        else:
            _secret(folder, payload)
            prepare(folder)

    return build


def _with_links(folder: Path) -> None:
    stored()(folder)
    (folder / "link").symlink_to("w.bin")
    (folder / "hard").hardlink_to(folder / "w.bin")


def _secret(folder: Path, payload: bytes) -> None:
    (folder / SECRET).write_bytes(payload)


def _link(target: str) -> Prepare:
    return lambda folder: (folder / "w.bin").symlink_to(target)


def _loop(folder: Path) -> None:
    (folder / "w.bin").symlink_to("w2.bin")
    (folder / "w2.bin").symlink_to("w.bin")


def _link_folder(folder: Path) -> None:
    (folder / "sub").symlink_to("../outside")


def _hole(size: int) -> Prepare:
    """Return a function that makes a file of that size which takes no room."""

    def prepare(folder: Path) -> None:
        with open(folder / "w.bin", "wb") as file:
            file.truncate(size)

    return prepare


def _huge(folder: Path) -> None:
    """Make a model whose weight of 16 GB lies in a hole of that size."""
    model = carrier()
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(TensorProto(name="w1", data_type=1, dims=[4, 2**30], data_location=1))
    tensor.external_data.add(key="location", value="w.bin")
    write(folder, model)
    _hole(2**34)(folder)


def _many_times(folder: Path) -> None:
    """Make a model with 64 weights of 256 MB that are the same hole."""
    model = carrier()
    for number in range(64):
        tensor = TensorProto(name=f"big{number}", data_type=1, dims=[2**26], data_location=1)
        tensor.external_data.add(key="location", value="hole.bin")
        model.graph.initializer.append(tensor)
    write(folder, model)
    with open(folder / "hole.bin", "wb") as file:
        file.truncate(2**28)


_ODD = ("location-deep", "location-is-model")
"""Strange, but inside the folder: reading them is right too."""


def _nothing(folder: Path) -> None:
    """Leave it away."""


_CASES: dict[str, Build] = {
    "offset-underscore": stored(offset="1_6", size=2 * SIZE),
    "offset-space": stored(offset=" 0"),
    "offset-plus": stored(offset="+0"),
    "offset-other-digits": stored(offset="\u0661", size=2 * SIZE),
    "offset-hex": stored(offset="0x10", size=2 * SIZE),
    "offset-fraction": stored(offset="0.0"),
    "offset-empty": stored(offset=""),
    "offset-negative": stored(offset="-1"),
    "offset-beyond": stored(offset="4096"),
    "offset-most": stored(offset=str(2**63 - 1)),
    "offset-overflow": stored(offset=str(2**64)),
    "offset-long": stored(offset="9" * 10_000),
    "length-short": stored(length=str(SIZE - 4)),
    "length-long": stored(length=str(SIZE + 4), size=2 * SIZE),
    "length-negative": stored(length=f"-{SIZE}"),
    "length-underscore": stored(length="2_56"),
    "length-most": stored(length=str(2**63 - 1)),
    "checksum-wrong": stored(checksum="0" * 40),
    "file-short": stored(size=SIZE - 1),
    "file-empty": stored(size=0),
    "file-missing": stored(prepare=_nothing),
    "location-empty": stored(location=""),
    "location-nul": stored(location="w.bin\0.png"),
    "location-escape": stored(location="\x1b[31mw.bin"),
    "location-long": stored(location="w" * 10_000),
    "location-deep": stored(location="./" * 5000 + "w.bin"),
    "location-url": stored(location="http://localhost/w.bin"),
    "location-memory": stored(location="*/_ORT_MEM_ADDR_/*"),
    "location-is-model": stored(location="m.onnx", length=str(SIZE)),
    "escaping": stored(location=SECRET, prepare=_nothing),
    "escaping-backslash": stored(location=SECRET.replace("/", "\\"), prepare=_nothing),
    "escaping-twice": stored(location="sub/../../outside/secret.bin", prepare=lambda f: (f / "sub").mkdir()),
    "absolute": stored(location="/etc/passwd"),
    "absolute-device": stored(location="/dev/zero"),
    "absolute-windows": stored(location="C:\\w.bin"),
    "link-out": stored(prepare=_link(SECRET)),
    "link-absolute": stored(prepare=_link("/etc/passwd")),
    "link-device": stored(prepare=_link("/dev/zero")),
    "link-loop": stored(prepare=_loop),
    "link-dangling": stored(prepare=_link("nowhere")),
    "link-folder": stored(location="sub/secret.bin", prepare=_link_folder),
    "fifo": stored(prepare=lambda folder: os.mkfifo(folder / "w.bin")),
    "folder": stored(prepare=lambda folder: (folder / "w.bin").mkdir()),
    "folder-itself": stored(location="."),
    "16gb-hole": _huge,
    "64-times-256mb": _many_times,
}
