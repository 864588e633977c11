"""Models with channel permutations written into them."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.model.view import graph


def permuted(model: ModelProto, rng: np.random.Generator, share: float) -> ModelProto:
    """Return a normalised model with a random Gather behind about `share` of its float tensors: another function.

    It puts the positions of one axis into another order, mostly those of the first that has several.
    """
    view = graph(model)
    result = ModelProto()
    result.CopyFrom(model)
    nodes: list[NodeProto] = []
    names: dict[str, str] = {}
    for node in result.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        nodes.append(node)
        for name in node.output:
            sizes = view.shapes.get(name) or ()
            axes = [i for i, n in enumerate(sizes) if isinstance(n, int) and n > 1]
            if name in view.outputs or view.dtypes.get(name) not in FLOATS or not axes:
                continue
            if rng.random() < share:
                axis = axes[0] if rng.random() < 0.6 else int(rng.choice(axes))
                order = rng.permutation(int(sizes[axis]))  # type: ignore[arg-type]
                names[name] = f"permuted{len(names)}"
                index = f"{names[name]}_order"
                result.graph.initializer.append(numpy_helper.from_array(order, index))
                nodes.append(helper.make_node("Gather", [name, index], [names[name]], names[name], axis=axis))
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result
