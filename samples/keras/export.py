"""Train a small classifier of signals in Keras, export it as ONNX, and write the signals."""

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((64, 2), name="signal"),
        layers.Conv1D(32, 5, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling1D(2),
        layers.Conv1D(48, 5, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.GlobalAveragePooling1D(),
        layers.Dense(32, activation="relu"),
        layers.Dense(4, activation="softmax"),
    ]
)

rng = np.random.default_rng(0)
labels = rng.integers(0, 4, 2000)
time = np.arange(64)[None, :, None]
speed = (0.2 + 0.25 * labels)[:, None, None] * (1, 1.5)
x = (
    np.sin(time * speed + rng.uniform(0, 6, (2000, 1, 2))) + 0.8 * rng.standard_normal((2000, 64, 2))
).astype(np.float32)
np.savez("data.npz", x_train=x[:1600], y_train=labels[:1600], x_test=x[1600:], y_test=labels[1600:])

model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x[:1600], labels[:1600], batch_size=32, epochs=8, verbose=2)
model.export("model.onnx", format="onnx", verbose=False)
