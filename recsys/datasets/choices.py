"""What a shop says of its own files where they can be read in more than one way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CatalogueChoices:
    """How the cells of a shop's catalogue and event log are read. The defaults take what can be
    read in one way only."""
