"""Tests of onnx_oto.surgery."""
