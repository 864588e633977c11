"""The published DHSPG (only-train-once 2.0.16) beside ours, on the same network and batches.

`network` builds a small network in PyTorch, and says which slices of its parameters are one group. `theirs` holds the
package's optimizer, `ours` the optimizers of `onnx_oto.optim` over a flat copy of the same parameters. `compare` runs
both and prints how far apart they are after every step; `timing` how long steps take. All of these run where torch is.
"""
