"""`python -m onnx_oto`."""

from onnx_oto.cli import main

main()
