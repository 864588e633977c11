"""`python -m onnx_oto.reporting.dot_child FORMAT`: pygraphviz, which brings graphviz, in a process that may be ended.

Reads a graph in the language of dot on stdin, and writes it laid out on stdout.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Lay out what is on stdin."""
    import pygraphviz

    graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
    sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="dot"))


if __name__ == "__main__":
    main()
