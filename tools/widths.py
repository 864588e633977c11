"""What a number of channels costs on the runtimes of an environment: which widths it likes.

    python tools/widths.py --python /path/to/python [--engine openvino] [28 30 32 33 ...]

Chains of four 3x3 convolutions with Relu at 28x28, 32 -> C -> C -> C -> 32 channels, run in turn on one thread; printed
is the shortest of up to 200 runs, in microseconds, because other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse

import numpy as np

from onnx_oto.runtime.bench.driver import ENGINES, Bench
from onnx_oto.runtime.bench.staircase import chain

CHANNELS = (28, 30, 32, 33, 36, 47, 48, 63, 64, 65)


def main() -> None:
    """Print a row of the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("channels", nargs="*", type=int, default=CHANNELS)
    parser.add_argument("--python", help="interpreter of the environment that is measured [this one]")
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--seconds", type=float, default=8)
    given = parser.parse_args()
    x = np.random.default_rng(0).random((1, 32, 28, 28), np.float32)
    with Bench(given.python, given.engine) as bench:
        models = [chain(channels) for channels in given.channels]
        measured = bench.measure(models, {"x": x}, seconds=given.seconds, threads=1)
        print("| C | " + " | ".join(map(str, given.channels)) + " |")
        times = " | ".join(f"{1000 * min(each.timing.times):.0f}" for each in measured)
        print(f"| {bench.host.runtime} {bench.host.version} | {times} |")


if __name__ == "__main__":
    main()
