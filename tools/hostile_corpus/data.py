"""Data files for `train --data` and for `--inputs`: bombs, lies, objects, damage, and values that do not fit."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import parser

from hostile_corpus.archive import Member, bomb, head, npy, write
from hostile_corpus.case import DATA, OK, PRUNE, TRAIN, Build, Case, Trial, outputs
from hostile_corpus.placing import OPSET, carrier
from hostile_corpus.placing import write as write_model

GB = 2**30
CLASSES = 3
Arrays = dict[str, Any]


def arrays() -> Arrays:
    """Return a data set that fits `image_model`: bright spots, and which third of the image they are in."""
    result: Arrays = {}
    for split, count in (("train", 96), ("test", 48)):
        rng = np.random.default_rng(count)
        x = rng.integers(0, 60, (count, 8, 8)).astype(np.uint8)
        y = np.arange(count) % CLASSES
        for image, label in zip(x, y, strict=True):
            image[label * 3 : label * 3 + 2, 2:6] = 255
        result[f"x_{split}"], result[f"y_{split}"] = x, y
    return result


def image_model(folder: Path) -> None:
    """Write a small classifier of images of 8 x 8."""
    model = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": {OPSET}]>
        g (float[N, 1, 8, 8] image) => (float[N, 3] logits)
        {{ a = Conv <pads = [1, 1, 1, 1]> (image, w1) b = Relu (a) c = Conv <strides = [2, 2]> (b, w2) d = Relu (c)
           e = GlobalAveragePool (d) f = Flatten (e) logits = Gemm <transB = 1> (f, w3, b3) }}"""
    )
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (8, 1, 3, 3), "w2": (12, 8, 3, 3), "w3": (3, 12), "b3": (3,)}.items():
        array = rng.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))
        tensor = model.graph.initializer.add(name=name, data_type=1, dims=shape)
        tensor.raw_data = array.astype(np.float32).tobytes()
    write_model(folder, model)


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    training = Trial(_plain, TRAIN, OK, outputs(TRAIN))
    for name, build in {**_BY_HAND, **_FILES}.items():
        codes = DATA | {0} if name in _HARMLESS or name.startswith("flip") else DATA
        yield Case("data", name, Trial(build, TRAIN, codes, outputs(TRAIN)), training)
    for name, changes in _VALUES.items():
        yield Case("values", name, Trial(_changed(changes), TRAIN, DATA, outputs(TRAIN)), training)
    words = (*PRUNE, "--inputs", "d.npz")
    pruning = Trial(_feed(_FEED), words, OK, outputs(words))
    verifying = ("verify", "m.onnx", "m.onnx", "--inputs", "d.npz")
    verified = Trial(_feed(_FEED), verifying)
    for name, content in _FEEDS.items():
        build, codes = _feed(content), DATA | _FEEDS_ALSO.get(name, frozenset())
        yield Case("feeds", f"{name}-prune", Trial(build, words, codes, outputs(words)), pruning)
        yield Case("feeds", f"{name}-verify", Trial(build, verifying, codes), verified)


def members(**changes: Member | None) -> list[Member]:
    """Return the data set as members of an archive; changes replace some by key, None leaves one away."""
    plain = {key: Member(f"{key}.npy", npy(array)) for key, array in arrays().items()}
    return [member for member in {**plain, **changes}.values() if member is not None]


def _plain(folder: Path) -> None:
    image_model(folder)
    write(folder / "d.npz", members())


def _hand(**changes: Member | None) -> Build:
    """Return a builder: the model, and the data set with members replaced."""

    def build(folder: Path) -> None:
        image_model(folder)
        write(folder / "d.npz", members(**changes))

    return build


def _x(header: str, data: bytes = bytes(96 * 64), version: tuple[int, int] = (1, 0)) -> Build:
    """Return a builder: x_train has this header and these bytes."""
    return _hand(x_train=Member("x_train.npy", npy(header=header, data=data, version=version)))


def _bomb(key: str, size: int, descr: str = "|u1") -> Build:
    shape = f"({size // 64 // np.dtype(descr).itemsize}, 8, 8)"
    return lambda folder: _hand(**{key: bomb(f"{key}.npy", head(descr, shape), size)})(folder)


