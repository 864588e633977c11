"""Python, processor, memory and disk."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator

from onnx_oto import __version__
from onnx_oto.machine import Quota, cores, processor, quota
from onnx_oto.pipeline.doctor.commands import environment, source
from onnx_oto.pipeline.doctor.finding import Finding, told
from onnx_oto.runtime.installed import has_training_build

LAST = "3.12"
"""The newest Python that there is a training build for."""
TELLING = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16",
    "asimd", "neon", "asimddp", "i8mm", "sve", "bf16",
)  # fmt: skip
"""Features that kernels choose by."""
LITTLE_MEMORY, LITTLE_DISK = 2e9, 1e9
_GB = 1e9


def python() -> Iterator[Finding]:
    """Yield the version of this package, and whether this Python is one that training builds exist for."""
    place, editable = source()
    where = f" from '{place}'" if place and editable else ""
    yield Finding("onnx-oto", "ok", f"{__version__}{where}")
    version = platform.python_version()
    text = f"{version} on {platform.system()} {platform.machine()}, '{sys.executable}'"
    if has_training_build():
        yield Finding("python", "ok", text)
        return
    said = f"ONNX Runtime's training build, whose gradients are the fastest, is made for Python up to {LAST}"
    yield Finding("python", "note", f"{text}: {said}; here the backend plain makes them", environment(LAST))


def processors(block: int | str) -> Iterator[Finding]:
    """Yield the processor, and how many cores there are to use.

    block: length of the blocks of channels that kernels compute with, 0 for none; or why nobody knows.
    """
    name, features = processor()
    known = [each for each in TELLING if each in features]
    text = f"{name} ({', '.join(known) or 'no features that kernels choose by are told'})"
    if isinstance(block, str):
        yield Finding("processor", "ok", f"{text}; blocks of channels: {block}")
    elif block:
        yield Finding("processor", "ok", f"{text}; channels are computed in blocks of {block}")
    else:
        yield Finding("processor", "ok", f"{text}; channels are not computed in blocks")
    yield from _cores(cores(), os.cpu_count() or 1, quota())


def _cores(usable: int, every: int, allowed: Quota) -> Iterator[Finding]:
    text = f"{usable} of {every} logical cores"
    if allowed.processors is not None and allowed.processors < usable:
        whole = max(int(allowed.processors), 1)
        yield Finding(
            "cores",
            "warning",
            f"{text}, and the container allows the time of {allowed.processors:g}: threads would wait for each other",
            f"onnx-oto train ... --shards {whole}",
        )
        return
    threads = {
        name: os.environ[name] for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if name in os.environ
    }
    said = "".join(f", {name}={value}" for name, value in threads.items())
    yield Finding("cores", "ok", f"{text}: training takes one session for each{said}")


def memory() -> Iterator[Finding]:
    """Yield how much memory there is."""
    try:
        import psutil

        known = psutil.virtual_memory()
    except Exception as error:  # missing, broken, or a system that tells nothing
        yield Finding("memory", "note", f"nobody knows how much there is ({told(error)})")
        return
    most = quota().memory
    total, free = known.total, known.available
    text = f"{free / _GB:.1f} GB free of {total / _GB:.1f}"
    if most is not None and most < total:
        text += f", and the container allows {most / _GB:.1f}"
        free = min(free, most)
    if free < LITTLE_MEMORY:
        yield Finding(
            "memory",
            "warning",
            f"{text}: large models and batches need more",
            "onnx-oto train ... --batch 16",
        )
    else:
        yield Finding("memory", "ok", text)


def disk() -> Iterator[Finding]:
    """Yield how much room there is here and for temporary files, and whether these can be written."""
    places = {"this folder": os.getcwd()}
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
        places["temporary files"] = tempfile.gettempdir()
    except OSError as error:
        text = f"temporary files cannot be written ({error.strerror or error}), and models that are run are"
        yield Finding("disk", "broken", text, "export TMPDIR=A-FOLDER-THAT-CAN-BE-WRITTEN")
    for what, place in places.items():
        try:
            free = shutil.disk_usage(place).free
        except OSError as error:
            yield Finding("disk", "warning", f"{what}, '{place}': {error.strerror or error}")
            continue
        writable = os.access(place, os.W_OK)
        text = f"{free / _GB:.1f} GB free for {what}, '{place}'"
        if not writable:
            yield Finding("disk", "note", f"{text}, which cannot be written: give a --run folder elsewhere")
        elif free < LITTLE_DISK:
            yield Finding("disk", "warning", f"{text}: checkpoints hold the weights several times")
        else:
            yield Finding("disk", "ok", text)
