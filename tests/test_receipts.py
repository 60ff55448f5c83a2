"""Receipts: their key comes from the log's, by texts that never change."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

from recsys.privacy.receipts import _fernet


def test_receipts_of_earlier_versions_open() -> None:
    texts: list[str] = []

    def digest(text: str) -> str:
        texts.append(text)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    _fernet(SimpleNamespace(digest=digest))  # type: ignore[arg-type]
    assert texts == ["\0receipt 1", "\0receipt 2"]
