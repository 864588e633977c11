"""What is known of a run, read from its folder, whatever is there of it; and of two models."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from onnx_oto import __version__
from onnx_oto.errors import OtoError, StorageError, UsageError
from onnx_oto.pipeline import identity
from onnx_oto.pipeline.demo import embedded
from onnx_oto.pipeline.folder import (
    BEFORE,
    CHECKPOINT,
    COMPACT,
    LAST_GOOD,
    MANIFEST,
    METRICS,
    RESULT,
    SETTINGS,
    TABLE,
    TRAINED,
    read_result,
)
from onnx_oto.pipeline.opening import open_model
from onnx_oto.reporting.document import Json, Report, asked_of, figure_of, latency_of, metrics_of
from onnx_oto.reporting.layers import Bar, Figure, Layer, Looked, bars, layers, times_of
from onnx_oto.reporting.layout import SECONDS
from onnx_oto.reporting.metrics import Logged, read_metrics
from onnx_oto.reporting.picture import Picture, colours, draw
from onnx_oto.reporting.plotting import Level, charts
from onnx_oto.settings.files import read_tables
from onnx_oto.training.checkpoint import read_run
from onnx_oto.zigs.cost import count_macs

Path_ = str | os.PathLike[str]
_MOST_BYTES = 1 << 26
"""Beyond it a file of results is none of ours."""


@dataclass(frozen=True)
class Models:
    """What two models tell: of a run in half, the full one alone. notes: what could not be looked at, and why."""

    looked: Looked | None = None
    layers: tuple[Layer, ...] = ()
    bars: tuple[Bar, ...] = ()
    picture: Picture | None = None
    colours: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def of_run(run: Path_, table: Path_ | None = None, seconds: float = SECONDS) -> Report:
    """Return the report on the run in a folder. table: of latencies, in place of that in the folder.

    seconds: what drawing may take. Raises UsageError for what is no folder of a run, StorageError where it cannot be
    read. What is damaged or missing in it is said in the report.
    """
    path = Path(run)
    if not path.is_dir():
        raise UsageError(f"'{run}' is no folder of a run: give one, or two models, FULL COMPACT")
    if not any((path / name).exists() for name in (RESULT, METRICS, SETTINGS, MANIFEST)):
        raise UsageError(f"'{run}' holds no run: give the folder that was --run, or two models, FULL COMPACT")
    notes: list[str] = []
    result = _result(path, notes)
    logged = _logged(path / METRICS, notes)
    verb, settings, recorded = _settings(path / SETTINGS, notes)
    provenance = result.get("provenance") or _provenance(path)
    is_half = "params" not in result
    if not is_half and not (path / COMPACT).exists():
        notes.append(f"there is no {COMPACT} any more: what its layers have is left out")
    with _full(path, verb, settings) as full:
        models = look(
            full,
            path / COMPACT if (path / COMPACT).exists() and not is_half else None,
            read_object(Path(table), notes) if table is not None else read_object(path / TABLE, notes),
            result.get("dimensions") or (),
            _sizes(result),
            seconds,
        )
    lanes = result.get("lanes") or {}
    prunable = lanes.get("prunable") or sum(bar.lanes.before or 0 for bar in models.bars if not bar.frozen)
    params, macs, size = (figure_of(result, name) for name in ("params", "macs", "bytes"))
    if is_half and models.looked is not None:
        params = Figure(models.looked.full.params, None)
        macs = Figure(count_macs(models.looked.full, models.looked.sizes).count, None)
    return Report(
        kind="half" if is_half else "run",
        title=_title(provenance, settings, verb, path),
        state=_state(path, result, logged, settings, is_half),
        params=params,
        macs=macs,
        bytes=size,
        macs_at=_sizes(result) or (models.looked.sizes if models.looked is not None else {}),
        lanes=Figure(
            prunable or None, prunable - lanes["removed"] if prunable and "removed" in lanes else None
        ),
        metrics=metrics_of(result),
        latency=latency_of(result.get("latency_ms")),
        int8=result["int8"] if isinstance(result.get("int8"), Mapping) else None,
        verification=result.get("verify"),
        asked=asked_of(result),
        warnings=tuple(map(str, result.get("warnings") or ())),
        notes=(*notes, *models.notes),
        way_on=_way_on(path, settings) if is_half else (),
        charts=charts(logged, prunable or None, _levels(result, logged), _epochs(settings, result)),
        epochs=logged.epochs,
        bars=models.bars,
        layers=models.layers,
        picture=models.picture,
        colours=models.colours,
        settings=result.get("options") or settings,
        provenance=provenance,
        digests=_digests(path, (TRAINED, COMPACT)),
        seconds=result.get("seconds"),
        when=_when(path / (METRICS if is_half else RESULT)),
        repeat=_repeat(path, verb, recorded),
        recorded=recorded,
        version=__version__,
    )


def look(
    full: Path_ | None,
    compact: Path_ | None,
    table: Json,
    stored: Any,
    sizes: Mapping[str, int],
    seconds: float,
) -> Models:
    """Return what the files of models tell; what cannot be read is a note. sizes: open ones, where they are known."""
    if full is None:
        return Models(notes=("the layers and the graph are left out: there is no model to read them from",))
    try:
        opened = open_model(full, weights=False).analysis
    except OtoError as error:
        return Models(notes=(f"the layers and the graph are left out: {error}",))
    notes: tuple[str, ...] = ()
    small = None
    if compact is not None:
        try:
            small = open_model(compact, weights=False).analysis
        except OtoError as error:
            notes = (f"what the layers have after the cut is left out: {error}",)
    looked = Looked(opened, small, count_macs(opened).at)
    if sizes and sizes.keys() == looked.sizes.keys():
        looked = Looked(opened, small, sizes)
    found = layers(looked, times_of(table, looked.macs(opened)))
    picture = draw(looked, found, seconds=seconds)
    return Models(looked, found, bars(looked, stored), picture, colours(opened), notes)


def read_object(path: Path, notes: list[str]) -> dict[str, Any]:
    """Return the JSON object in a file, an empty one where there is none; what is no object is noted."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"cannot read '{path}': {error.strerror or error}") from None
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    notes.append(f"'{path.name}' is damaged, and left out")
    return {}


