"""Every row again with removed channels that hold a constant which is not zero: exact, or frozen.

The rows prove that zeros pass. Here Sigmoid (1/2 of zero) or Exp (1 of zero) stands behind layers. In the last form,
every later layer reads its input times a parameter of its own, so that the channels are zero again where it sums: then
what stands in between must say itself if it needs zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from onnx import ModelProto, NodeProto

from .builder import behind_layers, first_layer, gated
from .exactness import KEEP_SETS, check
from .rows import Row
from .test_ops import ROWS

FORMS: dict[str, Callable[[ModelProto, str], ModelProto]] = {
    "sigmoid": lambda model, probe: behind_layers(model, _behind(model, probe, "Sigmoid")),
    "exp": lambda model, probe: behind_layers(model, _behind(model, probe, "Tanh", "Exp")),
    "sigmoid everywhere": lambda model, _: behind_layers(model, lambda _: ["Sigmoid"]),
    "gated": lambda model, probe: gated(behind_layers(model, _behind(model, probe, "Sigmoid"))),
    "everywhere, gated": lambda model, _: gated(behind_layers(model, lambda _: ["Sigmoid"])),
}
FLAT = {
    *(
        "Ceil-conv",
        "Floor-conv",
        "Sign-conv",
        "Cast-integers",
        "Div-by itself",
        "Max-scalar one",
        "Clip-only max",
    ),
    *("Gather-of a weight", "Gather-of a weight: what it reads"),
}
"""Rows of functions that are flat from 0 to 1, and of weights of which only what nothing reads may go."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row_is_exact_when_removed_channels_hold_a_constant(row: Row, form: str) -> None:
    model = FORMS[form](row.model(), row.probe)
    check(model, keep_sets=KEEP_SETS[:2], must_matter=row.id not in FLAT)


def _behind(model: ModelProto, probe: str, *ops: str) -> Callable[[NodeProto], Sequence[str]]:
    """Return what stands behind which layer: `ops` behind the one that makes the channels of parameter `probe`."""
    first = first_layer(model, probe)
    return lambda node: ops if list(node.output) == first else ()
