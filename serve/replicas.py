"""The Shop deployment: HTTP requests answered from the live release.

A plain class; `app.compose` wraps it."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from recsys.catalogue.changes import ChangeResult, FieldChange
from recsys.catalogue.validation import InvalidChange
from recsys.config import Setup
from recsys.errors import NotFoundError
from recsys.models.composition import serving_setup
from recsys.pipeline.explain import Explanation, explain
from recsys.pipeline.recommender import Recommender
from recsys.privacy.receipts import Receipt, open_receipt
from recsys.privacy.traces import find_traces
from recsys.release.release import Release
from recsys.types import (
    Floats,
    Impression,
    Interaction,
    Item,
    PrivacyState,
    Query,
    Ranking,
    Vectors,
)
from recsys.understanding.suggestions import Suggestion
from serve import metrics
from serve.access import configured_access
from serve.catalogue import CatalogueWriter
from serve.encoder import EncodedText, EncoderReplica, remote_items, remote_photos
from serve.erasure import ErasureWorker
from serve.impressions import ImpressionWriter
from serve.items import find_item, find_thumbnail, find_thumbnails, find_variants
from serve.live import LiveRelease, start_of_night
from serve.routes.api import build_api
from serve.routes.shop import Health, NotReadyError, Photo, RecordedEvents

T = TypeVar("T")
logger = logging.getLogger("ray.serve")

#: A closing replica waits this long for each of its threads.
CLOSE_TIMEOUT_S = 5.0
#: Encoding ends with this share of the deadline left: the rest is for the search.
SEARCH_SHARE = 1 / 4


class ShopReplica:
    """A `routes.shop.Shop` over the release that the store's `current` names; follows it every
    `day.refresh_s`.

    `encoder` is the handle of an Encoder deployment; without one this process encodes by itself.
    `trainer` is that of the deployment that trains by day: its snapshots come through the store,
    the handle keeps it in the application. `http_host` is where Serve's HTTP listens, None where
    that is unknown (`access.configured_access`)."""

    def __init__(
        self,
        setup: Setup,
        encoder: Any = None,
        trainer: Any = None,
        http_host: str | None = None,
    ) -> None:
        self.day, self.http_host = setup.day, http_host
        # One read of `current` decides the encoder and the space that releases must have: it may
        # change between two.
        own = EncoderReplica(setup) if encoder is None else None
        self.encode: Callable[[str], Awaitable[Vectors]] = (
            own.encode if own else encoder.encode.remote
        )
        self.encode_photo = own.encode_photo if own else remote_photos(encoder)
        self.live = LiveRelease(
            setup,
            own.space if own else serving_setup(setup).encoder().space,
            own.encode_items_here if own else remote_items(encoder),
        )
        self.events, self.catalogue = setup.event_store(), CatalogueWriter(setup)
        self._pool = ThreadPoolExecutor(4, "shop")
        self.erasure = ErasureWorker(setup, self.events)
        self._impressions = ImpressionWriter(self.events, self.day.log_queries)
        self._closed = threading.Event()
        self._followers = [
            threading.Thread(target=follow, args=(self._closed,), daemon=True)
            for follow in (self.live.follow, self.live.follow_changes)
        ]
        for follower in self._followers:
            follower.start()

    async def __serve_build_asgi_app__(self) -> Any:
        """Serve's name for the hook that returns the application of a constructed replica."""
        return build_api(self, configured_access(self.day.cors_origins, self.http_host))

    def check_health(self) -> None:
        """Serve replaces a replica that raises here: one that no longer follows `current`, writes
        impressions, changes the catalogue or erases users."""
        self.catalogue.observe()
        workers = all(each.is_alive() for each in (self._impressions, self.catalogue, self.erasure))
        if not (workers and all(each.is_alive() for each in self._followers)):
            raise RuntimeError("a background thread of this replica has died: see its log")

    def close(self) -> None:
        """Writes the impressions that wait, then closes the event store."""
        self._closed.set()
        for follower in self._followers:
            follower.join(CLOSE_TIMEOUT_S)
        self._impressions.close(CLOSE_TIMEOUT_S)
        self.erasure.close(CLOSE_TIMEOUT_S)
        self._pool.shutdown(wait=True)
        self.events.close()
        self.catalogue.close(CLOSE_TIMEOUT_S)

    # Answers

    async def search(self, query: Query) -> Ranking:
        recommender = self._recommender(query.snapshot)
        assert query.text is not None
        text = await self._encode_text(recommender, query.text, query.deadline)

        def rank(query: Query, _: Sequence[Interaction]) -> Ranking:
            return recommender.search(query, text.vector_D, text.parsed)

        return await self._answer("search", query, recommender, rank, text)

    async def search_photo(self, query: Query, photo: Photo) -> Ranking:
        recommender = self._recommender(query.snapshot)
        look = await self.encode_photo(photo.content, photo.crop), photo.weight
        text = await self._encode_text(recommender, query.text or "", query.deadline)

        def rank(query: Query, _: Sequence[Interaction]) -> Ranking:
            return recommender.search_photo(query, look, text.vector_D, text.parsed)

        return await self._answer("photo", query, recommender, rank, text)

    async def recommend(self, query: Query) -> Ranking:
        recommender, text = self._recommender(), None
        if query.interest is not None:
            text = await self._encode_text(recommender, query.interest, query.deadline)
        interest = (text.parsed, text.vector_D) if text else None

        def rank(query: Query, recent: Sequence[Interaction]) -> Ranking:
            return recommender.recommend(query, recent, interest)

        return await self._answer("recommend", query, recommender, rank, text)

    async def similar(self, query: Query, item_id: str) -> Ranking:
        recommender = self._recommender()

        def rank(query: Query, _: Sequence[Interaction]) -> Ranking:
            return recommender.similar(query, item_id)

        return await self._answer("similar", query, recommender, rank)

    async def complements(self, query: Query, item_id: str) -> Ranking:
        recommender = self._recommender()

        def rank(query: Query, _: Sequence[Interaction]) -> Ranking:
            return recommender.complements(query, item_id)

        return await self._answer("complements", query, recommender, rank)

    async def suggest(self, prefix: str, k: int) -> tuple[str, list[Suggestion]]:
        release = self._recommender().release
        return release.version, await self._in_thread(release.suggestions.complete, prefix, k)

    async def explain(self, request_id: str, item_id: str) -> Explanation:
        impression = await self._in_thread(self.events.impression, request_id)
        if impression is None:
            raise NotFoundError(
                f"request {request_id!r} is not in the log: impressions are written just after the "
                "answer, give the request_id of an answer"
            )
        recommender = await self._in_thread(self.live.inspect, impression.release)
        interest = impression.parameters.get("interest")
        text = interest if impression.query is None else impression.query
        encoded = None if text is None else await self._encode_text(recommender, text)

        def work() -> Explanation:
            _, recent = self._user_events(impression.user_id, recommender.release)
            earlier = [event for event in recent if event.time <= impression.time]
            read = (encoded.parsed, encoded.vector_D) if encoded else None
            return explain(recommender, impression, item_id, earlier, read)

        return await self._in_thread(work)

    async def item(self, item_id: str) -> tuple[str, Item]:
        release = self._recommender().release
        return await self._in_thread(find_item, release, item_id, self.catalogue)

    async def variants(self, item_id: str) -> list[Item]:
        release = self._recommender().release
        return await self._in_thread(find_variants, release, item_id)

    async def thumbnails(self, item_ids: Sequence[str]) -> dict[str, str]:
        release = self._recommender().release
        return await self._in_thread(find_thumbnails, release, item_ids)

    async def thumbnail(self, content_hash: str) -> bytes:
        release = self._recommender().release
        return await self._in_thread(find_thumbnail, release, content_hash)

    async def _answer(
        self,
        surface: str,
        query: Query,
        recommender: Recommender,
        rank: Callable[[Query, Sequence[Interaction]], Ranking],
        text: EncodedText | None = None,
    ) -> Ranking:
        """Ranks with as much of the user as their privacy state allows, and logs an impression
        unless they opted out."""

        def work() -> tuple[Ranking, PrivacyState]:
            started = time.perf_counter()
            privacy, recent = self._user_events(query.user_id, recommender.release)
            history_ms = (time.perf_counter() - started) * 1000
            allowed = privacy.allows(start_of_night(recommender.release))
            ranking = rank(query if allowed else replace(query, user_id=None), recent)
            stages_ms = {
                **ranking.stages_ms,
                **(text.stages_ms if text else {}),
                "history": history_ms,
                "answer": (time.perf_counter() - started) * 1000,
            }
            skipped = (*(text.skipped if text else ()), *ranking.skipped)
            return replace(ranking, stages_ms=stages_ms, skipped=skipped), privacy

        ranking, privacy = await self._in_thread(work)
        ranking = replace(ranking, snapshot=recommender.release.snapshot)
        if (ranking.total or 0) > query.offset + query.k:
            self.live.pages.add(recommender)
        if query.logged and not privacy.opted_out:
            self._impressions.add(ranking, surface, query)
        return ranking

    def _user_events(
        self, user_id: str | None, release: Release
    ) -> tuple[PrivacyState, list[Interaction]]:
        """The user's privacy state, and their interactions since the release's night."""
        if user_id is None:
            return PrivacyState(), []
        after = start_of_night(release)
        events = self.events.user_events(user_id, after, self.day.live_events)
        allowed = [each for each in events.interactions if events.privacy.allows(each.time)]
        return events.privacy, allowed

    async def _encode_text(
        self, recommender: Recommender, text: str, deadline: float = math.inf
    ) -> EncodedText:
        """Without a vector, which leaves the words alone, where encoding fails or would take the
        time that the search needs."""
        started = time.perf_counter()
        parsed = await self._in_thread(recommender.understand, text)
        parsed_at = time.perf_counter()
        dim, skipped = recommender.release.item_vectors_ID.shape[1], tuple[str, ...]()
        timeout_s = deadline - parsed_at - SEARCH_SHARE * self.day.deadline_ms / 1000
        try:
            async with asyncio.timeout(None if deadline == math.inf else max(0.0, timeout_s)):
                vector_D = await self._encode(parsed.understanding.normalised, dim)
        except NotReadyError:
            raise
        except Exception as error:
            vector_D, skipped = np.zeros(dim, np.float32), ("encode: found by words alone",)
            if not isinstance(error, TimeoutError):
                reason = metrics.format_error(error, self.day.log_queries)
                logger.error("a text was not encoded: %s", reason)
        stages_ms = {
            "understand": (parsed_at - started) * 1000,
            "encode": (time.perf_counter() - parsed_at) * 1000,
        }
        return EncodedText(parsed=parsed, vector_D=vector_D, stages_ms=stages_ms, skipped=skipped)

    async def _encode(self, text: str, dim: int) -> Floats:
        """Zeros for the empty text."""
        if not text:
            return np.zeros(dim, np.float32)
        vectors = await self.encode(text)
        if vectors.space != self.live.space:
            # A rolling update replaces encoders and shops one by one.
            raise NotReadyError(
                f"the encoder makes {vectors.space!r} and this replica needs {self.live.space!r}: "
                "try again"
            )
        return vectors.matrix_ND[0]

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def _recommender(self, snapshot: str | None = None) -> Recommender:
        if (recommender := self.live.recommender_of(snapshot)) is None:
            raise NotReadyError("nothing is published yet: run python -m jobs.nightly, then retry")
        return recommender

    # Catalogue

    async def changed_fields(self, item_id: str) -> Mapping[str, FieldChange] | None:
        release = self._recommender().release
        return await self._in_thread(self.catalogue.changed_fields, item_id, release)

    async def change_items(self, rows: Sequence[Any]) -> list[ChangeResult | InvalidChange]:
        live = self.live.recommender
        release = live.release if live else None
        return await asyncio.wrap_future(self.catalogue.submit(rows, release))

    # Events

    async def record(
        self, interactions: Sequence[Interaction], impressions: Sequence[Impression]
    ) -> RecordedEvents:
        return await self._in_thread(self._record, interactions, impressions)

    def _record(
        self, interactions: Sequence[Interaction], impressions: Sequence[Impression]
    ) -> RecordedEvents:
        allowed = self._allowed(interactions)
        valid, invalid = self._split_by_item(allowed)
        if invalid:
            reason = f"item is not in release {self.live.version}"
            self.events.quarantine([(reason, asdict(event)) for event in invalid])
        if impressions:
            self.events.append_impressions(impressions)
        appended = self.events.append(valid)
        dropped = len(interactions) - len(allowed) + appended.dropped
        outcomes = {
            "duplicate": appended.duplicates,
            "quarantined": len(invalid),
            "dropped": dropped,
        }
        metrics.count_events([event.type for event in allowed], outcomes)
        return RecordedEvents(
            accepted=appended.accepted + len(impressions),
            duplicates=appended.duplicates,
            quarantined=len(invalid),
            dropped=dropped,
        )

    def _allowed(self, interactions: Sequence[Interaction]) -> list[Interaction]:
        """Without what its user's privacy state rules out, which no quarantine may keep either."""
        users = {event.user_id for event in interactions}
        privacy = {user_id: self.events.privacy_state(user_id) for user_id in users}
        return [event for event in interactions if privacy[event.user_id].allows(event.time)]

    def _split_by_item(
        self, interactions: Sequence[Interaction]
    ) -> tuple[list[Interaction], list[Interaction]]:
        """Those with an item of the live release, and the others; without a release all are
        valid."""
        if (recommender := self.live.recommender) is None:
            return list(interactions), []
        row = recommender.release.item_ids.row
        valid, invalid = list[Interaction](), list[Interaction]()
        for event in interactions:
            (invalid if row(event.item_id) is None else valid).append(event)
        return valid, invalid

    # Privacy

    async def forget(self, user_id: str) -> Receipt:
        return await self._in_thread(self.erasure.forget, user_id)

    async def check_receipt(self, token: str) -> tuple[datetime, dict[str, int]]:
        return await self._in_thread(self._check_receipt, token)

    def _check_receipt(self, token: str) -> tuple[datetime, dict[str, int]]:
        user_id, forgotten = open_receipt(self.events, token)
        return forgotten, find_traces(self.live.setup, self.events, user_id, forgotten)

    async def opt_out(self, user_id: str, opted_out: bool) -> None:
        await self._in_thread(self._set_opt_out, user_id, opted_out)

    def _set_opt_out(self, user_id: str, opted_out: bool) -> None:
        privacy = self.events.privacy_state(user_id)
        self.events.set_privacy_state(user_id, replace(privacy, opted_out=opted_out))

    # Releases

    async def releases(self) -> list[dict[str, Any]]:
        return await self._in_thread(self.live.list_releases)

    async def promote(self, version: str) -> None:
        await self._in_thread(self.live.promote, version)

    def health(self) -> Health:
        version, created = None, None
        if recommender := self.live.recommender:
            version = recommender.release.version
            created = start_of_night(recommender.release)
        return Health(version, created, self.live.space, dict(self.live.refused))
