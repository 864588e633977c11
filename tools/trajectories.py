"""Twenty steps of descent by both backends, on small networks of five kinds: how far apart they end.

    python tools/trajectories.py                          # both backends, in one runtime
    OTHER_PYTHON tools/trajectories.py --save plain.npz   # what works there, such as plain on another runtime
    python tools/trajectories.py --against plain.npz

A number is the distance of where two runs end, as a share of the way. Beside it stands float32 noise: the first backend
with its batch in two shards, whose gradients are added up, and with its inputs moved by 1e-7.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from gradients.small_networks import NETWORKS, Network, Way, descend

from onnx_oto.gradients import choose_backend


def main() -> int:
    """Print a row a network, or save where plain ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", type=Path, help="write where the backend plain ends, in this environment")
    parser.add_argument("--against", type=Path, help="compare with what another environment saved")
    args = parser.parse_args()
    plain = choose_backend("plain")
    if args.save:
        np.savez(args.save, **{name: descend(make(), plain).end for name, make in NETWORKS.items()})
        return 0
    saved = np.load(args.against) if args.against else {}
    print("| network | loss | plain | plain elsewhere | two shards | moved by 1e-7 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, make in NETWORKS.items():
        network, first = make(), choose_backend()
        way = descend(network, first)
        off = [[descend(network, plain)], [], [descend(network, first, shards=2)], _moved(network)]
        if name in saved:
            off[1] = [way._replace(end=saved[name])]
        cells = [" ".join(f"{way.off(end):.1e}" for end in ends) for ends in off]
        losses = f"{way.losses[0]:.3f} -> {way.losses[-1]:.3f}"
        print("| " + " | ".join((name, losses, *cells)) + " |", flush=True)
    return 0


def _moved(network: Network) -> list[Way]:
    """Return ways of the first backend from inputs nearby; tokens have none."""
    if network.x.dtype.kind != "f":
        return []
    return [descend(network, choose_backend(), moved=seed) for seed in (1, 2, 3)]


if __name__ == "__main__":
    sys.exit(main())
