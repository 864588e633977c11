"""Static quantization by onnxruntime's own quantizer, in the process that models run in.

A model passes three stations: `prepared` (onnxruntime folds norms into convolutions, and constants), `ranges_of` (what
its tensors span on samples), and `quantized`, which may be asked again and again for other layers. Nothing is kept in
the process between them.
"""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.errors import RuntimeMissingError, UnsupportedError
from onnx_oto.model.files.loading import runnable_bytes
from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.graph.order import check_and_sort, drop_dead
from onnx_oto.runtime.limits import Allowance, allowance
from onnx_oto.runtime.runner import first_line, forms
from onnx_oto.runtime.schemes import Scheme
from onnx_oto.runtime.worker import JobFailed, shared

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Ranges = Mapping[str, tuple[float, float]]
P = ParamSpec("P")
Result = TypeVar("Result")

FIRST_OPSET = 13
"""The first opset whose DequantizeLinear has a scale for every channel."""
_NOTES = "onnx.quant."
"""Keys of the metadata by which stations of the quantizer tell each other what was done."""
_LOADING = 60.0
"""Seconds that the quantizer may take to be loaded, on a busy machine: that is no fault of the model."""
_ROUNDS = 8
"""How many times as long as one run quantizing may take: it reads, writes and checks the model in Python."""


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of the same function as the quantizer wants it: opset 13 at least, norms folded, nodes named.

    Raises UnsupportedError with the reason where there is none, LimitError and CrashedError.
    """
    if opset_of(model) < FIRST_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, FIRST_OPSET)
        except Exception as error:  # whatever onnx's converters raise
            raise UnsupportedError(
                f"a scale for every channel needs opset {FIRST_OPSET}, and onnx cannot convert the model to that: "
                f"{first_line(error)}"
            ) from error
    *newer, last = forms(model)  # a runtime may know all of an opset but its number
    for form in newer:
        with contextlib.suppress(UnsupportedError):
            return _prepared(form)
    return _prepared(last)


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    content = runnable_bytes(model, for_people=False)
    result = onnx.load_from_string(bytes(_asked(_allowed(len(content), 0), _prepare, _sent(content))))
    _drop_unused_domains(result)
    for number, node in enumerate(result.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return result


def ranges_of(
    model: onnx.ModelProto, batches: Sequence[Arrays], scheme: Scheme
) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest value of every float tensor on these inputs, by name.

    Raises UnsupportedError where the model cannot be run with its inner tensors as outputs, LimitError, CrashedError.
    """
    content = runnable_bytes(model, for_people=False)
    fed = sum(array.nbytes for batch in batches for array in batch.values())
    one = _allowed(len(content), fed)
    allowed = one._replace(seconds=one.seconds * (1 + len(batches)))
    return _asked(allowed, _watch, _sent(content), [dict(each) for each in batches], scheme.symmetric)


def quantized(
    model: onnx.ModelProto,
    ranges: Ranges,
    scheme: Scheme,
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
) -> onnx.ModelProto:
    """Return a prepared model with QuantizeLinear and DequantizeLinear around what the quantizer knows.

    only: nodes that are quantized alone, all that it knows if there are none; without: nodes that are not. Raises
    UnsupportedError with the reason where it cannot, LimitError, CrashedError.
    """
    content = runnable_bytes(model, for_people=False)
    made = _asked(
        _allowed(_ROUNDS * len(content), 0),
        _quantize,
        _sent(content),
        dict(ranges),
        scheme,
        sorted(only),
        sorted(without),
        _wide_enough(model, ranges, scheme) if scheme.biases else {},
    )
    result = onnx.load_from_string(bytes(made))
    check_and_sort(result)
    drop_dead(result.graph)
    _drop_unused_domains(result)
    del result.metadata_props[:]
    result.metadata_props.extend(each for each in model.metadata_props if not each.key.startswith(_NOTES))
    del result.graph.value_info[:]  # of tensors that have other types now
    return result


def adds_up_in_16_bits() -> bool:
    """Return whether this processor's integer products saturate: then weights need to be of 7 bits.

    Without VNNI x86 adds products of uint8 and int8 up in pairs of 16 bits. Nobody asks what the processor is called:
    onnxruntime multiplies numbers whose pairs do not fit, and says what it gets.
    """
    return _asked(_allowed(0, 0), _saturates)


def quantizable() -> frozenset[str]:
    """Return the operators that the quantizer knows."""
    return frozenset(_asked(_allowed(0, 0), _known))


def _allowed(weights: int, fed: int) -> Allowance:
    one = allowance(weights=shared().held_bytes + weights, fed=fed)
    return one._replace(seconds=one.seconds + _LOADING)


def _asked(allowed: Allowance, job: Callable[P, Result], *arguments: P.args, **named: P.kwargs) -> Result:
    """Return what a job gives. Raises UnsupportedError with what the quantizer said where it raised."""
    try:
        return shared().call(allowed, job, *arguments, **named)
    except JobFailed as error:
        raise UnsupportedError(f"onnxruntime cannot quantize the model: {first_line(error)}") from error


