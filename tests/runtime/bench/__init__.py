"""Tests of onnx_oto.verify."""
