"""The six networks of the OTOv2 paper (arXiv 2303.06862), each with its recipe, as one command: `tools/paper`.

`net` grows an ONNX graph, `starts` gives parameters their first values, a file for each family describes networks, and
`networks` lists them. `recipes` reads samples/*.toml, `small` says what a reduced run has, `runs` trains and keeps a
line of JSON for each run, `table` prints them. `check` compares the networks with PyTorch's, where torch is.
"""
