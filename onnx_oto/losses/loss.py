"""What a loss is: the target it needs, a subgraph, and its value in numpy. A new one is one file and one entry.

A loss is the weighted mean of one number per entry: an entry is whatever the loss counts (a label, an element), and an
entry whose label is ignored counts for nothing. A graph sees only a share of the batch and cannot know how much of the
whole counts, so it gives the *sum* over its entries times a number that it is fed: 1 / `count` of the whole batch.
Sums over shards then are the mean over the batch exactly, whichever shard the ignored labels fall into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.model import Shape
from onnx_oto.model.graph.writer import GraphWriter

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Kind = Literal["classes", "binary", "values", "nothing", "teacher-classes", "teacher-values"]

DATA = "y"
"""The target that comes from the data set. A target of any other name comes from a provider, such as a teacher."""


@dataclass(frozen=True)
class Target:
    """What must be given: `dtype` int64 or float32, `shape` of the whole batch [samples, ...].

    classes: labels lie in [0, classes); None: any numbers. ignored: the label that counts for nothing, whether it is a
    class or not. low, high: bounds of floats.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    classes: int | None = None
    ignored: int | None = None
    low: float = -np.inf
    high: float = np.inf


class Judged(NamedTuple):
    """A batch as metrics see it; all numbers float64, labels int64.

    losses [n]: the loss of every sample; weights [n]: how many of its entries count. The loss of the batch is
    sum(losses * weights) / sum(weights). prediction and target: what metrics compare, by the loss's `compares`:

    classes   scores [M, K], larger = likelier, and labels [M]; ignored ones are left out already
    binary    logits and probabilities, both [n, ...]; above 0 is a yes
    values    numbers, both [n, ...]
    nothing   None

    teacher-classes and teacher-values are the same as classes and values, but what is compared is what a teacher says.
    """

    losses: Floats
    weights: Floats
    prediction: Array | None = None
    target: Array | None = None


class Loss(Protocol):
    """A loss with its options. Immutable; an entry of the registry makes one from its options.

    Two that compute the same compare equal: by that a preparation knows whether it must be made anew.
    """

    @property
    def name(self) -> str:
        """The name in the registry."""

    @property
    def text(self) -> str:
        """One line of help."""

    @property
    def metric(self) -> str:
        """The metric that is reported when none is asked for."""

    @property
    def compares(self) -> Kind:
        """What metrics get to see (see Judged)."""

    @property
    def outputs(self) -> int:
        """How many model outputs it reads."""

    @property
    def per_sample(self) -> bool:
        """Whether the first axis of its outputs is the batch; False: an output is one number for a whole batch."""

    def activations(self, output: int) -> Mapping[str, int | None]:
        """Return operators that the loss contains itself and reads in front of, where they make its output number so.

        The axis is the one they must work over, as an axis of the output; None for elementwise ones.
        """

    def settle(self, shapes: Sequence[Shape | None], given: Mapping[str, tuple[int, ...]]) -> Loss:
        """Return the loss with what it leaves open decided.

        shapes: of the outputs, sizes may be symbols; given: shape of one sample of the targets that are known, by
        name.
        """

    def targets(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Target]:
        """Return the targets by name for outputs of these shapes.

        Raises UnsupportedError for outputs that do not suit the loss.
        """

    def append(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
        weight: str,
        samples: int,
    ) -> str:
        """Write the loss of `samples` samples and return its tensor: float32, rank 0.

        outputs, targets: names of tensors; weight: name of a float32 scalar. The value is `weight` times the sum over
        the entries that count.
        """

    def count(self, targets: Mapping[str, Array], samples: int) -> float:
        """Return how many entries of a batch count: the sum of the weights that `judge` gives."""

    def judge(self, outputs: Sequence[Array], targets: Mapping[str, Array], samples: int) -> Judged:
        """Return the loss of every sample in float64, and what metrics compare.

        Raises DataError when outputs and targets do not fit together.
        """
