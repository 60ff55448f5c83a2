"""One query, understood: its normal text, spelling, codes and facts. The intent is added by who has
a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from recsys.types import QueryUnderstanding, Rows
from recsys.understanding.carrier_phrases import strip_carrier_phrases
from recsys.understanding.codes import CodeIndex
from recsys.understanding.facts import Brands, Facts, extract_facts, extract_labels, extract_prices
from recsys.understanding.normalisation import language_by_script, normalise
from recsys.understanding.spelling import Speller

#: Of a code that more items have, the answer names so many.
MAX_IDENTIFIERS = 100
Pairs = tuple[tuple[str, str], ...]
_PASSES = 3


@dataclass(frozen=True)
class ParsedQuery:
    """What a text was taken to mean, and every row that its codes name, ascending int32.

    When `understanding.exact` these rows are what was asked for; else they are what a code beside
    other words names."""

    understanding: QueryUnderstanding
    code_rows: Rows


class QueryParser:
    """Understands any text: what it cannot use it leaves out, and it never raises.

    Without a speller nothing is corrected, without codes no identifier is known. `item_id_of` gives
    the id of a row."""

    def __init__(
        self,
        speller: Speller | None,
        codes: CodeIndex | None,
        brands: Iterable[str],
        item_id_of: Callable[[int], str],
    ) -> None:
        self._speller, self._codes, self._brands = (
            speller,
            codes or CodeIndex.build([], []),
            Brands(brands),
        )
        self._item_id_of = item_id_of

    def parse(self, text: str) -> ParsedQuery:
        """A text that is one code stays as it is; any other is corrected, and loses its prices and
        words of asking.

        Only the beginning of a long text is read: see `text.MAX_CHARACTERS`.
        """
        plain = _folded(text)
        found, rest = extract_facts(plain, self._brands)
        rows, exact = self._codes.found(plain)
        if not exact and rest != plain:
            rows, exact = self._codes.found(rest)
        corrections: Pairs = ()
        if not exact:
            found, rest, corrections = self._corrected(plain)
        ids = tuple(self._item_id_of(int(row)) for row in rows[:MAX_IDENTIFIERS])
        return ParsedQuery(
            QueryUnderstanding(
                text=text,
                normalised=rest,
                language=language_by_script(plain),
                corrections=corrections,
                identifiers=ids,
                exact=exact,
                facts=found,
            ),
            rows,
        )

    def _corrected(self, plain: str) -> tuple[Facts, str, Pairs]:
        """Facts, text and corrections, until nothing changes: "undr $20" is a price once it is
        corrected."""
        bounds: Facts = {}
        corrections: dict[str, str] = {}
        for _ in range(_PASSES):
            before = plain
            found, plain = extract_prices(plain)
            bounds = found | bounds
            if self._speller is not None:
                plain, fixes = self._speller.corrected(plain, self._brands.words(plain))
                plain, corrections = normalise(plain), corrections | dict(fixes)
            if plain == before:
                break
        plain = normalise(strip_carrier_phrases(plain))
        return bounds | extract_labels(plain, self._brands), plain, tuple(corrections.items())


def _folded(text: str) -> str:
    """The normal text without case, again until both hold."""
    for _ in range(4):
        folded = normalise(text).casefold()
        if folded == text:
            break
        text = folded
    return normalise(text)
