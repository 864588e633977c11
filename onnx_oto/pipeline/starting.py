"""Whether a model comes trained: by its labels, by the spread of its outputs, and by its weights.

Three witnesses, on training samples that are not augmented:

- Labels. A metric against the best answer that knows no input (the most frequent class, the median of the targets), in
  CHUNKS parts of the samples: above chance is by more than ERRORS standard errors of the difference.
- Spread, where there are no labels: of the variance of the outputs, the share between samples (outputs of fresh
  networks hardly depend on what they are fed). Trained is at least TIMES the largest share of the same model with the
  elements of every parameter shuffled.
- Weights: see `zigs.structure`. Of all measures it was the only one that told every model right. So it decides where
  the others do not tell or contradict it, and that is said. But weights may be too few to tell: a model with weights
  that look random comes trained all the same if it is better than chance, and so much better than with its parameters
  shuffled that no luck explains it.

What labels cannot say is asked of the spread: where the loss compares with nothing, or with a teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto import data
from onnx_oto.data.splitting import Chosen
from onnx_oto.losses import Judged, Kind, Loss
from onnx_oto.metrics import Metric, metrics_for
from onnx_oto.metrics.metric import compared
from onnx_oto.model.graph.tensors import to_array
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.finishing import predictor, reading, served_lean, with_weights
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.start_options import PLAN, Start
from onnx_oto.runtime.runner import first_line
from onnx_oto.runtime.timing import TROUBLES
from onnx_oto.training.evaluate import Provider, gather
from onnx_oto.zigs.structure import shuffled, structure

Array = npt.NDArray[Any]
Predict = Callable[[Mapping[str, Array]], Sequence[Array]]

CHUNKS, CHUNK = 8, 64
ERRORS = 3.0
TIMES = 2.5
OTHERS = 4
"""So often parameters are shuffled for comparison."""
FEW = 64
"""Samples whose outputs are compared."""
ELEMENTS = 1 << 24
"""So many numbers of outputs and targets are held at once."""
BATCH = 16
FEW_STEPS = 10
"""Steps in which groups shrink below which a person is warned."""
_METRICS: dict[Kind, str] = {"classes": "accuracy", "binary": "accuracy", "values": "mae"}
"""By what the loss compares: the metric for which the best constant answer is known."""


@dataclass(frozen=True)
class Found:
    """How a model comes, and a sentence that says why."""

    start: Start
    evidence: str

    def told(self) -> str:
        """Return it in words."""
        return f"the model comes {'trained' if self.start == 'trained' else 'from scratch'}: {self.evidence}"


def set_by_start(given: TrainOptions, options: TrainOptions) -> str:
    """Return what the state of the model decided of the options, those that were given apart, in words."""
    parts = []
    if given.lr is None:
        parts.append(f"learning rate {options.learning_rate:g}")
    if given.schedule is None:
        parts.append(f"schedule {options.pace().schedule}")
    if given.warm_up is None:
        parts.append(f"warm-up {options.pace().warm_up:.0%}")
    if options.cuts_first and given.optimizer != options.optimizer:
        parts.append("groups go before the first step, and what reads them is fitted anew")
    elif options.prunes and not PLAN & given.optimizer_options.keys():
        observe, shrink = (options.optimizer_options.get(f"plan_{name}") for name in ("observe", "shrink"))
        if observe is not None:
            how = "go at once" if shrink is None else f"shrink over {shrink:.0%}"
            parts.append(f"groups are chosen after {observe:.0%} of the steps and {how}")
    return ", ".join(parts) or "all that depends on it was given"


def cautions(options: TrainOptions, steps: int, *, unlabelled: bool, scaled: bool) -> Iterator[str]:
    """Yield what a person should look at before the first of so many steps. options: resolved.

    unlabelled: whether all that is learned is what a teacher says. scaled: whether pixels become numbers from 0 to 1.
    """
    if unlabelled and scaled and options.from_ == "trained" and not (options.mean or options.std):
        yield (
            "the model gets pixels as numbers from 0 to 1: if it was trained on others, give --mean and --std, since "
            "without labels no metric will tell"
        )
    share = options.optimizer_options.get("plan_shrink")
    if (
        options.prunes
        and share is not None
        and options.share != 0
        and (shrink := int(steps * share)) < FEW_STEPS
    ):
        yield (
            f"warning: groups shrink within {shrink} of {steps} steps, which is sudden: take more --epochs, a "
            "smaller --batch or a larger --plan-shrink"
        )


@dataclass(frozen=True)
class Witness:
    """What labels or outputs say. trained: None where they do not tell. sure: whatever the weights say."""

    trained: bool | None
    words: str
    sure: bool = False


def find_start(
    opened: Opened,
    trained: Sequence[str],
    serving: Serving,
    outputs: Sequence[str],
    loss: Loss,
    source: data.Source,
    *,
    providers: Sequence[Provider] = (),
    seed: int = 0,
) -> Found:
    """Return how the model comes. trained: the names of its parameters. loss: settled. source: of training data."""
    weights = _weights(opened.master, trained)
    excess = structure(weights.values(), np.random.default_rng(seed))

    def run(values: Mapping[str, Array] | None = None) -> Predict:
        model = opened.master if values is None else with_weights(opened.master, values)
        return predictor(reading(served_lean(model, outputs, serving), outputs, loss))

    def others() -> Iterator[Predict]:  # one is open at a time
        for number in range(OTHERS):
            rng = np.random.default_rng((seed, number))
            yield run({name: shuffled(value, rng) for name, value in weights.items()})

    try:
        if loss.compares in _METRICS:
            samples = _drawn(source, _affordable(run(), source), seed)
            witness = by_labels(run(), samples, loss, providers)
            if witness.trained and excess is not None and excess <= 0:
                witness = by_labels(run(), samples, loss, providers, others())
        elif not loss.per_sample:
            witness = Witness(None, f"the loss {loss.name!r} says nothing of single samples")
        else:
            witness = by_spread(run(), others(), _drawn(source, FEW, seed))
    except TROUBLES as error:
        witness = Witness(None, f"what it computes cannot be looked at ({first_line(error)})")
    return verdict(witness, excess)


def verdict(witness: Witness, excess: float | None) -> Found:
    """Return what follows from both. excess: of the weights, see `structure`."""
    learned = None if excess is None else excess > 0
    if learned is None:
        known = bool(witness.trained)
        return Found("trained" if known else "scratch", f"{witness.words}; its weights are too small to tell")
    if witness.sure and witness.trained:
        return Found("trained", witness.words)
    state: Start = "trained" if learned else "scratch"
    weights = "its weights are not random" if learned else "its weights look random"
    if witness.trained is learned:
        return Found(state, witness.words)
    if witness.trained is None:
        return Found(state, f"{weights}, though {witness.words}")
    way_out = "; if that is wrong, --from says so"
    if learned:
        way_out = "; look at --mean, --std and the labels if it should be better, or say --from scratch"
    return Found(state, f"{weights}, which contradicts {witness.words}{way_out}")


def by_labels(
    predict: Predict,
    source: data.Source,
    loss: Loss,
    providers: Sequence[Provider] = (),
    others: Iterable[Predict] = (),
) -> Witness:
    """Return whether a model is better than the best constant answer on samples with labels.

    others: with which it is compared too: it must be better than any of them by as much as they differ.
    """
    metric = metrics_for(loss, (_METRICS[loss.compares],))[0]
    sign = 1 if metric.better == "higher" else -1
    rows = np.array_split(np.arange(len(source)), min(CHUNKS, len(source)))

    def judged(by: Predict) -> list[Judged]:
        parts = (source.batch(each, None) for each in rows)
        return [loss.judge(_ran(by, part), gather(part, providers), len(part.rows)) for part in parts]

    def values(of: Sequence[Judged]) -> Array:
        return np.array([_value(metric, each) for each in of])

    answers = judged(predict)
    own, chance = values(answers), values(_constant(answers, loss.compares))
    sizes = [len(each) for each in rows]
    mean, guessed = (float(np.average(each, weights=sizes)) for each in (own, chance))
    words = f"{metric.name} {mean:.4g} against {guessed:.4g} by chance on {len(source)} training samples"
    gain = sign * (own - chance)
    if not np.isfinite(gain).all() or len(gain) < 2:
        return Witness(None, words)
    above = bool(gain.mean() > max(ERRORS * gain.std(ddof=1) / np.sqrt(len(gain)), 0.0))
    drawn = sorted(sign * float(values(judged(each)).mean()) for each in others)
    if not drawn:
        return Witness(above, words)
    beyond = bool(sign * own.mean() > 2 * drawn[-1] - drawn[0])
    return Witness(
        above and beyond, f"{words}, {sign * drawn[-1]:.4g} with its parameters shuffled", sure=beyond
    )


def _affordable(predict: Predict, source: data.Source) -> int:
    """Return how many samples can be held with all that is said of them."""
    one = source.batch(np.arange(1), None)
    held = sum(array.size for array in (*predict(one.inputs), *one.targets.values()))
    return int(min(max(ELEMENTS // max(held, 1), 2 * CHUNKS), CHUNKS * CHUNK))


def _ran(predict: Predict, part: data.Batch) -> list[Array]:
    """Return the outputs of a batch, computed a few samples at a time."""
    count = len(part.rows)
    runs = [
        predict({name: array[start : start + BATCH] for name, array in part.inputs.items()})
        for start in range(0, count, BATCH)
    ]
    return [np.concatenate(each) for each in zip(*runs, strict=True)]


def _value(metric: Metric, judged: Judged) -> float:
    tally = metric.start()
    tally.add(judged)
    return tally.value


def _constant(judged: Sequence[Judged], kind: Kind) -> list[Judged]:
    """Return the same with the best prediction that is the same for all samples.

    Of classes the most frequent one, of answers the more frequent one, of numbers the median over the samples; one for
    all places where samples have other sizes.
    """
    targets = [compared(each)[1] for each in judged]
    if len({target.shape[1:] for target in targets}) > 1:
        targets = [target.reshape(-1) for target in targets]
    if kind == "classes":
        width = compared(judged[0])[0].shape[1]
        best = np.bincount(np.concatenate(targets), minlength=width)[:width].astype(np.float64)
    elif kind == "binary":
        best = np.concatenate(targets).mean(0) - 0.5
    else:
        best = np.median(np.concatenate(targets), axis=0)
    return [each._replace(prediction=np.broadcast_to(best, compared(each)[0].shape)) for each in judged]


def by_spread(predict: Predict, others: Iterable[Predict], source: data.Source) -> Witness:
    """Return whether outputs differ from sample to sample by more than they would by chance."""
    part = source.batch(np.arange(len(source)), None)
    own = spread(_ran(predict, part))
    chance = max(spread(_ran(each, part)) for each in others)
    words = f"{own:.1%} of the variance of its outputs is between samples, {chance:.1%} with its parameters shuffled"
    return Witness(True if own >= TIMES * chance and own > 0 else None, words)


def spread(outputs: Sequence[Array]) -> float:
    """Return the share of the variance of outputs that is between samples, 0 to 1; their mean over several outputs.

    >>> float(spread([np.array([[0.0, 1.0], [0.0, 1.0]])])), float(spread([np.array([[0.0, 0.0], [1.0, 1.0]])]))
    (0.0, 1.0)
    """
    found = []
    for output in outputs:
        flat = output.reshape(len(output), -1).astype(np.float64)
        whole = np.square(flat - flat.mean()).mean()
        between = np.square(flat - flat.mean(0)).mean()
        found.append(between / whole if np.isfinite(whole) and whole > 0 else 0.0)
    return float(np.mean(found))


def _weights(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, Array]:
    wanted = set(names)
    return {each.name: to_array(each) for each in model.graph.initializer if each.name in wanted}


def _drawn(source: data.Source, most: int, seed: int) -> data.Source:
    """Return at most so many samples, drawn at random."""
    count = len(source)
    rows = np.random.default_rng((seed, count)).permutation(count)[:most]
    return Chosen(source, np.sort(rows))
