"""Models measured on the runtime that will serve them, by the interpreter of any Python environment."""
