"""Tests of onnx_oto.lanes."""
