"""The sweep: inspect and prune every model of a folder, one row each.

`__main__` is the parent: it starts one process per model (`probe`), so that a crash, a hang or a memory leak costs
one row. `pair` compares two model files with nothing but numpy and onnxruntime, for a stock environment; when NAME.npz
lies beside NAME.onnx ("i|input" -> array of that input in feed i) also on its feeds.
"""
