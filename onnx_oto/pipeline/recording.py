"""run.toml in the folder of a run: the settings, resolved, with which the same command does the same again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx_oto import __version__
from onnx_oto.model.files.replace import replacing
from onnx_oto.model.files.saving import storing
from onnx_oto.pipeline.folder import SETTINGS, RunFolder
from onnx_oto.settings import Settings, settings_of
from onnx_oto.settings.files import written
from onnx_oto.settings.kinds import SOURCE


@dataclass(frozen=True)
class Record:
    """What is written down of a run: the command, what it was asked for, and the files that it reads, by name.

    anew: arguments that have no file to write down, such as a model in memory.
    """

    verb: str
    settings: Settings
    reads: Mapping[str, str | os.PathLike[str]] = field(default_factory=dict)
    anew: tuple[str, ...] = ()

    def write(self, folder: RunFolder, **settled: Any) -> None:
        """Write run.toml. settled: settings that say "what suits", with the value that did. Raises StorageError."""
        place = folder.place(SETTINGS)
        known = settings_of(type(self.settings))
        values: dict[str, Any] = {}
        for each in known:
            value = getattr(self.settings, each.name)
            if each.about.recorded:
                values |= value if each.about.entries is not None else {each.key: value}
        suited = {each.key: settled[each.name] for each in known if each.name in settled}
        heading = (
            f"onnx-oto {__version__}: the settings of this run. To repeat it:",
            " ".join(("onnx-oto", self.verb, *self.anew, "--config", SETTINGS, "--run ANOTHER-FOLDER")),
        )
        content = written(
            self.verb,
            {name: SOURCE.of_value(path) for name, path in self.reads.items()} | values | suited,
            folder.path,
            heading,
        )
        with storing(place), replacing(place) as file:
            file.write(content)
