"""API keys: created once, stored as hashes in the file that $NIGHTSHELF_KEYS names.

A key is 256 random bits, so one SHA-256 of it is as good as a slow password hash: those are for
secrets that people think up, and nobody guesses 256 bits."""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from recsys.errors import InputError
from recsys.storage.disk import write_whole

#: `admin` includes the others.
ROLES = ("read", "events", "catalogue", "admin")


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """One key of a client, who may have several at once. `rate`: requests a second, of each
    replica.

    Raises InputError for a value that makes no sense."""

    client: str
    sha256: str
    roles: tuple[str, ...]
    rate: float = 100.0
    not_after: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.client, str) and re.fullmatch(r"[\w.-]{1,64}", self.client)):
            name = str(self.client)[:100]
            raise InputError(f"client is {name!r}: give 1 to 64 letters, digits, dots or dashes")
        if not (isinstance(self.sha256, str) and re.fullmatch(r"[0-9a-f]{64}", self.sha256)):
            raise InputError(
                f"the key of {self.client} has no SHA-256 of 64 hexadecimal digits: make it anew"
            )
        if not self.roles or set(self.roles) - set(ROLES):
            raise InputError(
                f"roles of {self.client} are {list(self.roles)}: give some of {', '.join(ROLES)}"
            )
        is_number = isinstance(self.rate, int | float) and not isinstance(self.rate, bool)
        if not is_number or not 0 < self.rate < math.inf:
            raise InputError(
                f"rate of {self.client} is {self.rate!r}: give requests a second, above 0"
            )
        if self.not_after is not None:
            _parse_time(self.not_after)

    def is_valid(self, now: datetime) -> bool:
        return self.not_after is None or now < _parse_time(self.not_after)

    def has_role(self, role: str) -> bool:
        return role in self.roles or "admin" in self.roles


def _parse_time(text: str) -> datetime:
    with suppress(ValueError, TypeError):
        if (time := datetime.fromisoformat(text)).tzinfo:
            return time
    raise InputError(f"not_after is {str(text)[:100]!r}: give an ISO 8601 time with its zone")


def create_key(
    client: str, roles: Iterable[str], rate: float, not_after: str | None = None
) -> tuple[str, ApiKey]:
    """A new secret, which is stored nowhere, and its key."""
    secret = secrets.token_urlsafe(32)
    key = ApiKey(
        client=client,
        sha256=hash_secret(secret),
        roles=tuple(roles),
        rate=rate,
        not_after=not_after,
    )
    return secret, key


def hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def read_keys(path: Path) -> list[ApiKey]:
    """Raises InputError where the file is missing or any key in it is damaged: half a list of keys
    would lock clients out."""
    try:
        rows = json.loads(path.read_bytes())["keys"]
        return [ApiKey(**{**row, "roles": tuple(row["roles"])}) for row in rows]
    except InputError as error:
        raise InputError(f"keys file {path}: {error}") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"keys file {path} cannot be read ({type(error).__name__}): "
            "make it with python -m jobs.make_key"
        ) from None


def write_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    """Atomic; readable by its owner alone."""
    content = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1)
    write_whole(path, [content.encode()], 0o600)


def revoke_keys(keys: Sequence[ApiKey], client: str, prefix: str = "") -> list[ApiKey]:
    """All keys but those of the client whose hash begins with `prefix`. Raises InputError where
    there is none."""
    others = [key for key in keys if not (key.client == client and key.sha256.startswith(prefix))]
    if len(others) == len(keys):
        raise InputError(
            f"no key of {client} begins with {prefix!r}: "
            "list them with python -m jobs.make_key --list"
        )
    return others


def expire_keys(keys: Sequence[ApiKey], client: str, not_after: str) -> list[ApiKey]:
    """The same keys, the client's valid until that time at the latest."""
    limit = _parse_time(not_after)

    def outlives(key: ApiKey) -> bool:
        return key.not_after is None or _parse_time(key.not_after) > limit

    return [
        replace(key, not_after=not_after) if key.client == client and outlives(key) else key
        for key in keys
    ]