def _result(path: Path, notes: list[str]) -> dict[str, Any]:
    """Return what a run came to, an empty object where it has not come to its end; what is damaged is noted."""
    found = read_result(path)
    if found is None and (path / RESULT).exists():
        notes.append(f"'{RESULT}' is damaged, and left out: `onnx-oto resume` makes it again")
    return found or {}


def _logged(path: Path, notes: list[str]) -> Logged:
    try:
        return read_metrics(path)
    except FileNotFoundError:
        notes.append(f"there is no {path.name}, so there are no curves")
    except OSError as error:
        raise StorageError(f"cannot read '{path}': {error.strerror or error}") from None
    return Logged((), ())


def _settings(path: Path, notes: list[str]) -> tuple[str, dict[str, Any], str]:
    """Return the command of a run, its settings, and the text of run.toml."""
    if not path.exists():
        notes.append(
            f"there is no {path.name}: the run was left before it began, or is of a version that wrote none"
        )
        return "", {}, ""
    try:
        tables = read_tables(path)
        text = path.read_text(encoding="utf-8")
    except (OtoError, OSError, ValueError) as error:
        notes.append(f"{path.name} is left out: {error}")
        return "", {}, ""
    if not tables:
        notes.append(f"{path.name} is empty, and left out")
    verb, table = next(((name, each) for name, each in tables.items() if isinstance(each, dict)), ("", {}))
    return verb, table, text


def _provenance(path: Path) -> dict[str, Any]:
    """Return what a checkpoint knows of where its run came from."""
    for name in (CHECKPOINT, BEFORE, LAST_GOOD):
        if (path / name).exists() and (run := read_run(path / name)):
            return {key: run[key] for key in ("model", "data", "files", "versions") if run.get(key)}
    return {}


