"""What sums over many machines cost, on paper: the tables in docs/mpi.md.

    .venv/bin/python tools/mpi_model.py

With n machines, one rank each, a network of latency a and bandwidth B, and S bytes of gradients and statistics, a step
exchanges for

    c = 8 a log2(n) + 2 S (n - 1) / (n B) + S (n - 1) g / n

seconds: three sums, two of them of a few numbers, each behind a barrier, are 6 rounds of log2(n) messages; the sum of
the gradients is a scatter with sums and a gather (Rabenseifner 2004), 2 log2(n) more; g is what adding up a byte takes,
measured with two ranks of one machine. Where an image takes t seconds of a core, and k cores have b images, exchange
stays under a share s of a step where c <= s (c + b t / k), so b >= c (1 - s) k / (s t).
"""

from __future__ import annotations

import math
from typing import NamedTuple

SHARE = 0.2
CORES = 16
HOSTS = (8, 16, 32, 64, 128, 256)


class Net(NamedTuple):
    """A network of machines: seconds of a message, bytes a second."""

    name: str
    latency: float
    bandwidth: float


class Model(NamedTuple):
    """What `bench_mpi.py` measured: bytes of a sum, seconds of a core for an image, of the sum for a byte."""

    name: str
    size: int
    image: float
    adding: float


NETS = (
    Net("1 Gb/s Ethernet", 50e-6, 0.117e9),
    Net("10 Gb/s Ethernet", 30e-6, 1.17e9),
    Net("100 Gb/s InfiniBand", 2e-6, 11.7e9),
)
MODELS = (
    Model("ResNet-20, 28x28", 1_095_016, 62.7e-3 / 32, 0.23e-3 / 1_095_016),
    Model("ResNet-18, 32x32", 44_734_248, (389.5e-3 - 17.2e-3) / 16, 17.2e-3 / 44_734_248),
)


def exchange(model: Model, net: Net, hosts: int) -> float:
    """Return the seconds of a step that go into sums over so many machines."""
    part = (hosts - 1) / hosts
    messages = 8 * net.latency * math.log2(hosts)
    return messages + 2 * part * model.size / net.bandwidth + part * model.size * model.adding


def least_batch(model: Model, net: Net, hosts: int, cores: int = CORES, share: float = SHARE) -> int:
    """Return how many images each machine needs for exchange to stay under a share of the step."""
    return math.ceil(exchange(model, net, hosts) * (1 - share) * cores / (share * model.image))


def table(model: Model) -> str:
    """Return the lines of a table in Markdown."""
    names = [net.name for net in NETS]
    lines = ["| machines | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for hosts in HOSTS:
        cells = [
            f"{1e3 * exchange(model, net, hosts):.{0 if model.size > 1e7 else 1}f} ms, "
            f"{least_batch(model, net, hosts)} images"
            for net in NETS
        ]
        lines.append(f"| {hosts} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    for each in MODELS:
        print(f"{each.name}: {each.size:,} bytes, {1e3 * each.image:.2f} ms of a core for an image\n")
        print(f"{table(each)}\n")