class _Touch:
    """Pickles to a call that makes a file in the folder of the command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("unpickled", "w")


def _objects(header: str) -> Build:
    return _x(header, pickle.dumps(np.array([_Touch()] * 96, object)))


def _twice(folder: Path) -> None:
    image_model(folder)
    write(folder / "d.npz", [*members(), Member("x_train.npy", npy(np.full((96, 8, 8), 7, np.uint8)))])


def _bytes(content: bytes) -> Build:
    def build(folder: Path) -> None:
        image_model(folder)
        (folder / "d.npz").write_bytes(content)

    return build


def _cut(share: float) -> Build:
    def build(folder: Path) -> None:
        _plain(folder)
        data = (folder / "d.npz").read_bytes()
        (folder / "d.npz").write_bytes(data[: int(len(data) * share)])

    return build


def _flipped(at: float) -> Build:
    def build(folder: Path) -> None:
        _plain(folder)
        data = bytearray((folder / "d.npz").read_bytes())
        data[int(len(data) * at)] ^= 255
        (folder / "d.npz").write_bytes(data)

    return build


def _packed(method: int, stored: bytes, **claims: Any) -> Build:
    return _hand(x_train=Member("x_train.npy", stored, method=method, **claims))


_WHOLE = npy(arrays()["x_train"])
_BY_HAND: dict[str, Build] = {
    "bomb-3gb": _bomb("x_train", 3 * GB),
    "bomb-3gb-floats": _bomb("x_train", 3 * GB, "<f8"),
    "bomb-unknown-3gb": _bomb("other", 3 * GB),
    "bomb-unknown-member": _hand(other=bomb("readme.txt", head(), 3 * GB)),
    "bomb-labels": _bomb("y_train", 3 * GB, "<i8"),
    "bomb-says-little": _hand(x_train=bomb("x_train.npy", head(), 3 * GB)),
    "bombs-16-times": _hand(**{f"x{i}": bomb(f"x{i}.npy", head("|u1", f"({GB // 64}, 8, 8)"), GB) for i in range(16)}),
    "header-huge-shape": _x(head(shape="(1000000000000, 8, 8)")),
    "header-overflow": _x(head(shape="(4294967296, 4294967296, 8)")),
    "header-negative": _x(head(shape="(-96, 8, 8)")),
    "header-minus-1": _x(head(shape="(-1, 8, 8)")),
    "header-bool-shape": _x(head(shape="(True, 784)")),
    "header-float-shape": _x(head(shape="(96.0, 8, 8)")),
    "header-text-shape": _x(head(shape="('96', 8, 8)")),
    "header-no-shape": _x("{'descr': '|u1', 'fortran_order': False}"),
    "header-more-keys": _x("{'descr': '|u1', 'fortran_order': False, 'shape': (96, 8, 8), 'more': 1}"),
    "header-order-text": _x(head(order="'x'")),
    "header-call": _x("__import__('os').system('touch unpickled')"),
    "header-deep": _x("(" * 5000 + ")" * 5000),
    "header-expression": _x(head(shape="(9**9**9, 8, 8)")),
    "header-rank-1000": _x(head(shape=str((96,) + (1,) * 1000))),
    "header-empty": _x(""),
    "header-10mb": _x(head() + " " * 10_000_000, version=(2, 0)),
    "header-escape": _x(head(descr="\\x1b[31m")),
    "version-9": _x(head(), version=(9, 0)),
    "version-0": _x(head(), version=(0, 0)),
    "dtype-unknown": _x(head(descr="hostile")),
    "dtype-void": _x(head(descr="|V1000000000")),
    "dtype-text-huge": _x(head(descr="<U500000000")),
    "dtype-date": _x(head(descr="<M8[s]"), bytes(96 * 64 * 8)),
    "dtype-zero": _x(head(descr="|V0"), b""),
    "bytes-short": _x(head(), bytes(96 * 64 - 1)),
    "bytes-none": _x(head(), b""),
    "no-magic": _hand(x_train=Member("x_train.npy", b"hostile" * 1000)),
    "member-empty": _hand(x_train=Member("x_train.npy", b"")),
    "objects": _objects(head(descr="|O", shape="(96,)")),
    "objects-fields": _objects("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (96,), }"),
    "pickle-alone": _bytes(pickle.dumps(_Touch())),
    "pickle-member": _hand(x_train=Member("x_train.npy", pickle.dumps(_Touch()))),
    "pickle-extra": _hand(extra=Member("extra.pkl", pickle.dumps(_Touch()))),
    "member-twice": _twice,
    "encrypted": _packed(0, _WHOLE, flags=1),
    "method-unknown": _packed(99, _WHOLE),
    "method-lies": _packed(zipfile.ZIP_DEFLATED, _WHOLE),
    "lzma-lies": _packed(zipfile.ZIP_LZMA, _WHOLE),
    "bzip2-lies": _packed(zipfile.ZIP_BZIP2, _WHOLE),
    "crc-wrong": _packed(0, _WHOLE, crc=1),
    "size-says-more": _packed(0, _WHOLE, size=10 * len(_WHOLE)),
    "name-escaping": _hand(other=Member("../../outside/hostile.npy", npy(np.ones(3)))),
    "name-absolute": _hand(other=Member("/etc/hostile.npy", npy(np.ones(3)))),
    "name-escape": _hand(other=Member("\x1b[31mx\x07.npy", npy(np.ones(3)))),
    "name-newline": _hand(other=Member("x\nerror: hostile.npy", npy(np.ones(3)))),
    "name-long": _hand(other=Member("n" * 60_000, npy(np.ones(3)))),
    "members-10000": _hand(**{f"x{i}": Member(f"x{i}.npy", npy(np.ones(1))) for i in range(10_000)}),
    "labels-missing": _hand(y_train=None),
    "test-missing": _hand(x_test=None),
    "nothing-left": _hand(**dict.fromkeys(arrays())),
}  # fmt: skip
_HARMLESS = ("bomb-says-little", "size-says-more")
"""The arrays themselves are whole: what lies behind them need not be read."""
_FILES: dict[str, Build] = {
    "empty": _bytes(b""),
    "text": _bytes(b"x_train, y_train\n" * 50),
    "npy": _bytes(_WHOLE),
    "no-archive": _bytes(b"PK\5\6" + bytes(17)),
    **{f"cut-at-{share:g}": _cut(share) for share in (0.05, 0.3, 0.6, 0.9, 0.99)},
    **{f"flip-at-{at:g}": _flipped(at) for at in (0.001, 0.05, 0.2, 0.4, 0.6, 0.97)},
}
_NAN = np.where(np.arange(96 * 64).reshape(96, 8, 8) == 99, np.nan, 0.5).astype(np.float32)
_VALUES: dict[str, Arrays] = {
    "labels-nan": {"y_train": np.full(96, np.nan, np.float32), "y_test": np.zeros(48, np.float32)},
    "labels-too-large": {"y_train": np.full(96, CLASSES)},
    "label-most": {"y_train": np.r_[np.zeros(95, np.int64), 2**63 - 1]},
    "labels-negative": {"y_train": np.r_[np.zeros(95, np.int64), -1]},
    "test-label-too-large": {"y_test": np.full(48, CLASSES)},
    "labels-floats": {"y_train": np.full(96, 0.5), "y_test": np.full(48, 0.5)},
    "labels-complex": {"y_train": np.zeros(96, complex), "y_test": np.zeros(48, complex)},
    "labels-text": {"y_train": np.full(96, "a"), "y_test": np.full(48, "a")},
    "labels-one-hot": {"y_train": np.eye(3)[np.arange(96) % 3], "y_test": np.eye(3)[np.arange(48) % 3]},
    "labels-fewer": {"y_train": np.zeros(95, np.int64)},
    "labels-rank-0": {"y_train": np.int64(1)},
    "labels-none": {"y_train": np.zeros(0, np.int64)},
    "images-nan": {"x_train": _NAN, "x_test": _NAN[:48]},
    "images-infinite": {"x_train": np.full((96, 8, 8), np.inf, np.float32), "x_test": np.ones((48, 8, 8), np.float32)},
    "images-too-large": {"x_train": np.full((96, 8, 8), 1e300), "x_test": np.ones((48, 8, 8))},
    "images-complex": {"x_train": np.zeros((96, 8, 8), complex), "x_test": np.zeros((48, 8, 8), complex)},
    "images-text": {"x_train": np.full((96, 8, 8), "a"), "x_test": np.full((48, 8, 8), "a")},
    "images-dates": {"x_train": np.zeros((96, 8, 8), "M8[s]"), "x_test": np.zeros((48, 8, 8), "M8[s]")},
    "images-other-size": {"x_train": np.zeros((96, 9, 9), np.uint8), "x_test": np.zeros((48, 9, 9), np.uint8)},
    "images-sizes-differ": {"x_test": np.zeros((48, 9, 9), np.uint8)},
    "images-types-differ": {"x_test": np.zeros((48, 8, 8), np.float32)},
    "images-none": {"x_train": np.zeros((0, 8, 8), np.uint8), "y_train": np.zeros(0, np.int64)},
    "images-without-pixels": {"x_train": np.zeros((96, 8, 0), np.uint8), "x_test": np.zeros((48, 8, 0), np.uint8)},
    "images-rank-0": {"x_train": np.uint8(1)},
    "images-rank-9": {f"x_{s}": np.zeros((n, *[3] * 6, 8, 8), np.uint8) for s, n in (("train", 96), ("test", 48))},
    "images-records": {"x_train": np.zeros(96, [("a", "u1", (8, 8))]), "x_test": np.zeros(48, [("a", "u1", (8, 8))])},
    "unknown-array": {"other": np.zeros(3)},
    "unknown-input": {"x_train__other": np.zeros((96, 8, 8), np.uint8)},
}  # fmt: skip


def _changed(changes: Arrays) -> Build:
    def build(folder: Path) -> None:
        image_model(folder)
        np.savez(folder / "d.npz", **{**arrays(), **changes})

    return build


_FEED = [Member("x.npy", npy(np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)))]
_FEEDS: dict[str, list[Member] | bytes] = {
    "bomb": [bomb("x.npy", head("<f4", f"({3 * GB // 16}, 4)"), 3 * GB)],
    "bomb-unknown": [*_FEED, bomb("other.npy", head("<f4", f"({3 * GB // 16}, 4)"), 3 * GB)],
    "shape-huge": [Member("x.npy", npy(header=head("<f4", "(1000000000000, 4)"), data=bytes(64)))],
    "shape-negative": [Member("x.npy", npy(header=head("<f4", "(-4, 4)"), data=bytes(64)))],
    "shape-bool": [Member("x.npy", npy(header=head("<f4", "(True, 4)"), data=bytes(64)))],
    "objects": [Member("x.npy", npy(header=head("|O", "(4, 4)"), data=pickle.dumps(np.array([_Touch()] * 16))))],
    "twice": [*_FEED, *_FEED],
    "wrong-type": [Member("x.npy", npy(np.full((4, 4), "a")))],
    "wrong-shape": [Member("x.npy", npy(np.zeros((4, 5), np.float32)))],
    "wrong-rank": [Member("x.npy", npy(np.float32(1)))],
    "no-samples": [Member("x.npy", npy(np.zeros((0, 4), np.float32)))],
    "nan": [Member("x.npy", npy(np.full((4, 4), np.nan, np.float32)))],
    "infinite": [Member("x.npy", npy(np.full((4, 4), np.inf, np.float32)))],
    "other-name": [Member("hostile.npy", npy(np.zeros((4, 4), np.float32)))],
    "name-escaping": [*_FEED, Member("../../outside/hostile.npy", npy(np.ones(3)))],
    "nothing": [],
    "no-archive": b"hostile" * 100,
    "empty": b"",
}  # fmt: skip


_NOTHING_PROVED = frozenset({4})
_FEEDS_ALSO = {
    "no-samples": _NOTHING_PROVED,
    "nan": _NOTHING_PROVED,
    "infinite": _NOTHING_PROVED,
    "bomb-unknown": OK,  # an array that no input asks for need not be read
    "name-escaping": OK,
}


def _feed(content: list[Member] | bytes) -> Build:
    """Return a builder: the carrier, and a file of inputs for it."""

    def build(folder: Path) -> None:
        write_model(folder, carrier())
        if isinstance(content, bytes):
            (folder / "d.npz").write_bytes(content)
        else:
            write(folder / "d.npz", content)

    return build
