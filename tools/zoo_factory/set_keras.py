"""Keras on TensorFlow: the application models and small networks, converted by tf2onnx (channels last).

Left out because tf2onnx cannot convert them: grouped convolutions (so ConvNeXt), and GELU by the error function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo_factory.options import Options

APPLICATIONS = {
    "MobileNetV2": 96,
    "ResNet50": 96,
    "EfficientNetB0": 96,
    "DenseNet121": 96,
    "MobileNetV3Small": 96,
    "EfficientNetV2B0": 96,
    "ResNet50V2": 96,
    "InceptionV3": 128,
    "Xception": 96,
    "NASNetMobile": 224,
    "MobileNet": 96,
    "VGG16": 96,
}
SMALL = ("unet", "text_lstm", "text_bigru", "transformer", "conv1d", "separable", "gru_keeps", "group_norm")
OPSET = 17


def names() -> list[str]:
    """Return the names, small networks first."""
    return [*SMALL, *APPLICATIONS]


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one model with random weights."""
    import keras
    import tensorflow as tf
    import tf2onnx

    keras.utils.set_random_seed(options.seed)
    if name in APPLICATIONS:
        side = APPLICATIONS[name]
        model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=20)
    else:
        model = _small(name)
    _randomise(model, options.seed)
    _calibrate(model)
    source = model.inputs[0]
    batch = 2 if options.static else None
    spec = (tf.TensorSpec((batch, *source.shape[1:]), source.dtype, name="input"),)
    function = tf.function(lambda input: model(input, training=False), input_signature=spec)
    tf2onnx.convert.from_function(function, input_signature=spec, opset=OPSET, output_path=str(path))
    return {"batch": "static" if options.static else "dynamic"}


def _small(name: str) -> Any:
    import keras
    from keras import layers

    if name == "unet":
        return _unet()
    if name == "transformer":
        return _transformer()
    image, ids, wave = (keras.Input(shape) for shape in ((32, 32, 3), (12,), (40, 8)))
    networks = {
        "text_lstm": (ids, [layers.Embedding(90, 16), layers.LSTM(24), layers.Dense(5)]),
        "text_bigru": (
            ids,
            [layers.Embedding(90, 16), layers.Bidirectional(layers.GRU(24)), layers.Dense(5)],
        ),
        "gru_keeps": (
            wave,
            [
                layers.GRU(24, return_sequences=True),
                layers.LSTM(16, return_sequences=True),
                layers.TimeDistributed(layers.Dense(5)),
            ],
        ),
        "conv1d": (
            wave,
            [
                layers.Conv1D(16, 3, padding="causal"),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv1D(24, 3, strides=2, activation="elu"),
                layers.GlobalMaxPooling1D(),
                layers.Dense(5),
            ],
        ),
        "separable": (
            image,
            [
                layers.SeparableConv2D(16, 3, padding="same", activation="relu6"),
                layers.BatchNormalization(),
                layers.DepthwiseConv2D(3, strides=2, padding="same", activation="swish"),
                layers.Conv2D(24, 1),
                layers.LeakyReLU(),
                layers.Flatten(),
                layers.Dense(32, activation=_gelu),
                layers.Dense(5, activation="softmax"),
            ],
        ),
        "group_norm": (
            image,
            [
                layers.Conv2D(16, 3, strides=2, activation="relu"),
                layers.Conv2D(24, 3, activation="selu"),
                layers.GroupNormalization(4),
                layers.PReLU(shared_axes=[1, 2]),
                layers.GlobalAveragePooling2D(),
                layers.LayerNormalization(),
                layers.Dense(5),
            ],
        ),
    }
    start, chain = networks[name]
    return keras.Model(start, keras.Sequential(chain)(start))


def _gelu(x: Any) -> Any:
    import keras

    return keras.activations.gelu(x, approximate=True)


def _unet() -> Any:
    import keras
    from keras import layers

    start = keras.Input((32, 32, 3))
    a = layers.Conv2D(8, 3, padding="same", activation="relu")(start)
    b = layers.Conv2D(16, 3, padding="same")(layers.MaxPooling2D()(a))
    b = layers.Activation("relu")(layers.BatchNormalization()(b))
    c = layers.Conv2DTranspose(8, 2, strides=2)(b)
    d = layers.Concatenate()([a, c])
    e = layers.Add()([layers.Conv2D(16, 1)(d), layers.UpSampling2D()(b)])
    return keras.Model(start, layers.Conv2D(2, 1, activation="sigmoid")(e))


def _transformer() -> Any:
    import keras
    from keras import layers

    start = keras.Input((12,))
    x = layers.Embedding(90, 32)(start)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 8)(y, y)])
        y = layers.Dense(64, activation=_gelu)(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(32)(y)])
    return keras.Model(start, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def _randomise(model: Any, seed: int) -> None:
    """Replace weights whose elements are all equal: c by c * uniform(0.5, 1.5), zero by normal(0, 0.05)."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = np.asarray(weight)
        if value.dtype.kind != "f" or value.size == 0 or not (value == value.flat[0]).all():
            continue
        first = float(value.flat[0])
        scale = first if abs(first) >= 0.1 else 0.1
        noise = (
            0.05 * rng.standard_normal(value.shape)
            if first == 0
            else scale * rng.uniform(0.5, 1.5, value.shape)
        )
        weight.assign(noise.astype(value.dtype))


def _calibrate(model: Any) -> None:
    """Set running statistics to those of one random batch."""
    import keras

    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        shape = (4, *model.inputs[0].shape[1:])
        model(np.random.default_rng(0).standard_normal(shape).astype(np.float32), training=True)
