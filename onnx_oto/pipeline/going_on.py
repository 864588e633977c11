"""What a checkpoint knows of its run, and how a run goes on from one."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import PurePath
from typing import Any

import numpy as np

from onnx_oto import __version__, data
from onnx_oto.errors import DataError, UsageError
from onnx_oto.gradients import GradientSession
from onnx_oto.machine import cores, has_compiler, vectors
from onnx_oto.optim import Optimizer
from onnx_oto.pipeline import identity
from onnx_oto.pipeline.bookkeeping import FREE, OWN
from onnx_oto.pipeline.folder import LAST_GOOD, METRICS, RunFolder
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.ready import Say
from onnx_oto.runtime.sessions import runtime_version
from onnx_oto.settings import settings_of
from onnx_oto.settings.base import plain
from onnx_oto.training import Checkpoint, Position, restore
from onnx_oto.training.checkpoint import Part
from onnx_oto.training.records import cut_back


@dataclass(frozen=True)
class Stamp:
    """By what a run is recognised. settings: by field; the others: see `identity`. files: those that settings name."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def settled(self, options: TrainOptions, settled: Mapping[str, Any]) -> Stamp:
        """Return the stamp of a run whose open settings were decided."""
        return replace(self, settings=_settings(replace(options, **settled)))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {name: dict(getattr(self, name)) for name in self.__dataclass_fields__}


def stamp(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    options: TrainOptions,
    dataset: data.Dataset | None = None,
    *,
    known: Stamp | None = None,
) -> Stamp:
    """Return the stamp of a run, its settings as they are, without samples where there is no `dataset` yet.

    known: what was found before, of the same files, which are not read again. Raises StorageError.
    """
    samples = {} if dataset is None else identity.of_dataset(dataset)
    if known is not None:
        return replace(known, settings=_settings(options), data={**known.data, **samples})
    return Stamp(
        _settings(options),
        identity.of_model(path),
        {**identity.of_path(source), **samples},
        {name: facts for name, value in files_named(options).items() if (facts := identity.of_path(value))},
        _versions(),
    )


def provenance_of(
    path: str | os.PathLike[str], source: str | os.PathLike[str], stamped: Stamp
) -> dict[str, Any]:
    """Return from what a result was made and by what, as JSON values: names and digests, versions, the machine."""
    known = stamped.as_json()
    return {
        "model": {"name": PurePath(path).name, **known["model"]},
        "data": {"name": PurePath(source).name, **known["data"]},
        "files": known["files"],
        "versions": known["versions"],
        "machine": {
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
            "cores": cores(),
        },
    }


