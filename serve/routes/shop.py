"""The seam between HTTP and the system: what the routes need of a shop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from fastapi import Request

from recsys.catalogue.changes import ChangeResult, FieldChange
from recsys.catalogue.validation import InvalidChange
from recsys.config import Day
from recsys.errors import RecsysError
from recsys.pipeline.explain import Explanation
from recsys.privacy.receipts import Receipt
from recsys.types import Impression, Interaction, Item, Query, Ranking
from recsys.understanding.suggestions import Suggestion


class NotReadyError(RecsysError):
    """There is no release to answer from, or the encoder belongs to another one."""


@dataclass(frozen=True)
class RecordedEvents:
    """What became of the events of one call; `dropped` are of users who opted out or were
    forgotten."""

    accepted: int
    duplicates: int
    quarantined: int
    dropped: int = 0


@dataclass(frozen=True)
class Health:
    """`created` is the live release's (None: nothing is loaded); `refused` gives the reason for
    each release that could not be loaded."""

    release: str | None
    created: datetime | None
    space: str
    refused: dict[str, str]


@dataclass(frozen=True)
class Photo:
    """What a shopper photographed: encoded bytes; the part of it to look at (left, top, right,
    bottom, as shares); its weight beside words. Never logged, nor stored."""

    content: bytes
    crop: tuple[float, float, float, float] | None = None
    weight: float = 0.5


class Shop(Protocol):
    """Everything the routes need; `replicas.ShopReplica` is one, and a test may bring its own.

    All but `health` may block on disk or a model, off the event loop. Raises NotReadyError without
    a release, NotFoundError for an unknown item, request, release or receipt."""

    day: Day

    async def search(self, query: Query) -> Ranking: ...

    async def search_photo(self, query: Query, photo: Photo) -> Ranking:
        """Raises InputError for bytes that are no picture."""
        ...

    async def recommend(self, query: Query) -> Ranking: ...

    async def similar(self, query: Query, item_id: str) -> Ranking: ...

    async def complements(self, query: Query, item_id: str) -> Ranking:
        """What goes with it."""
        ...

    async def suggest(self, prefix: str, k: int) -> tuple[str, list[Suggestion]]:
        """The release's version, and up to k completions, best first."""
        ...

    async def explain(self, request_id: str, item_id: str) -> Explanation:
        """Why the item has its rank in that answer, or is not in it."""
        ...

    async def item(self, item_id: str) -> tuple[str, Item]:
        """The release's version, and the item as that release holds it."""
        ...

    async def variants(self, item_id: str) -> list[Item]:
        """The items of its product that may be shown, itself among them; empty where it is not
        there."""
        ...

    async def thumbnails(self, item_ids: Sequence[str]) -> dict[str, str]:
        """The content hash, in hexadecimal, of each item's main picture; without those that have
        none."""
        ...

    async def thumbnail(self, content_hash: str) -> bytes:
        """A picture's small copy, WebP."""
        ...

    async def changed_fields(self, item_id: str) -> Mapping[str, FieldChange] | None:
        """The fields of an item that are not as its release has them; None where nothing can say
        it now."""
        ...

    async def change_items(self, rows: Sequence[Any]) -> list[ChangeResult | InvalidChange]:
        """What became of each row (`validation.read_changes`). Durable when it returns."""
        ...

    async def record(
        self, interactions: Sequence[Interaction], impressions: Sequence[Impression]
    ) -> RecordedEvents:
        """Durable when it returns. An interaction with an item that is not in the release is
        quarantined."""
        ...

    async def forget(self, user_id: str) -> Receipt:
        """Forgets the user in the log at once; releases follow."""
        ...

    async def check_receipt(self, token: str) -> tuple[datetime, dict[str, int]]:
        """When the receipt's user was forgotten, and the rows that still hold them, by place."""
        ...

    async def opt_out(self, user_id: str, opted_out: bool) -> None:
        """From the next request on, on every replica."""
        ...

    async def releases(self) -> list[dict[str, Any]]:
        """Every published version, oldest first."""
        ...

    async def promote(self, version: str) -> None:
        """Serves it, on this replica at once. On SpaceMismatchError or ReleaseError nothing has
        changed."""
        ...

    def health(self) -> Health: ...

    def close(self) -> None: ...


def shop_of(request: Request) -> Shop:
    """The shop that `api.build_api` was given."""
    shop: Shop = request.app.state.shop
    return shop
