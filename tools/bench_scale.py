"""Time and memory of large graphs: chains, wide Concat and Split, long metadata, up to what is refused.

    .venv/bin/python tools/bench_scale.py [--cases chain:100000,concat:10000] [--limit SECONDS]

A case is a kind and a number: chain (nodes, of residual blocks with weights of 8 x 8), tiny (nodes: Neg),
concat (branches that one Concat joins), split (parts of one Split), metadata (MB of it, on a chain of 1,000). Each is
made, then `onnx-oto inspect` and `onnx-oto prune --sparsity 0.5` run on it in processes of their own. Prints a Markdown
table: seconds, the most resident memory of the command and of all it started, the exit code.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CASES = (
    "chain:10000,chain:100000,tiny:100000,tiny:1000000,"
    "concat:1000,concat:10000,split:500,split:5000,metadata:100"
)
WIDTH = 8


def model(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], inputs: int, outputs: int
) -> onnx.ModelProto:
    """Return a model that reads x [N, inputs] and makes y [N, outputs]."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", outputs])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def chain(number: int) -> onnx.ModelProto:
    """Return residual blocks of four nodes: MatMul, Relu, MatMul, Add."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], {}, "x"
    for block in range(number // 4):
        out = "y" if block == number // 4 - 1 else f"s{block}"
        weights[f"w{block}"] = rng.standard_normal((WIDTH, WIDTH))
        weights[f"v{block}"] = rng.standard_normal((WIDTH, WIDTH)) / number
        nodes.append(helper.make_node("MatMul", [last, f"w{block}"], [f"a{block}"]))
        nodes.append(helper.make_node("Relu", [f"a{block}"], [f"r{block}"]))
        nodes.append(helper.make_node("MatMul", [f"r{block}", f"v{block}"], [f"b{block}"]))
        nodes.append(helper.make_node("Add", [last, f"b{block}"], [out]))
        last = out
    return model(nodes, weights, WIDTH, WIDTH)


def tiny(number: int) -> onnx.ModelProto:
    """Return a chain of Neg behind one product."""
    weights = {"w": np.eye(WIDTH), "last": np.eye(WIDTH)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t0"])]
    nodes += [helper.make_node("Neg", [f"t{i}"], [f"t{i + 1}"]) for i in range(number)]
    return model([*nodes, helper.make_node("MatMul", [f"t{number}", "last"], ["y"])], weights, WIDTH, WIDTH)


def concat(number: int) -> onnx.ModelProto:
    """Return products that one Concat joins and another product reads."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.standard_normal((4, 2)) for i in range(number)}
    nodes = [helper.make_node("MatMul", ["x", name], [f"a{i}"]) for i, name in enumerate(weights)]
    nodes.append(helper.make_node("Concat", [f"a{i}" for i in range(number)], ["joined"], axis=1))
    nodes.append(helper.make_node("MatMul", ["joined", "last"], ["y"]))
    return model(nodes, weights | {"last": rng.standard_normal((2 * number, 3))}, 4, 3)


def split(number: int) -> onnx.ModelProto:
    """Return a product that one Split takes apart, each part read by a product, and their sum."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((4, 2 * number))}
    parts = [f"s{i}" for i in range(number)]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["all"])]
    nodes.append(helper.make_node("Split", ["all"], parts, axis=1, num_outputs=number))
    for i, part in enumerate(parts):
        weights[f"w{i}"] = rng.standard_normal((2, 1))
        nodes.append(helper.make_node("MatMul", [part, f"w{i}"], [f"p{i}"]))
    return model([*nodes, helper.make_node("Sum", [f"p{i}" for i in range(number)], ["y"])], weights, 4, 1)


def metadata(megabytes: int) -> onnx.ModelProto:
    """Return a chain with that much of metadata."""
    made = chain(1000)
    helper.set_model_props(made, {"notes": "x" * (megabytes << 20)})
    return made


KINDS: dict[str, Callable[[int], onnx.ModelProto]] = {
    each.__name__: each for each in (chain, tiny, concat, split, metadata)
}


def timed(arguments: list[str], limit: float) -> str:
    """Run the command line; return seconds, memory and exit code."""
    begin = time.perf_counter()
    script = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run([sys.executable, '-m', 'onnx_oto', *sys.argv[1:]], capture_output=True).returncode\n"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return f"over {limit:.0f} s"
    code, memory = done.stdout.split()
    told = "" if code == "0" else f", exit {code}"
    return f"{time.perf_counter() - begin:.1f} s, {int(memory) / 1024:,.0f} MB{told}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--limit", type=float, default=400.0, help="seconds of one command")
    options = parser.parse_args()
    print("| case | inspect | prune --sparsity 0.5 |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for case in options.cases.split(","):
            kind, number = case.split(":")
            place, out = Path(folder) / "model.onnx", Path(folder) / "compact.onnx"
            onnx.save(KINDS[kind](int(number)), place)
            cells = [timed(["inspect", str(place)], options.limit)]
            cells.append(timed(["prune", str(place), "-o", str(out), "--sparsity", "0.5"], options.limit))
            print(f"| {kind} {int(number):,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
