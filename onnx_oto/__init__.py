"""Train an ONNX model once and get a smaller ONNX model that computes the same function.

>>> import onnx_oto
>>> result = onnx_oto.prune("model.onnx", "compact.onnx", sparsity=0.5)  # doctest: +SKIP

Every verb of the command line is a function here. What the command line calls options are keywords, or the fields of
one object: `prune("model.onnx", "compact.onnx", PruneOptions(sparsity=0.5))`. Errors derive from `OtoError`.

Importing this package loads next to nothing: names are looked up when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_oto.api import (
        AnalysisOptions,
        Benched,
        BenchOptions,
        CompactOptions,
        DemoOptions,
        DoctorOptions,
        Examined,
        Inspected,
        InspectOptions,
        OtoError,
        Pruned,
        PruneOptions,
        Reported,
        ReportOptions,
        ResumeOptions,
        Trained,
        TrainOptions,
        Verdict,
        VerifyOptions,
        bench,
        compact,
        demo,
        doctor,
        inspect,
        prune,
        report,
        resume,
        train,
        verify,
    )

__version__ = "0.1.0"
__all__ = [
    "AnalysisOptions",
    "BenchOptions",
    "Benched",
    "CompactOptions",
    "DemoOptions",
    "DoctorOptions",
    "Examined",
    "InspectOptions",
    "Inspected",
    "OtoError",
    "PruneOptions",
    "Pruned",
    "ReportOptions",
    "Reported",
    "ResumeOptions",
    "TrainOptions",
    "Trained",
    "Verdict",
    "VerifyOptions",
    "__version__",
    "bench",
    "compact",
    "demo",
    "doctor",
    "inspect",
    "prune",
    "report",
    "resume",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'onnx_oto' has no attribute '{name}'")
    value = getattr(import_module("onnx_oto.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
