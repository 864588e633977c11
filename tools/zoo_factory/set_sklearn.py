"""scikit-learn: estimators fitted to made-up data, converted by skl2onnx. Mostly models without channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo_factory.options import Options

FEATURES, CLASSES, SAMPLES = 12, 3, 200
NAMES = [
    "mlp_classifier",
    "mlp_regressor",
    "scaler_pca_mlp",
    "logistic_regression",
    "ridge",
    "random_forest",
    "gradient_boosting",
    "svc",
    "k_neighbors",
    "k_means",
    "gaussian_nb",
    "gaussian_process",
    "voting_with_mlp",
]


def names() -> list[str]:
    """Return the names, those with layers first."""
    return list(NAMES)


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Fit and write one estimator."""
    from skl2onnx import to_onnx

    rng = np.random.default_rng(options.seed)
    x = rng.standard_normal((SAMPLES, FEATURES)).astype(np.float32)
    y = (x[:, :CLASSES] + 0.5 * rng.standard_normal((SAMPLES, CLASSES))).argmax(1)
    estimator = _estimator(name, options.seed)
    target = (
        x @ rng.standard_normal(FEATURES) if name in ("mlp_regressor", "ridge", "gaussian_process") else y
    )
    estimator.fit(x, target)
    model = to_onnx(estimator, x[:1], target_opset={"": 18, "ai.onnx.ml": 3})
    path.write_bytes(model.SerializeToString())
    return {"batch": "dynamic"}


def _estimator(name: str, seed: int) -> Any:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    layers = {"hidden_layer_sizes": (48, 32, 16), "max_iter": 20, "random_state": seed}
    made = {
        "mlp_classifier": lambda: MLPClassifier(**layers),
        "mlp_regressor": lambda: MLPRegressor(**layers, activation="tanh"),
        "scaler_pca_mlp": lambda: make_pipeline(StandardScaler(), PCA(8), MLPClassifier(**layers)),
        "logistic_regression": lambda: LogisticRegression(),
        "ridge": lambda: Ridge(),
        "random_forest": lambda: RandomForestClassifier(10, random_state=seed),
        "gradient_boosting": lambda: GradientBoostingClassifier(n_estimators=10, random_state=seed),
        "svc": lambda: SVC(),
        "k_neighbors": lambda: KNeighborsClassifier(),
        "k_means": lambda: KMeans(4, random_state=seed, n_init=2),
        "gaussian_nb": lambda: GaussianNB(),
        "gaussian_process": lambda: GaussianProcessRegressor(),
        "voting_with_mlp": lambda: VotingClassifier(
            [("mlp", MLPClassifier(**layers)), ("linear", LogisticRegression())],
            voting="soft",
            flatten_transform=False,
        ),
    }
    return made[name]()
