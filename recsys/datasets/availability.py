"""Whether an item can be bought, as shops say it: by words, by schema.org's names, by counts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.casts import cast, is_text, to_float, trim

#: What can be ordered today, even if it comes later, is in stock.
_WORDS = {
    True: "true yes y t on in_stock available in_store_and_online online_only limited_availability "
    "limited low_stock few_left preorder pre_order presale backorder backordered on_backorder "
    "available_on_backorder available_for_order made_to_order available_immediately active",
    False: "false no n f off out_of_stock out unavailable not_available sold_out discontinued "
    "oos temporarily_out_of_stock temporarily_unavailable currently_unavailable in_store_only "
    "reserved archived inactive ended coming_soon none",
}


def _fold(word: str) -> str:
    """`https://schema.org/InStock`, `in stock` and `in_stock` are one word."""
    return re.sub(r"[\W_]+", "", re.split(r"[/#]", word.strip())[-1]).casefold()


_MEANING = {_fold(word): flag for flag, words in _WORDS.items() for word in words.split()}


def to_stock(column: pa.Array, words: Mapping[str, bool] | None = None) -> pa.Array:
    """Flags, counts (above zero) and words, a shop's own before the known ones; null for anything
    else. Each distinct text is looked up once."""
    if pa.types.is_boolean(column.type):
        return column
    if not is_text(column.type):
        return _counts(to_float(column))
    own = {_fold(word): flag for word, flag in (words or {}).items()}
    coded = trim(cast(column, pa.string())).dictionary_encode()
    flags = [
        own.get(_fold(word), _MEANING.get(_fold(word))) for word in coded.dictionary.to_pylist()
    ]
    by_word = pa.array(flags, pa.bool_())
    return pc.coalesce(by_word, _counts(to_float(coded.dictionary))).take(coded.indices)


def _counts(values: pa.Array) -> pa.Array:
    is_finite = pc.is_finite(values)
    return pc.if_else(is_finite, pc.greater(values, 0.0), pa.scalar(None, pa.bool_()))