def _wide_enough(model: onnx.ModelProto, ranges: Ranges, scheme: Scheme) -> dict[str, list[dict[str, Any]]]:
    """Return, by weight, the range of every channel whose bias would not fit into int32 under the weight's own.

    A bias is stored in units of scale(input) * scale(weight). Of a channel that is (next to) dead, with nothing but a
    constant left, the second is tiny, and the quantizer of onnxruntime 1.19 lets what does not fit overflow: 80
    channels of EfficientNet-Lite0 had another sign then. Such a weight, which is next to nothing, gets a wider range.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, Array] = {}
    axes: dict[str, int] = {}
    for node in model.graph.node:
        axis = _channel_axis(node)
        if axis is None or len(node.input) < 3 or node.input[0] not in ranges:
            continue
        if node.input[1] not in constants or node.input[2] not in constants:
            continue
        weight, bias = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        if bias.shape != (weight.shape[axis],):
            continue
        low, high = ranges[node.input[0]]
        unit = max(max(high, 0.0) - min(low, 0.0), float(np.finfo(np.float32).tiny)) / _CODES
        needed = _MARGIN * _CODES / 2 * np.abs(bias.astype(np.float64)) / (unit * 2.0**31)
        own = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis))
        if (needed > own).any():
            name = node.input[1]
            axes[name] = axis
            found[name] = np.maximum(found.get(name, 0.0), np.where(needed > own, needed, 0.0))
    return {
        name: [
            {"axis": axes[name]} | ({"rmin": np.float32(-each), "rmax": np.float32(each)} if each else {})
            for each in limits
        ]
        for name, limits in found.items()
    }


_CODES = 255
_MARGIN = 4
"""How many times as wide a range is as it must be: 7 bits, symmetric ranges and rounding need a little more."""


def _channel_axis(node: onnx.NodeProto) -> int | None:
    """Return the axis of a weight that the quantizer gives a scale for each position of, None for other nodes."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = any(each.name == "transB" and each.i for each in node.attribute)
        return 0 if transposed else 1
    return None


def _sent(content: bytes) -> Any:
    """Return bytes as they travel to the process without being copied."""
    return pickle.PickleBuffer(content)


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    """Leave the opsets of those domains alone that nodes are of, in place: onnxruntime writes down all it knows."""
    used = {node.domain for node in model.graph.node} | {
        node.domain for f in model.functions for node in f.node
    }
    kept = [each for each in model.opset_import if each.domain in ("", "ai.onnx") or each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


# --- jobs -----------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Tell what is missing where a part of the quantizer does not load."""
    try:
        yield
    except ImportError as error:
        raise RuntimeMissingError(
            f"ONNX Runtime's quantizer does not load ({error}): run `pip install 'onnx-oto[cpu]' sympy`"
        ) from error


def _prepare(content: bytes) -> bytes:
    with _loading():
        from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="onnx-oto-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(bytes(content))
        quant_pre_process(str(before), str(after), skip_symbolic_shape=True)
        return after.read_bytes()


def _watch(content: bytes, batches: Sequence[Arrays], symmetric: bool) -> dict[str, tuple[float, float]]:
    with _loading():
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    with tempfile.TemporaryDirectory(prefix="onnx-oto-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(bytes(content))
        calibrator = create_calibrator(
            path,
            None,
            augmented_model_path=str(Path(folder) / "watched.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"symmetric": symmetric},
        )
        calibrator.collect_data(_Batches(batches))
        found = calibrator.compute_data()
    return {name: _range(found[name]) for name in found}


class _Batches:
    """The batches as onnxruntime's calibrators read them."""

    def __init__(self, batches: Sequence[Arrays]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        """Return the next batch, None after the last."""
        batch = next(self._left, None)
        return None if batch is None else dict(batch)


def _range(found: Any) -> tuple[float, float]:
    low, high = (float(np.asarray(each).reshape(-1)[0]) for each in found.range_value)
    return low, high


def _quantize(
    content: bytes,
    ranges: Ranges,
    scheme: Scheme,
    only: Sequence[str],
    without: Sequence[str],
    overrides: dict[str, list[dict[str, Any]]],
) -> bytes:
    with _loading():
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

    spans = {name: tuple(np.float32(each) for each in pair) for name, pair in ranges.items()}
    quantizer = QDQQuantizer(
        save_and_reload_model_with_shape_infer(onnx.load_from_string(bytes(content))),
        True,
        scheme.reduced,
        QuantType.QInt8,
        QuantType.QUInt8 if scheme.activations == "uint8" else QuantType.QInt8,
        TensorsData(CalibrationMethod.MinMax, spans),
        list(only),
        list(without),
        _known(),
        {
            "ActivationSymmetric": scheme.symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": scheme.biases,
            "TensorQuantOverrides": overrides,
        },
    )
    quantizer.quantize_model()
    result: bytes = quantizer.model.model.SerializeToString()
    return result


def _known() -> list[str]:
    with _loading():
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry})


_SUMMED = 64
"""Channels that the probe sums over, each of them 255 * 127: two no longer fit into 16 bits."""


def _saturates() -> bool:
    """Return whether a product of the largest numbers is not what onnxruntime gets."""
    import onnxruntime

    weight = numpy_helper.from_array(np.full((_SUMMED, 16), 127, np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [4, _SUMMED])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [4, 16])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((4, _SUMMED), 255, np.uint8)})
    return bool((np.asarray(found) != 255 * 127 * _SUMMED).any())
