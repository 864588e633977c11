"""`python -m onnx_oto`."""

try:
    from onnx_oto.cli import main
except KeyboardInterrupt:
    raise SystemExit(130) from None

if __name__ == "__main__":  # whoever documents the package imports this too
    main()
