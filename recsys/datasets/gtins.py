"""Trade item numbers (GTIN: EAN, UPC, ISBN) with a right check digit."""

from __future__ import annotations

import re

import pyarrow as pa
from stdnum import ean, isbn


def to_gtin(column: pa.Array) -> pa.Array:
    """Digits, null where they are no GTIN. An ISBN of ten becomes one of thirteen; a zero that a
    spreadsheet dropped comes back."""
    coded = column.dictionary_encode()
    gtins = pa.array(map(_gtin, coded.dictionary.to_pylist()), pa.string())
    return gtins.take(coded.indices)


def _gtin(text: str) -> str | None:
    compact = re.sub(r"[\s'\-]", "", text)
    if len(compact) == 10:
        return str(isbn.to_isbn13(compact)) if isbn.is_valid(compact) else None
    digits = compact.zfill({7: 8, 11: 12}.get(len(compact), 0))
    return digits if ean.is_valid(digits) and digits.strip("0") else None
