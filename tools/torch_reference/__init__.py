"""Training here against training in PyTorch, from the same weights, on the same batches.

`theirs` runs in an environment with torch: it builds a network, exports it, and takes its gradients and steps in
float32 and in float64. `ours` runs in the project's environment on the exported file. They exchange files in one
folder: model.onnx, facts.json, and for every batch batch-I.npz (input, target), theirs-I.npz and ours-I.npz. `measure`
compares them, `table` writes the page.
"""
