"""What is said of two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnx_oto.runtime.comparing.inputs import Sizes


@dataclass(frozen=True)
class Departure:
    """How far the outputs of two models differ: at most, and relative to each output's largest magnitude."""

    max_abs: float
    max_rel: float

    def as_json(self) -> dict[str, float]:
        """Return the figures under their public names."""
        return {"max_abs": self.max_abs, "max_rel": self.max_rel}


@dataclass(frozen=True)
class Verdict:
    """Whether two models agree. max_rel is relative to each output's largest magnitude, at least FLOOR.

    runtime: what ran them, and its version. refusal: why that is not ONNX Runtime, "" when it is. sizes: of the open
    axes, as often as there were other ones. skipped: at how many sizes the full model did not run. unstable: sizes
    at which it did not give the same results again. jumping: operators in front of which the models were compared.
    inner: tensors that were compared as the outputs show too little. noise: the full model's own rounding error, where
    a difference was explained by it. trouble: what differs and where, "" when nothing does. original: how far the
    outputs were from those of the original model.
    """

    passed: bool
    max_abs: float
    max_rel: float
    samples: int
    runtime: str = ""
    refusal: str = ""
    sizes: tuple[Sizes, ...] = ()
    skipped: int = 0
    unstable: tuple[Sizes, ...] = ()
    jumping: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    noise: float = 0.0
    upcast: bool = False
    trouble: str = ""
    pieces: int = 0
    original: Departure | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the verdict under its public names; what does not apply is left out."""
        found: dict[str, Any] = {
            "passed": self.passed,
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
            "samples": self.samples,
            "runtime": self.runtime,
            "sizes": [dict(sizes) for sizes in self.sizes if sizes],
            "skipped": self.skipped,
        }
        further: Mapping[str, Any] = {
            "refused_by_onnxruntime": self.refusal,
            "not_repeatable": [dict(sizes) for sizes in self.unstable],
            "compared_in_front_of": list(self.jumping),
            "inner_tensors": list(self.inner),
            "noise": self.noise,
            "upcast": "bfloat16 as float32" if self.upcast else "",
            "differs": self.trouble,
            "pieces": self.pieces,
        }
        return {**found, **{name: value for name, value in further.items() if value}}


def size_text(sizes: Sizes) -> str:
    """Return sizes for people.

    >>> size_text({"N": 3, "T": 5}), size_text({})
    ('N=3, T=5', 'fixed sizes')
    """
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "fixed sizes"
