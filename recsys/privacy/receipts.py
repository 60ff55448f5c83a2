"""Receipts of forgotten users: a token with which anybody can have the shop look again.

The token holds the user's id, encrypted under the log's own key, so the shop need not keep it; it
is stored nowhere."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recsys.errors import NotFoundError
from recsys.interfaces import PrivacyRegistry


@dataclass(frozen=True)
class Receipt:
    """Outcome of a request to be forgotten: rows deleted at once, by place, and rows or files of
    before `forgotten` that are left to erase."""

    token: str
    forgotten: datetime
    gone: dict[str, int]
    left: dict[str, int]


def seal_receipt(registry: PrivacyRegistry, user_id: str, forgotten: datetime) -> str:
    """A token: the id and the time, encrypted and signed."""
    content = json.dumps([user_id, forgotten.isoformat()]).encode()
    return str(_fernet(registry).encrypt(content).decode())


def open_receipt(registry: PrivacyRegistry, token: str) -> tuple[str, datetime]:
    """Whose receipt it is, and from when. Raises NotFoundError for what is none of this shop's."""
    from cryptography.fernet import InvalidToken

    try:
        user_id, forgotten = json.loads(_fernet(registry).decrypt(token.encode()))
    except (InvalidToken, UnicodeEncodeError, ValueError):
        raise NotFoundError(
            "this is no receipt of this shop's event log: give the one that DELETE /users/{id} "
            "answered with, whole"
        ) from None
    return user_id, datetime.fromisoformat(forgotten)


def _fernet(registry: PrivacyRegistry) -> Any:
    """Its key is derived from the log's by `digest`, of texts that no user's id can be: they have a
    control character."""
    from cryptography.fernet import Fernet

    halves = (registry.digest(f"\0receipt {half}") for half in (1, 2))
    return Fernet(base64.urlsafe_b64encode(bytes.fromhex("".join(halves))))
