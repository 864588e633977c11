"""All cases."""

from __future__ import annotations

from hostile_corpus import (
    bodies,
    damage,
    data,
    external,
    files,
    names,
    placing,
    rows_attributes,
    rows_constants,
    sizes,
    structure,
)
from hostile_corpus.case import Case


def corpus(count: int = 75, seed: int = 0) -> list[Case]:
    """Return all cases. count: of random flips, and of random truncations; seed: of everything random."""
    return [
        *placing.cases("constants", rows_constants.ROWS),
        *placing.cases("attributes", rows_attributes.ROWS),
        *bodies.cases(),
        *structure.cases(),
        *names.cases(),
        *sizes.cases(),
        *damage.cases(count, seed),
        *external.cases(),
        *data.cases(),
        *files.cases(),
    ]
