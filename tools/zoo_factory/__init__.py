"""The model factory: ONNX files from many frameworks, each made in an environment of its own.

Nothing here is part of the product. `__main__` and `environments` need only the standard library; `worker` runs
inside a framework's environment and imports one `set_*` module, which states two functions:

    names() -> list[str]                             what can be made, most wanted first
    make(name, path, options) -> dict[str, object]   write one model, return what is worth noting
"""
