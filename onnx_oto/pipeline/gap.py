"""Why a model is not as much faster as it has fewer multiply-accumulates: where the rest of its time goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

MULTIPLYING = frozenset(
    (
        "Attention", "Conv", "ConvInteger", "ConvTranspose", "Convolution", "Deconvolution", "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul", "Einsum", "FullyConnected", "FusedConv", "FusedGemm", "FusedMatMul", "GRU", "Gemm",
        "GemmFastGelu", "GroupConvolution", "GroupQueryAttention", "LSTM", "LSTMSequence", "GRUSequence", "MatMul",
        "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "MultiHeadAttention", "NhwcFusedConv", "QAttention",
        "QGemm", "QLinearConv", "QLinearMatMul", "RNN", "TransposeMatMul",
    )
)  # fmt: skip
"""Operators, as runtimes call them, in which the multiply-accumulates are. The others move data."""
NEAR = 0.05
"""The share of its time by which a model may be off what its MACs tell for nothing to be said of it."""
WORTH_TELLING = 0.1
"""The share of the gap from which on a part of it is told."""
MOST_NAMED = 3


@dataclass(frozen=True)
class Work:
    """One model that was measured. ms: of a run; by_op: of operators, as a profile has them; macs: of a run.

    Both are of runs that were hardly disturbed (lower quartiles), so that they add up.

    widths: output channels of convolutions, in their order.
    """

    ms: float
    by_op: Mapping[str, float]
    macs: int
    widths: tuple[int, ...] = ()

    @property
    def outside(self) -> float:
        """Milliseconds of a run in no operator: what a runtime needs to begin and to end one."""
        return max(self.ms - sum(self.by_op.values()), 0.0)

    def spent(self, *, multiplying: bool) -> dict[str, float]:
        """Return the milliseconds of the operators that multiply, or of those that only move data."""
        return {op: ms for op, ms in self.by_op.items() if (op in MULTIPLYING) == multiplying}


@dataclass(frozen=True)
class Steps:
    """The staircase of the runtime (see `runtime.bench.Staircase`), as far as it was looked for."""

    alignment: int = 1
    block: int = 1

    def told(self, widths: Sequence[int]) -> str:
        """Return what is said of widths that are off the steps, "" where none are."""
        off = sum(width % self.alignment != 0 for width in widths)
        if self.alignment > 1 and off:
            return (
                f"{off} of {len(widths)} convolutions have widths that are no multiple of {self.alignment}, which "
                f"leave this runtime's fast kernels: `--round-to {max(self.block, self.alignment)}` avoids that"
            )
        between = sum(width > self.block and width % self.block != 0 for width in widths)
        if self.block > 1 and between:
            return (
                f"{between} of {len(widths)} convolutions have widths between two steps of {self.block}, and cost as "
                f"much as the next one: `--round-to {self.block}` avoids that"
            )
        return ""


@dataclass(frozen=True)
class Gap:
    """How much longer a model takes than its MACs tell, beside the one it was made of.

    speed_up, macs: how many times faster it is, how many times fewer MACs it has. ms: what it takes longer than the
    other's time by the MACs; parts: of that, by kind, those that are above 0. steps: see `Steps.told`.
    """

    speed_up: float
    macs: float
    ms: float
    parts: Mapping[str, float] = field(default_factory=dict)
    still: tuple[str, ...] = ()
    slower: tuple[str, ...] = ()
    steps: str = ""

    def sentences(self) -> Iterator[str]:
        """Yield what a person should know."""
        fewer = f"{self.macs:.2f}x fewer MACs" if self.macs >= 1 else f"{1 / self.macs:.2f}x more MACs"
        if self.macs >= 1.005 and abs(self.speed_up / self.macs - 1) <= NEAR:
            yield f"{self.speed_up:.2f}x as fast with {fewer}: as its MACs tell"
            return
        if self.speed_up > self.macs:
            yield f"{self.speed_up:.2f}x as fast with {fewer}: more than its MACs tell"
            return
        total = sum(self.parts.values())
        told = [
            words
            for kind, ms in sorted(self.parts.items(), key=lambda each: -each[1])
            if total and ms / total >= WORTH_TELLING and (words := self._of(kind, ms / total))
        ]
        why = f", {'; '.join(told)}" if told else ""
        yield f"{self.speed_up:.2f}x as fast with {fewer}; it takes {self.ms:.3g} ms longer than those tell{why}"
        if self.steps:
            yield self.steps

    def _of(self, kind: str, share: float) -> str:
        if kind == "moving":
            return (
                f"{share:.0%} of it in {_listed(self.still)}, which multiply nothing and shrank less: moving data is "
                "bound by memory"
            )
        if kind == "multiplying":
            return (
                f"{share:.0%} of it in {_listed(self.slower)}, which compute fewer channels at a lower rate"
            )
        return f"{share:.0%} of it outside of operators, where a run begins and ends, whatever the model is"


def gap(reference: Work, other: Work, speed_up: float, steps: Steps | None = None) -> Gap:
    """Return what there is between the speed-up and the MACs of a model, and the one it is compared with.

    speed_up: as it was measured, in turn.

    If all went by the MACs, every part of the time (an operator, what is outside of them) would shrink by their ratio
    m: t / m. What a part takes longer is its share of the gap; parts that take less do not count against others.
    """
    m = reference.macs / other.macs if other.macs and reference.macs else 1.0
    excess: dict[str, dict[str, float]] = {}
    for kind, multiplying in (("multiplying", True), ("moving", False)):
        before, after = reference.spent(multiplying=multiplying), other.spent(multiplying=multiplying)
        kinds = {op: after.get(op, 0.0) - before.get(op, 0.0) / m for op in {**before, **after}}
        excess[kind] = dict(sorted(kinds.items(), key=lambda each: (-each[1], each[0])))
    sums = {kind: sum(kinds.values()) for kind, kinds in excess.items()}
    sums["outside"] = other.outside - reference.outside / m
    return Gap(
        speed_up,
        m,
        other.ms - reference.ms / m,
        {kind: ms for kind, ms in sums.items() if ms > 0},
        _first(excess["moving"]),
        _first(excess["multiplying"]),
        "" if steps is None else steps.told(other.widths),
    )


def _first(excess: Mapping[str, float]) -> tuple[str, ...]:
    """Return the operators that take longer than they should, those that make most of it."""
    total = sum(ms for ms in excess.values() if ms > 0)
    return tuple([op for op, ms in excess.items() if ms > 0 and ms >= WORTH_TELLING * total][:MOST_NAMED])


def _listed(names: Sequence[str]) -> str:
    *most, last = names or ("operators",)
    return f"{', '.join(most)} and {last}" if most else last
