"""What a shop says of its own files where they can be read in more than one way."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.attributes.declaration import Attribute, require_distinct


@dataclass(frozen=True, kw_only=True)
class CatalogueChoices:
    """How the cells of a shop's catalogue and event log are read. The defaults take what can be
    read in one way only.

    `attributes` are those that filters, facets and answers have, each in a typed column; what else
    the column `attributes` holds stays text to search. With `infer_attributes` what many items
    have there becomes typed columns too, of the kind that its values have."""

    attributes: tuple[Attribute, ...] = ()
    infer_attributes: bool = False

    def __post_init__(self) -> None:
        require_distinct(self.attributes)
