"""Which models can be trained: each takes some steps on one small batch, through `onnx-oto train`.

`__main__` goes over the models and keeps the rows, `probe` tries one model in a process of its own, `forks` makes that
quick, `batch` draws inputs and targets for it, `collection` names the models, `table` writes the page.
"""
