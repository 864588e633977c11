"""Look into the wheel and the sdist of a folder: what has to be there is, what must not is not.

    python tools/check_contents.py dist

Needs nothing but Python. Ends with one line for each thing that is wrong, and exit code 1.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

WANTED = (
    r"onnx_oto/py\.typed",
    r"onnx_oto/assets/fashion_mnist_subset\.npz",
    r"onnx_oto/assets/fashion_resnet\.onnx",
    r"onnx_oto/assets/FASHION_MNIST_LICENSE\.txt",
    r"onnx_oto/cli/__init__\.py",
    r"(?:.*/)?LICENSE",
)
"""What both must hold, as expressions for a whole path."""
UNWANTED = r"(?:.*/)?(?:\.venv.*|runs|__pycache__|node_modules|build)/.*|.*\.pyc"
LARGEST = 8_000_000
"""Bytes that an archive may take: the data of the demo are 4 MB of them."""


def wrong(names: Iterable[str], *, wheel: bool) -> list[str]:
    """Return what is wrong with the paths in an archive, in sentences.

    >>> wrong(["onnx_oto/py.typed", "onnx_oto/__pycache__/a.pyc"], wheel=False)[-1]
    'onnx_oto/__pycache__/a.pyc does not belong there'
    """
    paths = list(names)
    found = [
        f"{wanted} is missing" for wanted in WANTED if not any(re.fullmatch(wanted, path) for path in paths)
    ]
    found += [f"{path} does not belong there" for path in paths if re.fullmatch(UNWANTED, path)]
    if wheel:
        top = {path.split("/")[0] for path in paths}
        others = sorted(name for name in top if name != "onnx_oto" and not name.endswith(".dist-info"))
        found += [f"the wheel would install {name} beside the package" for name in others]
    return found


def main(folder: Path) -> int:
    """Print what is wrong with the archives of a folder; return the exit code."""
    problems = []
    for pattern in ("*.whl", "*.tar.gz"):
        made = sorted(folder.glob(pattern))
        if len(made) != 1:
            problems.append(f"{folder} holds {len(made)} files {pattern}, not one")
            continue
        (path,) = made
        if path.suffix == ".whl":
            names = zipfile.ZipFile(path).namelist()
        else:
            with tarfile.open(path) as archive:
                names = [name.partition("/")[2] for name in archive.getnames() if "/" in name]
        problems += [f"{path.name}: {problem}" for problem in wrong(names, wheel=path.suffix == ".whl")]
        size = path.stat().st_size
        problems += [f"{path.name} takes {size:,} bytes"] if size > LARGEST else []
        print(f"{path.name}: {len(names)} files, {size:,} bytes", file=sys.stderr)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
