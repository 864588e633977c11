"""A valid model with a byte changed, or cut off: refused, or whatever the bytes now mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hostile_corpus.case import ANY, INVALID, OK, PRUNE, Build, Case, Trial, outputs, pair
from hostile_corpus.placing import carrier, write

MODELS = ("flat", "image", "sequence")


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield `count` flips of a random bit or byte and `count` random truncations, and a few fixed ones."""
    rng = np.random.default_rng(seed)
    whole = {name: Trial(_written(name), PRUNE, OK, outputs(PRUNE)) for name in MODELS}
    sizes = {name: len(carrier(name).SerializeToString()) for name in MODELS}
    for number in range(count):
        name = MODELS[number % len(MODELS)]
        at, byte = int(rng.integers(sizes[name])), int(rng.integers(256))
        yield pair(
            "damage", f"flip-{number}-{name}-{at}-{byte}", _flipped(name, at, byte), whole[name], PRUNE, ANY
        )
    for number in range(count):
        name = MODELS[number % len(MODELS)]
        at = int(rng.integers(1, sizes[name]))
        yield pair("damage", f"cut-{number}-{name}-{at}", _cut(name, at), whole[name], PRUNE, ANY)
    for title, content in _FOREIGN.items():
        foreign = _bytes(content)
        yield pair("damage", f"foreign-{title}", foreign, whole["flat"], PRUNE, INVALID)


def _written(name: str) -> Build:
    return lambda folder: write(folder, carrier(name))


def _flipped(name: str, at: int, byte: int) -> Build:
    """Return a builder that sets a byte, or turns it round where it is that already."""

    def build(folder: Path) -> None:
        data = bytearray(carrier(name).SerializeToString())
        data[at] = byte if data[at] != byte else byte ^ 255
        write(folder, bytes(data))

    return build


def _cut(name: str, at: int) -> Build:
    return lambda folder: write(folder, carrier(name).SerializeToString()[:at])


def _bytes(content: bytes) -> Build:
    return lambda folder: write(folder, content)


_FOREIGN = {
    "empty": b"",
    "one-byte": b"\x08",
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "text": b"not a model\n" * 99,
    "zip": b"PK\3\4" + bytes(200),
    "pickle": b"cos\nsystem\n(S'touch hostile'\ntR.",
    "length-of-2-to-the-63": b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    "groups": b"\x0b" * 100_000,
    "noise": np.random.default_rng(0).bytes(4096),
}
