"""Settings in TOML: a table for every command, the keys of which are the options of the command line.

    [train]
    model = "model.onnx"
    data = "data.npz"
    sparsity = 0.6

Paths are relative to the folder of the file, so that a file means the same wherever a command is started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from onnx_oto.errors import StorageError, UsageError
from onnx_oto.settings.base import Setting, named, nearest, plain

_MOST_BYTES = 1 << 20


def read_settings(
    path: str | os.PathLike[str], verb: str, known: Iterable[Setting], verbs: Iterable[str]
) -> dict[str, Any]:
    """Return the values that the table of a command holds, by the names of settings, each checked.

    Raises StorageError, and UsageError for what is no TOML, a table that belongs to none of the commands `verbs`,
    and a key or a value that is refused.
    """
    tables = read_tables(path)
    verbs = sorted(verbs)
    for name, table in tables.items():
        if name not in verbs and isinstance(table, dict):
            raise UsageError(
                f"'{path}': no command has the name of the table [{name}]{nearest(name, verbs)}: "
                f"they are {', '.join(verbs)}"
            )
        if not isinstance(table, dict):
            raise UsageError(
                f"'{path}': '{name}' stands in no table: write it below the name of a command, [{verb}]"
            )
    if verb not in tables:
        raise UsageError(f"'{path}' has no table [{verb}]: there are {', '.join(tables) or 'none'}")
    settings = {each.name: each for each in known}
    try:
        values = named(tables[verb], settings.values())
        return {name: _placed(path, settings[name].accept(value)) for name, value in values.items()}
    except UsageError as error:
        raise UsageError(f"'{path}', table [{verb}]: {error}") from None


def written(
    verb: str, values: Mapping[str, Any], folder: str | os.PathLike[str], heading: Iterable[str] = ()
) -> bytes:
    """Return a file, to lie in `folder`, from which `read_settings` reads these values; None is left out.

    values: by the names of settings. heading: lines of comment in front.
    """
    import tomli_w

    here = os.path.realpath(folder)
    table = {
        name.rstrip("_").replace("_", "-"): plain(_relative(value, here))
        for name, value in values.items()
        if value is not None
    }
    lines = "".join(f"# {line}\n" for line in heading)
    return (lines + tomli_w.dumps({verb: table})).encode()


def read_tables(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a TOML file holds, nothing of it checked. Raises StorageError and UsageError."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise StorageError(f"cannot read the settings in '{path}': {error.strerror or error}") from None
    if len(content) > _MOST_BYTES:
        raise UsageError(f"'{path}' is larger than {_MOST_BYTES >> 20} MiB: this is no file of settings")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"'{path}' is no TOML: {error or 'too deep'}") from None


def _placed(path: str | os.PathLike[str], value: Any) -> Any:
    """Return a value of a file, paths in it seen from where the command runs."""
    if isinstance(value, tuple):
        return tuple(_placed(path, item) for item in value)
    return Path(path).parent / value if isinstance(value, PurePath) else value


def _relative(value: Any, folder: str) -> Any:
    """Return a value to be written, paths in it seen from the (real) folder of the file, links followed."""
    if isinstance(value, tuple):
        return tuple(_relative(item, folder) for item in value)
    if not isinstance(value, PurePath):
        return value
    place = os.path.realpath(value)
    try:
        return Path(os.path.relpath(place, folder)).as_posix()
    except ValueError:  # on another drive
        return place
