"""Run samples as a reader would: every `sh` block of samples/NAME/README.md, in order, in the environment it names.

    tools/samples                 # all of them
    tools/samples pytorch jax     # some
    tools/samples --list

The word behind `sh` says which environment a block is for:

    sh framework    the framework that the model comes from: .venv-samples/NAME
    sh onnx-oto     this checkout with onnxruntime-training-cpu: .venv-samples/onnx-oto
    sh stock        a stock ONNX Runtime, which serves the result: .venv-samples/stock

Blocks install what they need themselves. The files of a sample are copied to build/samples/NAME, where the blocks run,
so nothing is written into samples/. A failed sample does not stop the others; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples"
ENVIRONMENTS = ROOT / ".venv-samples"
PLACES = ("framework", "onnx-oto", "stock")


class Block(NamedTuple):
    """Lines of a shell, and the environment that they are for."""

    place: str
    script: str


class SampleError(Exception):
    """A sample that cannot be run, or whose commands fail."""


def names() -> list[str]:
    """Return the names of all samples: the folders that have a README."""
    return sorted(path.parent.name for path in SAMPLES.glob("*/README.md"))


def blocks(name: str) -> Iterator[Block]:
    """Yield the `sh` blocks of a sample's README. Raises SampleError for one that names no environment."""
    text = (SAMPLES / name / "README.md").read_text(encoding="utf-8")
    for place, script in re.findall(r"^```sh ?(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        if place not in PLACES:
            raise SampleError(f"samples/{name}/README.md: '{place}' is none of {', '.join(PLACES)}")
        yield Block(place, script)


def run(name: str, folder: Path, environment: Mapping[str, Mapping[str, str]], installs: bool = True) -> None:
    """Run a sample in `folder`, which is emptied first. Raises SampleError with the command that failed.

    environment: the variables of each place. installs: whether lines that begin with `pip install` are run.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SAMPLES / name, folder)
    for place, script in blocks(name):
        lines = script.splitlines()
        wanted = "\n".join(line for line in lines if installs or not line.startswith("pip install"))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", wanted], cwd=folder, env={**environment[place]}, check=False
        )
        if done.returncode:
            raise SampleError(f"{name}: exit code {done.returncode} in the block for {place}:\n{wanted}")


def variables(folder: Path) -> dict[str, str]:
    """Return the variables under which the programs of an environment come first, made now unless it is there."""
    places = folder / ("Scripts" if os.name == "nt" else "bin")
    if not (folder / "complete").exists():
        print(f"making {folder.relative_to(ROOT)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        if folder.name == "onnx-oto":
            pip = [str(places / "python"), "-m", "pip", "install", "-q", "-e", f"{ROOT}[cpu,data]"]
            subprocess.run(pip, cwd=folder, check=True)
        (folder / "complete").touch()
    path = os.pathsep.join([str(places), os.environ.get("PATH", "")])
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "PATH": path, "VIRTUAL_ENV": str(folder), "PIP_QUIET": "1"}


def main() -> int:
    """Run the samples that are named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="tools/samples", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="samples to run [all]")
    parser.add_argument("--list", action="store_true", help="print their names and stop")
    given = parser.parse_args()
    if given.list:
        print("\n".join(names()))
        return 0
    unknown = sorted(set(given.names) - set(names()))
    if unknown:
        parser.error(f"no sample is called {', '.join(unknown)}: they are {', '.join(names())}")
    failed = []
    for name in given.names or names():
        start = time.monotonic()
        print(f"== {name}", file=sys.stderr)
        try:
            places = {place: name if place == "framework" else place for place, _ in blocks(name)}
            made = {place: variables(ENVIRONMENTS / folder) for place, folder in places.items()}
            run(name, ROOT / "build" / "samples" / name, made)
        except (SampleError, subprocess.CalledProcessError) as error:
            print(error, file=sys.stderr)
            failed.append(name)
        else:
            print(f"== {name}: done in {time.monotonic() - start:.0f} s", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
