"""Metrics: how good predictions are, in figures that people compare. numpy alone, batch by batch.

metric.py      the seam: Metric, Tally
metrics.py     the metrics by name
accuracy.py, counts.py, images.py, loss.py, regression.py
"""

from onnx_oto.metrics.metric import Better, Metric, Tally
from onnx_oto.metrics.metrics import ALIASES, METRICS, make, metrics_for

__all__ = ["ALIASES", "METRICS", "Better", "Metric", "Tally", "make", "metrics_for"]
