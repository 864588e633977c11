"""`python -m onnx_oto`."""

try:
    from onnx_oto.cli import main
except KeyboardInterrupt:
    raise SystemExit(130) from None

main()