@dataclass(frozen=True, eq=False)
class Going:
    """How a run goes on.

    checkpoint: from where, None for the beginning. same_data: data whose times alone have changed are the same.
    anew: whether it goes on otherwise than it would have: from before it diverged, or at another learning rate.
    raised: settings that have to be others now, as more processes share the run.
    """

    checkpoint: Checkpoint | None = None
    same_data: bool = False
    anew: bool = False
    raised: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        """What the run took so far."""
        return 0.0 if self.checkpoint is None else self.checkpoint.progress.seconds

    @property
    def before(self) -> Stamp:
        """The stamp in the checkpoint."""
        held = {} if self.checkpoint is None else self.checkpoint.run
        return Stamp(**{name: held.get(name, {}) for name in Stamp.__dataclass_fields__})

    def require_same(self, now: Stamp) -> None:
        """Raise UsageError for another model, settings or files, and DataError for other data."""
        self.require_run(now)
        self.require_data(now.data)

    def require_run(self, now: Stamp) -> None:
        """Raise UsageError for another model, settings or files."""
        if self.checkpoint is None:
            return
        before = self.before
        self._require_settings(before.settings, now.settings)
        if dict(before.model) != dict(now.model):
            raise UsageError(
                "the model is not the one that the run began with: give that one with --model, or start a new run"
            )
        for name, facts in before.files.items():
            if difference := identity.changed(facts, now.files.get(name, {})):
                raise UsageError(
                    f"the file of --{name.replace('_', '-')} has changed since the run began ({difference}): put it "
                    "back, or start a new run"
                )

    def tell_versions(self, now: Stamp, say: Say) -> None:
        """Say what computes now in another version."""
        for name, version in self.before.versions.items():
            if now.versions.get(name) != version:
                say(
                    f"{name} was {version} and is {now.versions.get(name)} now: what follows may differ in the last "
                    "digits from what it would have been"
                )

    def _require_settings(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Raise UsageError for another setting. One that the version of the run did not have was at its default."""
        before = {**_settings(TrainOptions()), **before}
        for name in now:
            if before.get(name) == now[name] or (name == "lr" and self.anew) or name in self.raised:
                continue
            key = name.replace("_", "-")
            way = "give it as --lr" if name == "lr" else "put it back, or start a new run"
            given = "not" if now[name] is None else repr(now[name])
            began = "without it" if before.get(name) is None else f"with {before[name]!r}"
            raise UsageError(f"{key} is {given} in run.toml, and the run began {began}: {way}")

    def require_data(self, now: Mapping[str, Any]) -> None:
        """Raise DataError for data of which something else is known than there was."""
        if self.checkpoint is None:
            return
        known = dict(self.before.data), dict(now)
        if self.same_data:
            for facts in known:
                facts.pop("times", None)
        if difference := identity.changed(*known):
            way = (
                "if they are the same all the same, say so with --same-data"
                if difference == identity.WRITTEN
                else "put them back, or start a new run"
            )
            raise DataError(f"the data have changed since the run began ({difference}): {way}")

    def enter(
        self,
        folder: RunFolder,
        session: GradientSession,
        optimizer: Optimizer,
        parts: Mapping[str, Part] | None = None,
    ) -> Position:
        """Take over the folder and put the state into session, optimizer and parts; return where to go on.

        What metrics.jsonl holds of steps that will be taken again goes.
        """
        folder.go_on()
        saved = self.checkpoint
        position = Position() if saved is None else restore(saved, session, optimizer, parts)
        cut_back(folder.place(METRICS), position)
        return position

    def leave_behind(self, folder: RunFolder) -> None:
        """Forget that the run diverged, once a checkpoint holds how it goes on."""
        (folder.path / LAST_GOOD).unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class Recognition:
    """What looks at the data of a run that goes on, as soon as it can (see `ready.Recognises`).

    known: by what the run is recognised, but for its samples.
    """

    going: Going
    known: Stamp

    def opened(self, opening: data.Opening | None) -> None:
        """Raise DataError for files that have changed; None: they cannot be opened.

        The line names another number of samples, where what was opened says it.
        """
        before = self.going.before.data
        samples = {name: before[name] for name in identity.SPLITS & before.keys()}
        try:
            self.going.require_data({**self.known.data, **samples})
        except DataError:
            headers = {} if opening is None else _counts(opening)
            told = {name: {**before.get(name, {}), "samples": count} for name, count in headers.items()}
            self.going.require_data({**self.known.data, **(told or samples)})
            raise

    def fitted(self, dataset: data.Dataset) -> None:
        """Raise DataError for other samples."""
        self.going.require_data({**self.known.data, **identity.of_dataset(dataset)})


def _counts(opening: data.Opening) -> dict[str, int]:
    """Return how many samples every split has, by what is known before they are read."""
    headers = {"train": opening.train, "test": opening.test, "val": opening.val}
    return {name: header.samples for name, header in headers.items() if header is not None}


def files_named(options: TrainOptions) -> dict[str, PurePath]:
    """Return the files that settings name for a run to read, by the names of the settings."""
    return {name: value for name, value in _paths(options).items() if name not in OWN}


def _settings(options: TrainOptions) -> dict[str, Any]:
    """Return the settings that steps depend on, as JSON values."""
    apart = {*FREE, *OWN, *_paths(options)}
    return {
        each.name: plain(getattr(options, each.name))
        for each in settings_of(type(options))
        if each.about.recorded and each.name not in apart
    }


def _paths(options: TrainOptions) -> dict[str, PurePath]:
    values = {each.name: getattr(options, each.name) for each in settings_of(type(options))}
    return {name: value for name, value in values.items() if isinstance(value, PurePath)}


def _versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {
        "onnx-oto": __version__,
        "ONNX Runtime": runtime_version(),
        "numpy": np.__version__,
        "onnx": metadata.version("onnx"),
        "the processor": platform.machine(),
        "numba": metadata.version("numba") if has_compiler() else "missing",
        "the processor's vectors": vectors(),
    }
