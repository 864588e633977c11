"""All that is looked at, in the order in which it is told."""

from __future__ import annotations

from onnx_oto.pipeline.doctor import host, packages, runtimes
from onnx_oto.pipeline.doctor.finding import Examined, Finding, told


def examine() -> Examined:
    """Return what was found. Raises nothing for what is missing or broken: that is what it looks for."""
    modules = [each.module for each in (*packages.BASE, *packages.EXTRAS)]
    found = packages.tried([*modules, runtimes.RUNTIME])
    base = list(packages.base(found))
    runtime = list(runtimes.runtimes(found[runtimes.RUNTIME]))
    loads = all(each.state != "broken" for each in base)
    runs = all(each.state != "broken" for each in runtime)
    training: list[Finding] = list(runtimes.gradients(sound=loads)) if runs or not loads else []
    return Examined(
        (
            *host.python(),
            *base,
            *runtime,
            *training,
            *host.processors(_block_size() if loads and runs else "unknown without a runtime"),
            *host.memory(),
            *host.disk(),
            *packages.extras(found),
        )
    )


def _block_size() -> int | str:
    """Return the length of blocks of channels that convolutions are computed with, or why nobody knows."""
    try:
        from onnx_oto.gradients.backends.ort_blocked import block_size
        from onnx_oto.machine import has_compiler

        return block_size() if has_compiler() else "not tried without numba, which they need"
    except Exception as error:  # whatever a broken environment raises
        return f"unknown ({told(error)})"
