"""The int8 model at the end of a run."""

from __future__ import annotations

from onnx_oto.model import load
from onnx_oto.pipeline.folder import COMPACT, INT8, RunFolder
from onnx_oto.pipeline.int8.beside import REFUSALS, write_int8
from onnx_oto.pipeline.int8.judging import Sight
from onnx_oto.pipeline.int8.making import parted
from onnx_oto.pipeline.int8.result import Int8
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.ready import Ready, Say
from onnx_oto.pipeline.result import Gain
from onnx_oto.runtime.limits import UNLIMITED


def int8_of_run(
    ready: Ready, options: TrainOptions, folder: RunFolder, gain: Gain, say: Say
) -> tuple[Int8 | None, Exception | None]:
    """Write the int8 form of the compact model, and return what is told of it, or why there is none."""
    aim = ready.aim
    sight = Sight(
        ready.serving,
        aim.outputs,
        aim.loss,
        tuple(options.metric),
        UNLIMITED,
        ready.providers,
        options.loaders,
    )
    samples = parted(ready.dataset, ready.reported, options.int8_samples, options.seed)
    say("quantizing, calibrated on training samples")
    try:
        compact = load(folder.path / COMPACT)
        place, written = folder.place(INT8), gain.summary.size.after
        return write_int8(
            compact, place, written, sight, samples, options, say, is_timed=not options.skip_latency
        ), None
    except REFUSALS as error:
        return None, error
