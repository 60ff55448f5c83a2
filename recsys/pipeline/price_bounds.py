"""The price bounds that a text names: which of them a search can use, and in words why not."""

from __future__ import annotations

from collections.abc import Mapping

from recsys.datasets.currencies import currencies_of
from recsys.types import Filters, QueryUnderstanding

_WORDS = {"min_price": "at least", "max_price": "at most"}


def usable_bounds(
    understanding: QueryUnderstanding, own: Filters, currency: str
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The text's bounds, min_price and max_price, and a sentence for those that are not used: in
    another currency than the shop's, contradictory, or against the request's `own`. Where the
    request has bounds of its own the text's do not count."""
    facts = understanding.facts
    bounds = {name: float(facts[name]) for name in _WORDS if name in facts}
    low, high = bounds.get("min_price"), bounds.get("max_price")
    if not bounds:
        return {}, ()
    if own.min_price is not None or own.max_price is not None:
        below = low is not None and own.max_price is not None and low > own.max_price
        above = high is not None and own.min_price is not None and high < own.min_price
        why = f"{in_words(bounds)} contradicts the request's own bounds: not used"
        return {}, (why,) if below or above else ()
    named = currencies_of(understanding.price_currency)
    if named and currency and currency not in named:
        said = understanding.price_currency
        why = f"{in_words(bounds)} is in {said}, prices here are in {currency}: shown at any price"
        return {}, (why,)
    if low is not None and high is not None and low > high:
        return {}, (f"nothing costs {in_words(bounds)}: shown at any price",)
    return bounds, ()


def in_words(bounds: Mapping[str, float]) -> str:
    """At least 10 and at most 20."""
    return " and ".join(f"{_WORDS[name]} {value:g}" for name, value in bounds.items())
