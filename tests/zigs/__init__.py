"""Tests of onnx_oto.zigs."""
