"""What a shop says of one attribute of its items."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal

from recsys.attributes.units import base_of
from recsys.errors import InputError

Kind = Literal["text", "number", "boolean", "list"]
KINDS = ("text", "number", "boolean", "list")
#: Names that filters, facets and facts of a request have of their own.
RESERVED = frozenset(
    ("category", "brand", "price", "min_price", "max_price", "in_stock", "attributes", "variants")
)
_NAME = re.compile(r"^[^\s\[\];:=\p{Cc}][^\[\];:=]{0,63}$".replace(r"\p{Cc}", r"\x00-\x1f"))


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """An attribute by its name, as filters, facets and answers have it.

    `kind`: `text` is one value, or several where the catalogue gives a list of them; `list` is
    also split at `separator` (by default at | ; , and line ends); `number` has a `unit`, into
    which all values are converted, by default the most frequent of the column's; `boolean` is
    read from words. `column` is the column of the catalogue that it stands in, by default one of
    its own name; it is looked for among the pairs of the column `attributes` under both names.

    `searchable`: its values are searched as text. `filterable`: `filter[name]` may ask for it.
    `facet`: answers count its values. `variant`: the items of a group differ in it, so that a
    value named in a query chooses among them. `levels` stands between the levels of a value, such
    as ">" in "Textile > Wool": a filter by "Textile" has all below it."""

    name: str = field(kw_only=False)
    kind: Kind = field(default="text", kw_only=False)
    unit: str | None = None
    column: str | None = None
    searchable: bool = True
    filterable: bool = True
    facet: bool = True
    variant: bool = False
    separator: str | None = None
    levels: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or self.name.casefold() in RESERVED:
            raise InputError(
                f"an attribute is called {self.name!r}: give 1 to 64 characters without []:;=, "
                f"other than {', '.join(sorted(RESERVED))}"
            )
        if self.kind not in KINDS:
            raise InputError(
                f"attribute {self.name} is of kind {self.kind!r}: use one of {', '.join(KINDS)}"
            )
        if self.unit is not None and (self.kind != "number" or base_of(self.unit) is None):
            raise InputError(
                f"attribute {self.name} of kind {self.kind} has the unit {self.unit!r}: give a "
                "number a unit such as cm, kg or W, and other kinds none"
            )
        if self.separator is not None and self.kind != "list":
            raise InputError(f"attribute {self.name} has a separator: make it of kind list")
        if self.levels is not None and self.kind not in ("text", "list"):
            raise InputError(f"attribute {self.name} has levels: make it of kind text or list")

    @cached_property
    def keys(self) -> frozenset[str]:
        """The names, folded, under which a catalogue may have it."""
        return frozenset(fold_name(name) for name in (self.name, self.column) if name)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Attribute:
        return cls(**json.loads(data))


def fold_name(name: str) -> str:
    """Equal for names that differ in case, spaces, hyphens and underscores alone."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def require_distinct(attributes: Sequence[Attribute]) -> None:
    """Raises InputError where two of them claim one name or column."""
    owners: dict[str, str] = {}
    for attribute in attributes:
        for key in attribute.keys:
            if key in owners:
                raise InputError(
                    f"attributes {owners[key]} and {attribute.name} are both read from {key!r}: "
                    "leave one"
                )
            owners[key] = attribute.name
