"""What runs in Ray Serve: shells around an `Encoder` and a `Recommender`. Plain classes;
`app.compose` wraps them."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import numpy as np
from ray import serve

from recsys.config import Setup
from recsys.errors import NotFoundError
from recsys.events.feedback import impression
from recsys.models.composition import serving_setup
from recsys.pipeline.explain import Explanation, explain
from recsys.pipeline.recommender import Recommender
from recsys.privacy.forget import Receipt
from recsys.release.release import Release
from recsys.types import Floats, Impression, Interaction, Item, Query, Ranking, Vectors
from recsys.understanding.query_parser import ParsedQuery
from recsys.understanding.suggest import Suggestion
from serve import metrics
from serve.access import of_replica
from serve.live import LiveRelease, created
from serve.routes.api import Health, NotReadyError, Recorded, build_api
from serve.routes.people import Decisions

T = TypeVar("T")
logger = logging.getLogger("ray.serve")

#: Impressions that may wait for the disk; more are dropped and counted.
WAITING_IMPRESSIONS = 10_000


class EncoderReplica:
    """Query texts to vectors, many requests in one call of the model."""

    def __init__(self, setup: Setup) -> None:
        self._encoder = serving_setup(setup).encoder()
        self.space = self._encoder.space
        self._encoder.encode_queries(["warm up"])
        if "torch" in sys.modules:
            # One thread a replica: replicas share the host's cores, and more of them scale better
            # than threads.
            sys.modules["torch"].set_num_threads(1)
        self._pool = ThreadPoolExecutor(1, "encode")
        # On the instance: setups differ in size and wait, and a queue belongs to one event loop.
        batched = serve.batch(
            max_batch_size=setup.day.batch_size, batch_wait_timeout_s=setup.day.batch_wait_ms / 1000
        )
        self._batched: Callable[[str], Awaitable[Vectors | Exception]] = batched(self.encode_batch)

    async def encode(self, text: str) -> Vectors:
        """One vector, with the space it belongs to. Raises what the model raises of this text."""
        answer = await self._batched(text)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def encode_batch(self, texts: list[str]) -> list[Vectors | Exception]:
        """One call of the model, off the event loop; where that fails, one a text, so that each
        gets its own answer."""
        loop = asyncio.get_running_loop()
        try:
            matrix_ND = await loop.run_in_executor(self._pool, self._encoder.encode_queries, texts)
        except Exception as error:
            if len(texts) == 1:
                return [error]
            return [answer for text in texts for answer in await self.encode_batch([text])]
        return [
            Vectors((text,), matrix_ND[at : at + 1], self.space) for at, text in enumerate(texts)
        ]


class ShopReplica:
    """An `api.Shop` over the release that the store's `current` names; follows it every
    `day.refresh_s`.

    `encoder` is the handle of an Encoder deployment; without one this process encodes by itself.
    `trainer` is that of the deployment that learns by day: its snapshots come through the store,
    the handle keeps it in the application."""

    def __init__(self, setup: Setup, encoder: Any = None, trainer: Any = None) -> None:
        self.day = setup.day
        # One look at `current` decides the encoder and the space that releases must have: it may
        # move between two.
        own = EncoderReplica(setup) if encoder is None else None
        self.encode: Callable[[str], Awaitable[Vectors]] = (
            own.encode if own else encoder.encode.remote
        )
        self.live = LiveRelease(setup, own.space if own else serving_setup(setup).encoder().space)
        self.events = setup.event_store()
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(4, "shop")
        self.decisions = Decisions(setup, self.events, self._closed)
        self._shown: queue.Queue[tuple[Ranking, str, Query]] = queue.Queue(WAITING_IMPRESSIONS)
        follow = partial(self.live.follow, self._closed)
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (follow, self._write_impressions)
        ]
        for thread in self._threads:
            thread.start()
        self._threads.append(self.decisions.thread)

    async def __serve_build_asgi_app__(self) -> Any:
        """Serve's name for: the app, once the replica is made."""
        return build_api(
            self, await asyncio.to_thread(of_replica, self.day.cors_origins)
        )  # it may ask Serve, and wait

    def check_health(self) -> None:
        """Serve replaces a replica that raises here: one that no longer follows `current`, or
        forgets impressions."""
        if not all(thread.is_alive() for thread in self._threads):
            raise RuntimeError("a background thread of this replica has died: see its log")

    # Answers

    async def search(self, query: Query) -> Ranking:
        recommender, started = self._opened(), time.perf_counter()
        assert query.text is not None
        understood, vector_D, stages_ms, skipped = await self._read(
            recommender, query.text, query.deadline
        )
        deadline = min(started + self.day.search_ms / 1000, query.deadline)

        def ask(asked: Query) -> Ranking:
            ranking = recommender.search(asked, vector_D, understood, deadline)
            return replace(ranking, skipped=(*skipped, *ranking.skipped))

        return await self._answer("search", query, recommender, ask, **stages_ms)

    async def _read(
        self, recommender: Recommender, text: str, due: float = math.inf
    ) -> tuple[ParsedQuery, Floats, dict[str, float], tuple[str, ...]]:
        """What a text was taken to mean, its vector, how long both took, and what was left out:
        with a quarter of the deadline left, or without an encoder that can, words alone must do."""
        started = time.perf_counter()
        understood = await self._in_thread(recommender.understand, text)
        known = time.perf_counter()
        dim, skipped = recommender.release.item_vectors_ID.shape[1], tuple[str, ...]()
        left_s = due - known - self.day.deadline_ms / 4000
        try:
            async with asyncio.timeout(None if due == math.inf else max(0.0, left_s)):
                vector_D = await self._encoded(understood, dim)
        except NotReadyError:
            raise
        except Exception as error:
            vector_D, skipped = np.zeros(dim, np.float32), ("encode: found by words alone",)
            if not isinstance(error, TimeoutError):
                logger.error(
                    "a text was not encoded: %s", metrics.told(error, self.day.log_queries)
                )
        stages_ms = {
            "understand": (known - started) * 1000,
            "encode": (time.perf_counter() - known) * 1000,
        }
        return understood, vector_D, stages_ms, skipped

    async def _encoded(self, understood: ParsedQuery, dim: int) -> Floats:
        """The vector of what is left to search; zeros where nothing is."""
        if not understood.understanding.normalised:
            return np.zeros(dim, np.float32)
        vectors = await self.encode(understood.understanding.normalised)
        if (
            vectors.space != self.live.space
        ):  # a rolling update replaces encoders and shops one by one
            raise NotReadyError(
                f"the encoder makes {vectors.space!r} and this replica needs {self.live.space!r}: try again"
            )
        return vectors.matrix_ND[0]

    async def recommend(self, query: Query) -> Ranking:
        recommender, interest, stages_ms = self._opened(), None, dict[str, float]()
        skipped: tuple[str, ...] = ()
        if query.interest is not None:
            understood, vector_D, stages_ms, skipped = await self._read(
                recommender, query.interest, query.deadline
            )
            interest = understood, vector_D

        def ask(asked: Query) -> Ranking:
            started = time.perf_counter()
            live = self._recent(recommender.release, query.user_id)
            history_ms = (time.perf_counter() - started) * 1000
            ranking = recommender.recommend(asked, live, interest)
            stages = {**ranking.stages_ms, "history": history_ms}
            return replace(ranking, stages_ms=stages, skipped=(*skipped, *ranking.skipped))

        return await self._answer("recommend", query, recommender, ask, **stages_ms)

    async def similar(self, query: Query, item_id: str) -> Ranking:
        recommender = self._opened()
        return await self._answer(
            "similar", query, recommender, lambda asked: recommender.similar(asked, item_id)
        )

    async def suggest(self, prefix: str, k: int) -> tuple[str, list[Suggestion]]:
        release = self._opened().release
        return release.version, await self._in_thread(release.suggestions.complete, prefix, k)

    async def explain(self, request_id: str, item_id: str) -> Explanation:
        shown = await self._in_thread(self.events.impression, request_id)
        if shown is None:
            raise NotFoundError(
                f"request {request_id!r} is not in the log: impressions are written just after the answer, give the "
                "request_id of an answer"
            )
        shop = await self._in_thread(self.live.opened, shown.release)
        text, read = shown.query or shown.asked.get("interest"), None
        if text:
            understood, vector_D, *_ = await self._read(shop, text)
            read = understood, vector_D

        def work() -> Explanation:
            live = [
                each
                for each in self._recent(shop.release, shown.user_id)
                if each.time <= shown.time
            ]
            return explain(shop, shown, item_id, live, read)

        return await self._in_thread(work)

    async def item(self, item_id: str) -> tuple[str, Item]:
        return await self._in_thread(_item, self._opened().release, item_id)

    async def _answer(
        self,
        surface: str,
        query: Query,
        recommender: Recommender,
        ask: Callable[[Query], Ranking],
        **stages_ms: float,
    ) -> Ranking:
        """Asks as much as the user allows. The impression is written by another thread, later."""

        def work() -> tuple[Ranking, bool]:
            started = time.perf_counter()
            asked, logged = self.decisions.seen(query, created(recommender.release))
            ranking = ask(asked)
            answered_ms = (time.perf_counter() - started) * 1000
            return replace(
                ranking, stages_ms={**ranking.stages_ms, **stages_ms, "answer": answered_ms}
            ), logged

        ranking, logged = await self._in_thread(work)
        if not logged:
            return ranking
        try:
            self._shown.put_nowait((ranking, surface, query))
        except queue.Full:
            metrics.IMPRESSIONS_DROPPED.inc()
        return ranking

    def _recent(self, release: Release, user_id: str | None) -> list[Interaction]:
        """Since the release's night; nothing of who opted out."""
        if user_id is None:
            return []
        events = self.events.user_events(user_id, created(release), self.day.live_events)
        return [] if events.privacy.opted_out else events.interactions

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def _opened(self) -> Recommender:
        if (live := self.live.recommender) is None:
            raise NotReadyError(
                "nothing is published yet: run python -m jobs.nightly, then ask again"
            )
        return live

    # Events

    async def record(
        self, interactions: Sequence[Interaction], impressions: Sequence[Impression]
    ) -> Recorded:
        return await self._in_thread(self._record, interactions, impressions)

    def _record(
        self, interactions: Sequence[Interaction], impressions: Sequence[Impression]
    ) -> Recorded:
        live = self.live.recommender
        interactions, ruled_out = self._allowed(interactions)
        unknown = [
            live is not None and live.release.item_ids.row(e.item_id) is None for e in interactions
        ]
        if live and any(unknown):
            reason = f"item is not in release {live.release.version}"
            self.events.quarantine(
                [(reason, asdict(e)) for e, bad in zip(interactions, unknown, strict=True) if bad]
            )
        if impressions:
            self.events.append_impressions(impressions)
        appended = self.events.append(
            [e for e, bad in zip(interactions, unknown, strict=True) if not bad]
        )
        for event in interactions:
            metrics.EVENTS.inc(tags={"type": event.type, "outcome": "received"})
        dropped = ruled_out + appended.dropped
        for outcome, count in (
            ("duplicate", appended.duplicates),
            ("quarantined", sum(unknown)),
            ("dropped", dropped),
        ):
            if count:
                metrics.EVENTS.inc(count, {"type": "any", "outcome": outcome})
        return Recorded(
            appended.accepted + len(impressions), appended.duplicates, sum(unknown), dropped
        )

    def _allowed(self, interactions: Sequence[Interaction]) -> tuple[list[Interaction], int]:
        """Without what its user's standing rules out, which no quarantine may keep either; and how
        many that were."""
        standings = {
            user: self.events.privacy_state(user)
            for user in {event.user_id for event in interactions}
        }
        kept = [event for event in interactions if standings[event.user_id].allows(event.time)]
        return kept, len(interactions) - len(kept)

    def _write_impressions(self) -> None:
        """Until closed and nothing waits; everything that waits in one transaction. Says how the
        log is, too."""
        written = reached = time.monotonic()
        while not (self._closed.is_set() and self._shown.empty()):
            waiting: list[tuple[Ranking, str, Query]] = []
            with suppress(queue.Empty):
                waiting.append(self._shown.get(timeout=0.2))
                while len(waiting) < 500:
                    waiting.append(self._shown.get_nowait())
            if self._written(waiting):
                written = time.monotonic()
            log = self.events.state()
            reached = time.monotonic() if log.up else reached
            metrics.LOG_WAITING.set(log.waiting)
            metrics.LOG_DOWN.set(time.monotonic() - reached if not log.up else 0.0)
            metrics.LOG_LAG.set(max(time.monotonic() - written, log.lag_s))

    def _written(self, shown: Sequence[tuple[Ranking, str, Query]]) -> bool:
        try:
            if shown:
                self.events.append_impressions([impression(*each) for each in shown])
            return True
        except Exception as error:
            metrics.IMPRESSIONS_DROPPED.inc(len(shown))
            why = metrics.told(error, self.day.log_queries)
            logger.error("%d impressions were not written: %s", len(shown), why)
            return False

    # People

    async def forget(self, user_id: str) -> Receipt:
        return await self._in_thread(self.decisions.forget, user_id)

    async def look_again(self, receipt: str) -> tuple[datetime, dict[str, int]]:
        return await self._in_thread(self.decisions.look_again, receipt)

    async def opt_out(self, user_id: str, out: bool) -> None:
        await self._in_thread(self.decisions.opt_out, user_id, out)

    # Releases

    async def releases(self) -> list[dict[str, Any]]:
        return await self._in_thread(self.live.listed)

    async def promote(self, version: str) -> None:
        await self._in_thread(self.live.promote, version)

    def health(self) -> Health:
        recommender = self.live.recommender
        version, since = (
            (recommender.release.version, created(recommender.release))
            if recommender
            else (None, None)
        )
        return Health(version, since, self.live.space, dict(self.live.refused))

    def close(self) -> None:
        """Writes the impressions that wait, then lets go of the event store."""
        self._closed.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._pool.shutdown(wait=True)
        self.events.close()


def _item(release: Release, item_id: str) -> tuple[str, Item]:
    if (row := release.item_ids.row(item_id)) is None:
        raise NotFoundError(
            f"item {item_id!r} is not in release {release.version}: take an id from /search"
        )
    return release.version, release.item(row)
