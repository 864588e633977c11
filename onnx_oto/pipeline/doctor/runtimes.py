"""Runtimes, whether they stand in each other's way, and what makes gradients with them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onnx_oto.pipeline.doctor.commands import install, mend, pip, trainable
from onnx_oto.pipeline.doctor.finding import Finding, told
from onnx_oto.pipeline.doctor.packages import Tried
from onnx_oto.runtime.installed import installed

RUNTIME = "onnxruntime"


def runtimes(found: Tried) -> Iterator[Finding]:
    """Yield which runtime is there, and what is wrong with it. found: what became of importing it."""
    owners = installed()
    named = ", ".join(f"{name} {version}" for name, version in sorted(owners.items()))
    if not owners and found.state != "loads":
        yield Finding("runtime", "broken", "no ONNX Runtime is installed", trainable())
        return
    if len(owners) > 1:
        remedy = f"{pip()} uninstall -y {' '.join(sorted(owners))} && {trainable()}"
        yield Finding(
            "runtime",
            "broken",
            f"{len(owners)} distributions own the import folder '{RUNTIME}' and overwrite each other: {named}",
            remedy,
        )
    if found.state != "loads":
        names = " ".join(sorted(owners))
        remedy = mend(names) if len(owners) == 1 else f"{pip()} uninstall -y {names} && {trainable()}"
        yield Finding(
            "runtime",
            "broken",
            f"{named or RUNTIME} is installed but does not load ({told(found.text)})",
            remedy,
        )
        return
    versions = {version.partition("+")[0] for version in owners.values()}
    if len(owners) == 1 and found.text and found.text.partition("+")[0] not in versions:
        remedy = mend(*(f"{name}=={version}" for name, version in owners.items()))
        text = f"{named} is installed, and what loads says that it is {found.text}: another one overwrote it"
        yield Finding("runtime", "broken", text, remedy)
    elif len(owners) < 2:
        yield Finding("runtime", "ok", named or f"{RUNTIME} {found.text}, which no package manager knows of")


def gradients(*, sound: bool) -> Iterator[Finding]:
    """Yield whether something makes gradients here. sound: whether packages load, without which nobody can ask."""
    if not sound:
        text = "nobody can tell what makes gradients before the packages above load"
        yield Finding("training", "broken", text, trainable())
        return
    try:
        from onnx_oto.gradients.backends import BACKENDS
        from onnx_oto.runtime.devices import providers

        devices = providers()
        reasons = {name: make().why_not() for name, make in BACKENDS.items()}
    except Exception as error:  # whatever is wrong with an environment
        yield Finding("training", "broken", f"gradients cannot be made ({told(error)})", trainable())
        return
    works = [name for name, reason in reasons.items() if reason is None]
    if works:
        yield Finding("training", "ok", f"gradients by {', '.join(works)}")
        yield Finding("devices", "ok", ", ".join(devices))
    for name, reason in reasons.items():
        if reason is not None:
            text, remedy = parted(reason)
            yield Finding("training", "note" if works else "broken", f"{name}: {text}", _exact(remedy))


def _exact(command: str) -> str:
    """Return a command of our messages as it is given for this interpreter and this installation."""
    own = re.sub(r"pip install 'onnx-oto\[(\w+)\]'", lambda found: install(found[1]), command)
    return re.sub(r"(?<!-m )\bpip (?=uninstall|install --force)", f"{pip()} ", own)


def parted(sentence: str) -> tuple[str, str]:
    """Return what a sentence says, and the command in it.

    >>> parted("x is missing: run `pip install x`")
    ('x is missing', 'pip install x')
    >>> parted("x is missing")
    ('x is missing', '')
    """
    found = re.fullmatch(r"(.*): run `([^`]*)`\.?", sentence, re.DOTALL)
    return (found[1], found[2]) if found else (sentence, "")
