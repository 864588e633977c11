"""The equation of an Einsum, checked before anyone else reads it: onnx's own parser never ends on "....->..."."""

from __future__ import annotations

ELLIPSIS = "..."


def equation_fault(equation: str, inputs: int) -> str | None:
    """Return what is wrong with the equation of an Einsum of so many inputs, None where nothing is.

    term ("," term)* ["->" term], one term per input; a term is letters with at most one "..." among them. The result
    has letters of the inputs, each once, and an ellipsis only if they have. Spaces count for nothing.

    >>> equation_fault("bij, bjk -> bik", 2), equation_fault("...ii->...i", 1), equation_fault(",->", 2)
    (None, None, None)
    >>> equation_fault("....->...", 1)
    "term '....' is not made of letters and at most one '...'"
    """
    left, arrow, right = "".join(equation.split()).partition("->")
    terms = left.split(",")
    if len(terms) != inputs:
        return f"it has {len(terms)} terms for {inputs} inputs"
    for term in [*terms, right]:
        parts = term.split(ELLIPSIS)
        if len(parts) > 2 or any(part and not (part.isascii() and part.isalpha()) for part in parts):
            return f"term {term[:40]!r} is not made of letters and at most one '...'"
    letters = right.replace(ELLIPSIS, "")
    strange = sorted(set(letters) - set(left))
    if strange:
        return f"letter {strange[0]!r} of the result stands in no input"
    if len(set(letters)) < len(letters):
        return f"the result {right[:40]!r} has a letter twice"
    if arrow and ELLIPSIS in right and ELLIPSIS not in left:
        return "the result has a '...' that no input has"
    return None
