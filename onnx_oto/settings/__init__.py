"""Settings: frozen dataclasses whose fields are the options of the command line, keywords of Python, keys of run.toml.

declare.py   `setting`: a field with its help, its limits, and its names on the command line
kinds.py     what a value may be, from the annotation of the field: of text, and of a value of Python or TOML
base.py      `Settings`, which checks itself, and what is known of its fields
checks.py    limits of numbers
topics.py    headings of help
memory.py    sizes of memory as people write them
files.py     run.toml, read and written
analysis.py  the settings of an analysis

Nothing here imports more than the standard library, so that a command line is read, refused or completed at once.
"""

from onnx_oto.settings.analysis import AnalysisOptions
from onnx_oto.settings.base import Setting, Settings, settings_of
from onnx_oto.settings.declare import setting

__all__ = ["AnalysisOptions", "Setting", "Settings", "setting", "settings_of"]
