"""The verbs, composed of the floors below: a module for each, and options.py, what each is asked for.

This face stays empty: it would hide the modules `prune`, `train` and `demo`, and load all of them for the options.
The front door is `onnx_oto` itself.
"""
