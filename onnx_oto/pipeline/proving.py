"""That a compact model computes what the full one with zero groups does, or nothing is given back."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from onnx_oto.errors import OtoError
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.files.saving import EXTERNAL_ABOVE
from onnx_oto.model.graph.tensors import byte_count
from onnx_oto.runtime.comparing import Feeding, Held, Verdict, compare, compare_piecewise
from onnx_oto.runtime.comparing.piecewise import PIECE_BYTES
from onnx_oto.surgery import Inside, kept_inside
from onnx_oto.surgery import cut as cut_out
from onnx_oto.zigs import Analysis, zero_dropped


def cut_and_verify(
    analysis: Analysis, drop: BoolArray, seed: int = 0, feeding: Feeding | None = None
) -> tuple[onnx.ModelProto, onnx.ModelProto, Verdict]:
    """Return (full model with the dropped groups zeroed, compact model, verdict); raises if they differ."""
    result = cut_out(analysis, drop)
    zeroed = zero_dropped(analysis, drop)
    inside = kept_inside(analysis, drop, result)
    return zeroed, result.model, agree(zeroed, result.model, seed, feeding, inside=inside)


def agree(
    full: onnx.ModelProto,
    small: onnx.ModelProto,
    seed: int,
    feeding: Feeding | None,
    original: onnx.ModelProto | None = None,
    *,
    inside: Inside,
) -> Verdict:
    """Return how two models compare; raises OtoError if they differ. original: what was brought."""
    if runs_in_pieces(full):
        return agree_piecewise(Held(full, {}), Held(small, {}), seed, feeding, inside, PIECE_BYTES)
    verdict = compare(full, small, seed=seed, feeding=feeding, original=original, inside=inside)
    require_passed(verdict, "nothing was written")
    return verdict


def runs_in_pieces(model: onnx.ModelProto) -> bool:
    """Say whether a model takes more than one message to a runtime may: with float32 in place of bfloat16."""
    kinds = {onnx.TensorProto.BFLOAT16: 2}
    taken = sum(byte_count(t) * kinds.get(t.data_type, 1) for t in model.graph.initializer)
    return taken > EXTERNAL_ABOVE


def agree_piecewise(
    full: Held,
    small: Held,
    seed: int,
    feeding: Feeding | None,
    inside: Inside,
    most: float,
    say: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """Return how two models compare that no process should hold; raises OtoError if they differ.

    most: bytes of weights that may be held together.
    """
    verdict = compare_piecewise(
        full, small, inside, seed=seed, feeding=feeding, most=min(most, PIECE_BYTES), say=say
    )
    require_passed(verdict, "nothing was written")
    return verdict


def require_passed(verdict: Verdict, consequence: str) -> None:
    """Raise OtoError when the models differ: what differs, by how much and where."""
    if not verdict.passed:
        raise OtoError(
            f"the compact model differs from the full one: {verdict.trouble}; this is a defect of onnx-oto, "
            f"{consequence}"
        )