@contextlib.contextmanager
def _full(path: Path, verb: str, settings: Json) -> Iterator[Path | None]:
    """Give the full model of a run: trained, or as it was brought, where that still is."""
    if (path / TRAINED).exists():
        yield path / TRAINED
    elif verb == "demo":
        with embedded() as (model, _):
            yield model
    else:
        named = settings.get("model")
        place = path / str(named) if named else None
        yield place if place is not None and place.is_file() else None


def _sizes(result: Json) -> dict[str, int]:
    macs = result.get("macs")
    at = macs.get("at") if isinstance(macs, Mapping) else None
    return {str(name): int(size) for name, size in at.items()} if isinstance(at, Mapping) else {}


def _title(provenance: Json, settings: Json, verb: str, path: Path) -> str:
    named = (provenance.get("model") or {}).get("name") or settings.get("model")
    if named:
        return Path(str(named)).name
    return "The demo" if verb == "demo" else path.resolve().name


def _epochs(settings: Json, result: Json) -> int | None:
    epochs = (result.get("options") or settings).get("epochs")
    return epochs if isinstance(epochs, int) else None


def _state(path: Path, result: Json, logged: Logged, settings: Json, is_half: bool) -> tuple[str, ...]:
    """Return how far a run has come, in sentences."""
    if not is_half:
        return ()
    epochs = _epochs(settings, result)
    last = logged.epochs[-1]["epoch"] if logged.epochs else 0
    of = f" of {epochs}" if epochs else ""
    if (path / LAST_GOOD).exists():
        return (f"This run diverged after step {logged.last_step:,}: there is no compact model.",)
    if (path / TRAINED).exists():
        return ("This run is trained to its end, but was left before a compact model was made and verified.",)
    if not logged.last_step:
        return ("This run was left before its first step was logged: there is no compact model.",)
    return (
        f"This is half a run: {last}{of} epochs, {logged.last_step:,} steps. There is no compact model yet.",
    )


def _way_on(path: Path, settings: Json) -> tuple[str, ...]:
    """Return the commands by which half a run goes on."""
    run = shlex.quote(str(path))
    if (path / LAST_GOOD).exists():
        lr = settings.get("lr")
        lower = f"{lr / 3:.1g}" if isinstance(lr, int | float) else "LOWER"
        return (f"onnx-oto resume {run} --lr {lower}",)
    if (path / TRAINED).exists():
        return (
            f"onnx-oto resume {run}",
            shlex.join(["onnx-oto", "compact", str(path / TRAINED), "-o", str(path / COMPACT)]),
        )
    if not (path / SETTINGS).exists():
        return ()
    return (f"onnx-oto resume {run}",)


def _levels(result: Json, logged: Logged) -> tuple[Level, ...]:
    """Return lines across the chart of the metric: what the model scored as it was brought, and at the end."""
    found = metrics_of(result)
    split = next((each.get("split") for each in logged.epochs if each.get("split")), "test")
    if not found or split != "test":
        return ()
    levels = (
        (found[0].original, "original", "brought"),
        (found[0].compact, "compact model", "level"),
    )
    return tuple(Level(name, style, float(value)) for value, name, style in levels if value is not None)


def _digests(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        if (path / name).exists():
            with contextlib.suppress(OtoError):
                found[name] = str(identity.of_model(path / name)["sha256"])
    return found


def _when(path: Path) -> str:
    try:
        stamp = path.stat().st_mtime
    except OSError:
        return ""
    return datetime.fromtimestamp(stamp, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _repeat(path: Path, verb: str, recorded: str) -> tuple[str, ...]:
    """Return the command that does the same again: that of run.toml's heading, seen from anywhere."""
    for line in recorded.splitlines():
        if line.startswith("# onnx-oto ") and "--config" in line:
            return (
                line[2:].replace(f"--config {SETTINGS}", f"--config {shlex.quote(str(path / SETTINGS))}"),
            )
    return (
        (f"onnx-oto {verb} --config {shlex.quote(str(path / SETTINGS))} --run ANOTHER-FOLDER",)
        if verb
        else ()
    )
