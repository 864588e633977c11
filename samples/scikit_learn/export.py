"""Train a multi-layer perceptron with scikit-learn, export it by skl2onnx, and write the table it was trained on."""

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

x, y = load_digits(return_X_y=True)
x = (x / 16).astype(np.float32)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0)
network = MLPClassifier((128, 64), random_state=0, max_iter=60, early_stopping=True).fit(x_train, y_train)
print(f"accuracy {network.score(x_test, y_test):.4f}")

# Without zipmap the probabilities are a tensor, and can be learned from; with it a list of dictionaries.
model = to_onnx(network, x[:1], options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3})
with open("model.onnx", "wb") as file:
    file.write(model.SerializeToString())
np.savez("data.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
