"""What a shop says of its own files where they can be read in more than one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recsys.attributes.declaration import Attribute, require_distinct
from recsys.datasets.event_words import MEANINGS
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

    `event_words` says what words of the log mean, one of `event_words.MEANINGS` each, beside and
    before those that are known. A user id among `guest_ids` (without case) is nobody's.

    `languages` are those of Latin script that its texts are in, as `retrieval.text.stems.LATIN`
    names them (german, french): words are found in all their forms. None: as the texts look; a
    catalogue of short titles may have to say it."""

    attributes: tuple[Attribute, ...] = ()
    infer_attributes: bool = False
    event_words: Mapping[str, str] = field(default_factory=dict)
    guest_ids: tuple[str, ...] = GUEST_IDS
    languages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require_distinct(self.attributes)
        for word, meaning in self.event_words.items():
            if meaning not in MEANINGS:
                raise InputError(
                    f"catalogue.event_words has {word!r}: {meaning!r}: "
                    f"give one of {', '.join(MEANINGS)}"
                )
