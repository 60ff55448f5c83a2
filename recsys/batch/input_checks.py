"""What the input of a night must satisfy: sentences about counts, "" where they are good enough.
The night refuses by them, `--plan` foretells by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Names that allow once what these checks refuse.
BAD_ROWS, TITLES = "bad-rows", "titles"


def unusable_rows(name: str, unusable: int, rows: int, most: float) -> str:
    """Of the table or stage `name`, at most the share `most` of the rows may be unusable."""
    if unusable <= most * rows:
        return ""
    return f"{name}: {unusable:,} of {rows:,} rows cannot be used, more than the {most:.0%} allowed"


def repeated_rows(name: str, key: str, repeats: int, rows: int, most: float) -> str:
    """Of a table at most the share `most` of the rows may have the key of another row and say
    something else."""
    if repeats <= most * rows:
        return ""
    return (
        f"{name}: the {key} of {repeats:,} of {rows:,} rows repeats that of another row, but their "
        f"other cells differ; of each key only the first row is kept, and a loss of {most:.0%} is "
        f"allowed: give every row a {key} of its own"
    )


def untitled_items(titled: int, items: int, least: float, unused: Sequence[str]) -> str:
    """At least the share `least` of the items must have a text that shoppers can search by;
    `unused` are the columns of their file that nothing is made of."""
    if titled >= least * items:
        return ""
    columns = (
        f"nothing was made of their columns {', '.join(unused)}: map one of them to title"
        if unused
        else "give them a column title"
    )
    return (
        f"{titled:,} of {items:,} items have a title or description to search by, fewer than "
        f"{least:.0%}; {columns}"
    )


def titled_rows(items: pa.Table) -> int:
    """How many items have a title or description with more than blanks in it."""
    has_text = np.zeros(items.num_rows, bool)
    for name in ("title", "description"):
        lengths = pc.utf8_length(pc.utf8_trim_whitespace(items[name]))
        has_text |= np.asarray(pc.fill_null(lengths, 0)) > 0
    return int(has_text.sum())
