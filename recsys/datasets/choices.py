"""What a shop says of its own files where they can be read in more than one way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import available_timezones

from recsys.attributes.declaration import Attribute, require_distinct
from recsys.datasets.currencies import is_currency
from recsys.datasets.event_words import MEANINGS
from recsys.datasets.times import EPOCHS, TimeReading
from recsys.errors import InputError

#: What logs write where nobody was signed in. WooCommerce and others number their guests 0, some
#: warehouses -1.
GUEST_IDS = (
    *("nan", "none", "null", "nil", "<na>", "na", "n/a", "undefined", "(not set)", "not set"),
    *("guest", "anonymous", "(none)", "0", "-1", "00000000-0000-0000-0000-000000000000"),
)


@dataclass(frozen=True, kw_only=True)
class CatalogueChoices:
    """How the cells of a shop's catalogue and event log are read. The defaults take what can be
    read in one way only.

    `attributes` are those that filters, facets and answers have, each in a typed column; what else
    the column `attributes` holds stays text to search. With `infer_attributes` what many items
    have there becomes typed columns too, of the kind that its values have.

    Prices are in `currency`, an ISO 4217 code, others multiplied by their rate; without one in
    the only currency that there is. `decimal` decides where `1,299` stands alone; with
    `price_unit` "minor" prices are cents. `stock_words` says which words of the column in_stock
    mean that an item can be bought.

    Times without a zone are of `time_zone`. `day_first` decides on `01/02/2026`, `epoch` on the
    unit of times that are numbers.

    `category_separator` parts the levels of a category and `category_list_separator` the several
    ones of an item, where the column does not show it.

    `event_words` says what words of the log mean, one of `event_words.MEANINGS` each. A user id
    among `guest_ids` (without case) is nobody's. A shop's words come beside and before those that
    are known.

    `languages` are those of Latin script that its texts are in, as `retrieval.text.stems.LATIN`
    names them (german, french): words are found in all their forms. None: as the texts look; a
    catalogue of short titles may have to say it.

    Raises InputError for a choice that there is not."""

    attributes: tuple[Attribute, ...] = ()
    infer_attributes: bool = False
    currency: str | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    decimal: Literal[".", ","] | None = None
    price_unit: Literal["major", "minor"] = "major"
    stock_words: Mapping[str, bool] = field(default_factory=dict)
    time_zone: str = "UTC"
    day_first: bool | None = None
    epoch: Literal["s", "ms", "us", "ns"] | None = None
    category_separator: str | None = None
    category_list_separator: str | None = None
    event_words: Mapping[str, str] = field(default_factory=dict)
    guest_ids: tuple[str, ...] = GUEST_IDS
    languages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require_distinct(self.attributes)
        for word, meaning in self.event_words.items():
            _require(f"event_words[{word!r}]", meaning, MEANINGS)
        for code in filter(None, (self.currency, *self.rates)):
            if not is_currency(code):
                raise InputError(
                    f"catalogue has the currency {code!r}: give an ISO 4217 code such as EUR"
                )
        for code, rate in self.rates.items():
            if not 0 < rate < math.inf:
                raise InputError(
                    f"catalogue.rates has {code}: {rate}: give the price of 1 {code} in "
                    f"{self.currency or 'catalogue.currency'}"
                )
        _require("decimal", self.decimal, (None, ".", ","))
        _require("price_unit", self.price_unit, ("major", "minor"))
        _require("epoch", self.epoch, (None, *EPOCHS))
        if self.time_zone not in available_timezones():
            raise InputError(
                f"catalogue.time_zone is {self.time_zone!r}: give a name such as Europe/Berlin"
            )

    @property
    def times(self) -> TimeReading:
        return TimeReading(self.time_zone, self.day_first, self.epoch)


def _require(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise InputError(
            f"catalogue.{name} is {value!r}: give one of {', '.join(map(str, allowed))}"
        )
