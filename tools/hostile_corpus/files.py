"""Faults of files and names: what is missing, in the way, full, of the wrong kind, or read and written at once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from hostile_corpus import archive
from hostile_corpus.case import DATA, FILES, INSPECT, OK, PRUNE, TRAIN, Case, Trial, outputs
from hostile_corpus.data import arrays, image_model, members
from hostile_corpus.placing import carrier, write

Prepare = Callable[[Path], None]

EARLIER = b"an earlier file\n"
RUN_FILES = (
    *("run", "run/metrics.jsonl", "run/checkpoint.npz", "run/last-good.npz", "run/trained.onnx"),
    "run/.onnx-oto.json",
)
"""What a training that failed on the way may leave."""


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    yield from _colliding()
    yield from _in_the_way()
    yield from _unreadable()
    yield from _full()
    yield from _runs()
    yield from _names()


def _fault(
    name: str,
    prepare: Prepare,
    words: tuple[str, ...],
    twin_words: tuple[str, ...] = PRUNE,
    *,
    twin: Prepare | None = None,
    codes: frozenset[int] = FILES,
    writes: tuple[str, ...] | None = None,
    remains: tuple[str, ...] = (),
    limit: int | None = None,
    unprivileged: bool = False,
) -> Case:
    """Return a case; without `twin` its files are those of the hostile trial, and only the words differ."""
    may = outputs(words) if writes is None else writes
    hostile = Trial(prepare, words, codes, may, remains, limit)
    return Case("files", name, hostile, _accepted(twin or prepare, twin_words), unprivileged)


@functools.cache
def _accepted(prepare: Prepare, words: tuple[str, ...]) -> Trial:
    return Trial(prepare, words, OK, outputs(words))


def _prune(output: str = "out.onnx", *more: str, model: str = "m.onnx") -> tuple[str, ...]:
    return ("prune", model, "-o", output, *more)


# --- what a command finds ------------------------------------------------------------------------------------------
def _model(folder: Path) -> None:
    write(folder, carrier())


def _both(folder: Path) -> None:
    """Make a model, and an earlier output of each kind."""
    _model(folder)
    for name in ("out.onnx", "zeroed.onnx", "kept.json"):
        (folder / name).write_bytes(EARLIER)


def _feeds(folder: Path) -> None:
    _both(folder)
    x = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    archive.write(folder / "d.npz", [archive.Member("x.npy", archive.npy(x))])


def _zeros(folder: Path) -> None:
    """Make a model half of whose channels are zero already."""
    model = carrier()
    values = numpy_helper.to_array(model.graph.initializer[0]).copy()
    values[:, :8] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w1"))
    write(folder, model)


def _wide(folder: Path) -> None:
    """Make a model of 320 KB, and an earlier output of each kind."""
    _both(folder)
    model = carrier()
    rng = np.random.default_rng(0)
    for tensor, shape in zip(model.graph.initializer, ((4, 4096), (4096, 16)), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), tensor.name))
    write(folder, model)


def _data(folder: Path) -> None:
    image_model(folder)
    archive.write(folder / "d.npz", members())


def _then(first: Prepare, more: Callable[[Path], object]) -> Prepare:
    def prepare(folder: Path) -> None:
        first(folder)
        more(folder)

    return prepare


def _link(name: str, target: str) -> Prepare:
    return lambda folder: (folder / name).symlink_to(target)


def _hard(name: str, target: str) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).hardlink_to(folder / target)

    return prepare


def _folder(name: str) -> Prepare:
    return lambda folder: (folder / name).mkdir()


def _pipe(name: str) -> Prepare:
    return lambda folder: os.mkfifo(folder / name)


def _file(name: str, content: bytes = EARLIER) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return prepare


def _mode(name: str, mode: int) -> Prepare:
    return lambda folder: (folder / name).chmod(mode)


# --- outputs that are read, or are each other ----------------------------------------------------------------------
def _colliding() -> Iterator[Case]:
    sub = _then(_both, _folder("sub"))
    linked = _then(_both, _link("link", "m.onnx"))
    hard = _then(_both, _hard("hard", "m.onnx"))
    looped = _then(_both, _link("folder", "."))
    wholes = FILES | {0}
    """A file put in place by renaming leaves the other name of what was there alone."""
    yield _fault("output-is-input", _both, _prune("m.onnx"), writes=())
    yield _fault("output-is-input-by-dots", sub, _prune("sub/../m.onnx"), writes=())
    yield _fault("output-is-input-by-link", linked, _prune("link"), writes=())
    yield _fault("output-is-input-by-folder-link", looped, _prune("folder/m.onnx"), writes=())
    yield _fault("output-is-input-by-hard-link", hard, _prune("hard"), codes=wholes)
    yield _fault("input-is-link-to-output", linked, _prune("m.onnx", model="link"), writes=())
    zeroed = _prune("out.onnx", "--save-zeroed", "zeroed.onnx")
    kept = _prune("out.onnx", "--kept", "kept.json")
    for name, option, twin in (("zeroed", "--save-zeroed", zeroed), ("kept", "--kept", kept)):
        yield _fault(f"{name}-is-input", _both, _prune("out.onnx", option, "m.onnx"), twin)
        yield _fault(f"{name}-is-input-by-link", linked, _prune("out.onnx", option, "link"), twin)
        yield _fault(
            f"{name}-is-input-by-hard-link", hard, _prune("out.onnx", option, "hard"), twin, codes=wholes
        )
        yield _fault(f"{name}-is-output", _both, _prune("out.onnx", option, "out.onnx"), twin)
        yield _fault(f"{name}-is-output-by-dots", sub, _prune("out.onnx", option, "sub/../out.onnx"), twin)
        links = _then(_both, _link("link", "out.onnx"))
        yield _fault(f"{name}-is-output-by-link", links, _prune("out.onnx", option, "link"), twin)
    three = (*zeroed, "--kept", "kept.json")
    yield _fault("zeroed-is-kept", _both, (*zeroed, "--kept", "zeroed.onnx"), three)
    feeds = ("--inputs", "d.npz")
    yield _fault("output-is-feeds", _feeds, _prune("d.npz", *feeds), _prune("out.onnx", *feeds), writes=())
    yield _fault("kept-is-feeds", _feeds, (*_prune("out.onnx", *feeds), "--kept", "d.npz"), (*kept, *feeds))
    yield _fault(
        "zeroed-is-feeds", _feeds, (*_prune("out.onnx", *feeds), "--save-zeroed", "d.npz"), (*zeroed, *feeds)
    )
    compact = ("compact", "m.onnx", "-o")
    yield _fault("compact-output-is-input", _zeros, (*compact, "m.onnx"), (*compact, "out.onnx"), writes=())
    zeros = _then(_zeros, _link("link", "m.onnx"))
    yield _fault(
        "compact-output-is-input-by-link", zeros, (*compact, "link"), (*compact, "out.onnx"), writes=()
    )


# --- outputs that cannot be written --------------------------------------------------------------------------------
def _in_the_way() -> Iterator[Case]:
    options: dict[str, tuple[Callable[[str], tuple[str, ...]], tuple[str, ...]]] = {
        "output": (_prune, ()),
        "zeroed": (lambda name: _prune("out.onnx", "--save-zeroed", name), ("--save-zeroed", "zeroed.onnx")),
        "kept": (lambda name: _prune("out.onnx", "--kept", name), ("--kept", "kept.json")),
    }
    places: dict[str, tuple[Prepare, str]] = {
        "is-folder": (_then(_both, _folder("place")), "place"),
        "in-missing-folder": (_both, "nowhere/place"),
        "in-a-file": (_both, "m.onnx/place"),
        "is-pipe": (_then(_both, _pipe("place")), "place"),
        "is-long": (_both, "n" * 300),
        "is-very-long": (_both, "n/" * 3000 + "place"),
        "is-empty": (_both, ""),
        "is-here": (_both, "."),
        "links-in-a-circle": (_then(_both, _link("place", "place")), "place"),
        "links-to-nowhere": (_then(_both, _link("place", "nowhere/place")), "place"),
    }
    for name, (words, more) in options.items():
        for place, (prepare, path) in places.items():
            codes = FILES | {0} if place == "links-to-nowhere" else FILES  # a link may be replaced by a file
            yield _fault(f"{name}-{place}", prepare, words(path), _prune("out.onnx", *more), codes=codes)
        locked = _then(_then(_both, _folder("locked")), _mode("locked", 0o555))
        yield _fault(
            f"{name}-in-locked-folder",
            locked,
            words("locked/place"),
            _prune("out.onnx", *more),
            unprivileged=True,
        )


# --- inputs that cannot be read ------------------------------------------------------------------------------------
def _unreadable() -> Iterator[Case]:
    kinds: dict[str, Prepare] = {
        "missing": lambda folder: None,
        "is-folder": _folder("place"),
        "is-pipe": _pipe("place"),
        "links-in-a-circle": _link("place", "place"),
        "links-to-nowhere": _link("place", "nowhere"),
        "links-to-folder": _link("place", "."),
    }
    commands: dict[str, tuple[Prepare, tuple[str, ...], tuple[str, ...]]] = {
        "inspected": (_both, ("inspect", "place"), INSPECT),
        "pruned": (_both, _prune(model="place"), PRUNE),
        "verified": (_both, ("verify", "m.onnx", "place"), ("verify", "m.onnx", "m.onnx")),
        "feeds": (_feeds, (*PRUNE, "--inputs", "place"), (*PRUNE, "--inputs", "d.npz")),
        "data": (_data, tuple("place" if word == "d.npz" else word for word in TRAIN), TRAIN),
    }
    for command, (first, words, twin) in commands.items():
        for kind, more in kinds.items():
            yield _fault(f"{command}-{kind}", _then(first, more), words, twin, twin=first)
        secret = _then(_then(first, _file("place")), _mode("place", 0))
        yield _fault(f"{command}-is-secret", secret, words, twin, twin=first, unprivileged=True)


# --- a disk that is full -------------------------------------------------------------------------------------------
def _full() -> Iterator[Case]:
    full = frozenset({8})
    zeroed, kept = ("--save-zeroed", "zeroed.onnx"), ("--kept", "kept.json")
    for name, more, limit in (
        ("output", (), 16_384),
        ("zeroed", zeroed, 230_000),
        ("output-of-three", (*zeroed, *kept), 16_384),
        ("zeroed-of-three", (*zeroed, *kept), 230_000),
    ):
        words = _prune("out.onnx", *more)
        yield _fault(f"full-{name}", _wide, words, words, codes=full, limit=limit)
    for limit in (1024, 4096, 8192):
        yield _fault(f"full-run-{limit}", _data, TRAIN, TRAIN, codes=full, remains=RUN_FILES, limit=limit)


# --- folders of a run ----------------------------------------------------------------------------------------------
def _runs() -> Iterator[Case]:
    over = (*TRAIN, "--overwrite")

    def here(model: str, data: str = "d.npz", run: str = ".") -> tuple[str, ...]:
        return ("train", model, "--data", data, "--run", run, *TRAIN[6:])

    def renamed(old: str, new: str) -> Prepare:
        return _then(_data, lambda folder: (folder / old).rename(folder / new))

    for name in ("trained.onnx", "compact.onnx", "result.json"):
        for more in ((), ("--overwrite",)):
            title = f"run-holds-model-as-{name}{'-overwrite' if more else ''}"
            prepare = renamed("m.onnx", name)
            yield _fault(title, prepare, (*here(name), *more), here(name, run="run"), writes=())
    for name in ("checkpoint.npz", "last-good.npz", "metrics.jsonl"):
        title, prepare = f"run-holds-data-as-{name}", renamed("d.npz", name)
        words, twin = here("m.onnx", name), here("m.onnx", name, "run")
        yield _fault(title, prepare, (*words, "--overwrite"), twin, writes=())
    earlier = _then(_data, _file("run/metrics.jsonl", b'{"kind": "epoch"}\n'))
    for name in ("trained.onnx", "compact.onnx", "result.json", "checkpoint.npz"):
        earlier = _then(earlier, _file(f"run/{name}"))
    yield _fault("run-before", earlier, TRAIN, over)
    for name in ("result.json", "trained.onnx", "compact.onnx", "checkpoint.npz", "last-good.npz"):
        yield _fault(f"run-holds-own-{name}", _then(_data, _file(f"run/{name}")), TRAIN, TRAIN, twin=_data)
    yield _fault("run-is-file", _then(_data, _file("run")), TRAIN, TRAIN, twin=_data)
    yield _fault("run-is-model", _data, here("m.onnx", run="m.onnx"), here("m.onnx", run="run"), writes=())
    yield _fault("run-in-a-file", _data, here("m.onnx", run="m.onnx/run"), here("m.onnx", run="run"))
    yield _fault("run-is-pipe", _then(_data, _pipe("run")), TRAIN, TRAIN, twin=_data)
    yield _fault("run-links-in-a-circle", _then(_data, _link("run", "run")), TRAIN, TRAIN, twin=_data)
    yield _fault("run-is-long", _data, here("m.onnx", run="n" * 300), TRAIN)
    locked = _then(_then(_data, _folder("run")), _mode("run", 0o555))
    yield _fault("run-is-locked", locked, TRAIN, TRAIN, twin=_data, unprivileged=True)
    for name in ("trained.onnx", "metrics.jsonl", "result.json"):
        inside = _then(
            _then(_data, _folder("run")), lambda folder, name=name: (folder / "run" / name).mkdir()
        )
        yield _fault(f"run-{name}-is-folder", inside, over, over, twin=_data)
        linked = _then(_then(_data, _folder("run")), _link(f"run/{name}", "../m.onnx"))
        yield _fault(f"run-{name}-links-to-model", linked, over, over, twin=_data, codes=FILES | {0})
    bad = _then(
        earlier, lambda folder: np.savez(folder / "d.npz", **{**arrays(), "y_train": np.full(96, 99)})
    )
    yield _fault("run-before-is-whole-after-bad-data", bad, over, over, twin=earlier, codes=DATA)


# --- names ---------------------------------------------------------------------------------------------------------
def _names() -> Iterator[Case]:
    names = {
        "escape": "\x1b[31m\x1b[2J",
        "newline": "a\nerror: hostile\n",
        "return": "fine\rerror: hostile",
        "bell": "\a\b",
        "no-utf8": "\udcff\udc9b31m",
        "right-to-left": "\u202ehostile",
        "markup": "[red]m[b]",
        "format": "%s {0}",
        "quotes": "'\"`",
    }
    for title, name in names.items():
        own = _then(_model, lambda folder, name=name: (folder / "m.onnx").rename(folder / f"{name}.onnx"))
        junk = _file(f"{name}.onnx", b"no model")
        yield _fault(f"name-{title}-missing", _model, ("inspect", f"{name}.onnx"), INSPECT)
        yield _fault(
            f"name-{title}-no-model",
            _then(_model, junk),
            ("inspect", f"{name}.onnx"),
            INSPECT,
            codes=frozenset({3}),
        )
        yield _fault(
            f"name-{title}-pruned", own, _prune(model=f"{name}.onnx"), twin=_model, codes=FILES | {0}
        )
        yield _fault(f"name-{title}-written", _model, _prune(f"{name}.onnx"), codes=FILES | {0})
