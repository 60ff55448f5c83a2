"""One query, understood: its normal text, spelling, codes and facts. The intent is added by who has
a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from recsys.types import QueryUnderstanding, Rows
from recsys.understanding.codes import Codes
from recsys.understanding.facts import Brands, Facts, facts, labels, prices
from recsys.understanding.spelling import Speller
from recsys.understanding.text import language, normal
from recsys.understanding.wishes import without_asking

#: Of a code that more items have, the answer names so many.
IDENTIFIERS = 100
Pairs = tuple[tuple[str, str], ...]
_PASSES = 3


@dataclass(frozen=True)
class Understood:
    """What a text was taken to mean, and every row that its codes name, ascending int32.

    When `understanding.exact` these rows are what was asked for; else they are what a code beside
    other words names."""

    understanding: QueryUnderstanding
    code_rows: Rows


class Understander:
    """Understands any text: what it cannot use it leaves out, and it never raises.

    Without a speller nothing is corrected, without codes no identifier is known. `item_id_of` gives
    the id of a row."""

    def __init__(
        self,
        speller: Speller | None,
        codes: Codes | None,
        brands: Iterable[str],
        item_id_of: Callable[[int], str],
    ) -> None:
        self._speller, self._codes, self._brands = (
            speller,
            codes or Codes.build([], []),
            Brands(brands),
        )
        self._item_id_of = item_id_of

    def understand(self, text: str) -> QueryUnderstanding:
        """`understood` without the rows."""
        return self.understood(text).understanding

    def understood(self, text: str) -> Understood:
        """A text that is one code stays as it is; any other is corrected, and loses its prices and
        words of asking.

        Only the beginning of a long text is read: see `text.MAX_CHARACTERS`.
        """
        plain = _folded(text)
        found, rest = facts(plain, self._brands)
        rows, exact = self._codes.found(plain)
        if not exact and rest != plain:
            rows, exact = self._codes.found(rest)
        corrections: Pairs = ()
        if not exact:
            found, rest, corrections = self._corrected(plain)
        ids = tuple(self._item_id_of(int(row)) for row in rows[:IDENTIFIERS])
        return Understood(
            QueryUnderstanding(
                text=text,
                normalised=rest,
                language=language(plain),
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
            found, plain = prices(plain)
            bounds = found | bounds
            if self._speller is not None:
                plain, fixes = self._speller.corrected(plain, self._brands.words(plain))
                plain, corrections = normal(plain), corrections | dict(fixes)
            if plain == before:
                break
        plain = normal(without_asking(plain))
        return bounds | labels(plain, self._brands), plain, tuple(corrections.items())


def _folded(text: str) -> str:
    """The normal text without case, again until both hold."""
    for _ in range(4):
        folded = normal(text).casefold()
        if folded == text:
            break
        text = folded
    return normal(text)
