"""How text from outside is shown: see `onnx_oto.text`."""

from __future__ import annotations

from onnx_oto.text import CUT, LONG_WORD, MOST_LINE, MOST_WORD, UNSEEN, lasting, shown

__all__ = ["CUT", "LONG_WORD", "MOST_LINE", "MOST_WORD", "UNSEEN", "lasting", "shown"]
