"""Whole training steps here and in PyTorch, in turns: the networks, a side for each, and what compares them.

Each side is a process of its own that prints a line when it is ready, then reads a number of steps from its input and
answers with a line of JSON: the milliseconds of each step, and the largest resident memory so far, in MiB.
"""
