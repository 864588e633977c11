"""Running models, in a process of its own: whatever a stranger's graph does there, this one goes on.

This face stays empty, so that the process starts fast: it imports `runtime.child`, which needs no onnx.
"""
