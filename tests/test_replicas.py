"""A Shop replica over a fake log and a fake release: what it reads of a user, what it leaves out,
what it logs. And, at the end, over a real release."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.interfaces import AppendResult, LogState, UserEvents
from recsys.types import Filters, Impression, Interaction, PrivacyState, Query, Ranking, Vectors
from serve.replicas import ShopReplica
from serve.routes.shop import NotReadyError, RecordedEvents
from tests.checkerboard import setup
from tests.serving import eventually, home, make_shop  # noqa: F401

NIGHT = datetime(2026, 1, 2, tzinfo=UTC)


def click(event_id: str, user_id: str, item_id: str = "i1", hours: float = 1.0) -> Interaction:
    """So many hours after the night began."""
    return Interaction(
        event_id=event_id,
        user_id=user_id,
        item_id=item_id,
        type="click",
        time=NIGHT + timedelta(hours=hours),
    )


@dataclass
class FakeLog:
    """An event log in memory that records what it is asked on the request path."""

    privacy: dict[str, PrivacyState] = field(default_factory=dict)
    stored: list[Interaction] = field(default_factory=list)
    quarantined: list[tuple[str, Any]] = field(default_factory=list)
    impressions: list[Impression] = field(default_factory=list)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def user_events(self, user_id: str, after: datetime, limit: int) -> UserEvents:
        self.calls.append(("user_events", user_id, after, limit))
        events = [each for each in self.stored if each.user_id == user_id and each.time > after]
        return UserEvents(self._privacy_state(user_id), events)

    def privacy_state(self, user_id: str) -> PrivacyState:
        self.calls.append(("privacy_state", user_id))
        return self._privacy_state(user_id)

    def _privacy_state(self, user_id: str) -> PrivacyState:
        return self.privacy.get(user_id, PrivacyState())

    def set_privacy_state(self, user_id: str, state: PrivacyState) -> None:
        self.privacy[user_id] = state

    def append(self, interactions: Sequence[Interaction]) -> AppendResult:
        self.stored += interactions
        return AppendResult(len(interactions), 0)

    def append_impressions(self, impressions: Sequence[Impression]) -> None:
        self.impressions += impressions

    def quarantine(self, rows: Sequence[tuple[str, Any]]) -> None:
        self.quarantined += rows

    def state(self) -> LogState:
        return LogState()

    def close(self) -> None: ...


@dataclass
class FakeRecommender:
    """Of a release with item i1; records the queries and events that it ranks by."""

    release: Any = field(
        default_factory=lambda: SimpleNamespace(
            version="v1",
            snapshot="r@0",
            manifest=SimpleNamespace(created=NIGHT.isoformat(), amended=""),
            item_ids=SimpleNamespace(row=lambda item_id: 0 if item_id == "i1" else None),
            item_vectors_ID=np.zeros((1, 64), np.float32),
        )
    )
    requests: list[tuple[Any, ...]] = field(default_factory=list)

    def understand(self, text: str) -> Any:
        return SimpleNamespace(understanding=SimpleNamespace(normalised=text))

    def search(self, query: Query, vector_D: Any, parsed: Any) -> Ranking:
        return self._rank(query, vector_D, query.deadline)

    def recommend(self, query: Query, recent: Sequence[Interaction], interest: Any) -> Ranking:
        return self._rank(query, [each.event_id for each in recent], interest)

    def similar(self, query: Query, item_id: str) -> Ranking:
        return self._rank(query, item_id)

    def _rank(self, query: Query, *inputs: Any) -> Ranking:
        self.requests.append((query.user_id, *inputs))
        return Ranking(request_id=query.request_id, release="v1", items=())


async def encode(text: str) -> Vectors:
    encoder = setup().encoder()
    return Vectors((text,), encoder.encode_queries([text]), encoder.space)


def encoder_of(encode: Callable[[str], Any]) -> Any:
    """The handle of an Encoder deployment."""
    return SimpleNamespace(encode=SimpleNamespace(remote=encode))


@dataclass
class Fakes:
    shop: ShopReplica
    log: FakeLog
    recommender: FakeRecommender

    def logged(self, requests: int) -> list[tuple[str, str | None]]:
        """Surface and user of each impression, once so many requests were answered."""
        self.shop.close()
        assert len(self.recommender.requests) == requests
        return [(each.surface, each.user_id) for each in self.log.impressions]


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    log, recommender = FakeLog(), FakeRecommender()
    day = replace(setup().day, live_events=7, deadline_ms=400.0)
    fake_setup = replace(setup(), event_store=lambda: log, day=day)
    shop = ShopReplica(fake_setup, encoder_of(encode))
    shop.live.recommender = recommender
    yield Fakes(shop, log, recommender)
    shop.close()


def query(user_id: str | None = "u1", **changes: Any) -> Query:
    return Query(request_id="r1", user_id=user_id, **changes)


async def answer_all(shop: ShopReplica, user_id: str | None = "u1") -> None:
    await shop.recommend(query(user_id))
    await shop.search(query(user_id, text="chair"))
    await shop.similar(query(user_id), "i1")


def test_every_answer_makes_one_trip_to_the_log(fakes: Fakes) -> None:
    asyncio.run(answer_all(fakes.shop))
    assert fakes.log.calls == [("user_events", "u1", NIGHT, 7)] * 3


def test_an_answer_without_a_user_makes_none(fakes: Fakes) -> None:
    asyncio.run(answer_all(fakes.shop, None))
    assert fakes.log.calls == []
    assert fakes.logged(3) == [("recommend", None), ("search", None), ("similar", None)]


def test_a_recommendation_counts_what_was_done_since_the_night(fakes: Fakes) -> None:
    fakes.log.stored += [click("e1", "u1", hours=-1), click("e2", "u1"), click("e3", "u2")]
    asyncio.run(fakes.shop.recommend(query()))
    assert fakes.recommender.requests == [("u1", ["e2"], None)]
    assert fakes.logged(1) == [("recommend", "u1")]


def test_a_user_who_opted_out_is_a_stranger_and_leaves_nothing(fakes: Fakes) -> None:
    fakes.log.stored.append(click("e1", "u1"))
    asyncio.run(fakes.shop.opt_out("u1", True))
    assert fakes.log.privacy == {"u1": PrivacyState(opted_out=True)}
    asyncio.run(answer_all(fakes.shop))
    assert [request[0] for request in fakes.recommender.requests] == [None] * 3
    assert fakes.recommender.requests[0] == (None, [], None)
    assert fakes.logged(3) == []


def test_a_forgotten_user_is_known_by_what_they_did_since(fakes: Fakes) -> None:
    fakes.log.privacy["u1"] = PrivacyState(forgotten=NIGHT + timedelta(hours=2))
    fakes.log.stored += [click("e1", "u1", hours=1), click("e2", "u1", hours=3)]
    asyncio.run(fakes.shop.recommend(query()))
    assert fakes.recommender.requests == [(None, ["e2"], None)]
    assert fakes.logged(1) == [("recommend", "u1")]


def test_a_user_forgotten_before_the_night_is_known_to_its_release(fakes: Fakes) -> None:
    fakes.log.privacy["u1"] = PrivacyState(forgotten=NIGHT - timedelta(hours=1))
    asyncio.run(fakes.shop.recommend(query()))
    assert fakes.recommender.requests == [("u1", [], None)]


def test_recording_asks_once_for_each_user_and_sorts_out(fakes: Fakes) -> None:
    fakes.log.privacy["u2"] = PrivacyState(opted_out=True)
    events = [click("e1", "u1"), click("e2", "u1", "gone"), click("e3", "u1")]
    events += [click("e4", "u2"), click("e5", "u2", "gone")]
    impression = Impression(
        request_id="r1", time=NIGHT, release="v1", surface="client", item_ids=()
    )
    recorded = asyncio.run(fakes.shop.record(events, [impression]))
    assert recorded == RecordedEvents(accepted=3, duplicates=0, quarantined=1, dropped=2)
    assert sorted(fakes.log.calls) == [("privacy_state", "u1"), ("privacy_state", "u2")]
    assert [event.event_id for event in fakes.log.stored] == ["e1", "e3"]
    [(reason, row)] = fakes.log.quarantined
    assert (reason, row["event_id"]) == ("item is not in release v1", "e2")
    assert fakes.log.impressions == [impression]


def test_without_a_release_events_are_kept_and_questions_refused(fakes: Fakes) -> None:
    fakes.shop.live.recommender = None
    recorded = asyncio.run(fakes.shop.record([click("e1", "u1", "gone")], []))
    assert (recorded.accepted, recorded.quarantined) == (1, 0)
    for call in (fakes.shop.recommend(query()), fakes.shop.search(query(text="chair"))):
        with pytest.raises(NotReadyError, match=r"jobs\.nightly"):
            asyncio.run(call)


def test_encoding_leaves_a_quarter_of_the_deadline_to_the_search(fakes: Fakes) -> None:
    async def never(text: str) -> Vectors:
        await asyncio.sleep(60)
        raise AssertionError

    fakes.shop.encode = never
    deadline = time.perf_counter() + 0.4
    ranking = asyncio.run(fakes.shop.search(query(text="chair", deadline=deadline)))
    assert ranking.skipped == ("encode: found by words alone",)
    assert 250 < ranking.stages_ms["encode"] < 350
    [(_, vector_D, _)] = fakes.recommender.requests
    assert not vector_D.any()


def test_a_search_is_given_the_deadline_of_its_request(fakes: Fakes) -> None:
    deadline = time.perf_counter() + 60
    asyncio.run(fakes.shop.search(query(text="chair", deadline=deadline)))
    [(_, _, passed_on)] = fakes.recommender.requests
    assert passed_on == deadline


def test_a_vector_of_another_space_is_never_searched_with(fakes: Fakes) -> None:
    """The Encoder deployment of a rolling update may have been replaced already."""

    async def other(text: str) -> Vectors:
        return Vectors((text,), np.ones((1, 64), np.float32), "other-64")

    fakes.shop.encode = other
    with pytest.raises(NotReadyError, match="other-64"):
        asyncio.run(fakes.shop.search(query(text="red chair")))
    assert fakes.recommender.requests == []


def test_a_text_of_nothing_is_not_encoded(fakes: Fakes) -> None:
    async def fail(text: str) -> Vectors:
        raise AssertionError

    fakes.shop.encode = fail
    assert asyncio.run(fakes.shop.search(query(text=""))).skipped == ()


def test_a_dead_thread_makes_a_replica_unhealthy(fakes: Fakes) -> None:
    fakes.shop.check_health()
    fakes.shop._impressions.close(10)
    with pytest.raises(RuntimeError, match="has died"):
        fakes.shop.check_health()


# Over a real release


@pytest.mark.ray
def test_an_answer_leaves_its_impression(home: Path, make_shop: Callable[..., Any]) -> None:
    shop = make_shop()
    request = Query(request_id="r1", k=3, user_id="u03", filters=Filters())
    ranking = asyncio.run(shop.recommend(request))
    assert {"history", "answer"} <= set(ranking.stages_ms)
    eventually(lambda: shop.events.counts()["impressions"] == 1)
    impression = next(shop.events.impressions())
    assert impression.request_id == "r1"
    assert (impression.surface, impression.user_id) == ("recommend", "u03")
    assert impression.item_ids == tuple(item.item.item_id for item in ranking.items)


@pytest.mark.ray
def test_an_interest_is_encoded_as_a_search_is(home: Path, make_shop: Callable[..., Any]) -> None:
    texts: list[str] = []

    async def record(text: str) -> Vectors:
        texts.append(text)
        return await encode(text)

    shop = make_shop(encoder_of(record))
    interest = Query(request_id="r1", k=2, user_id="nobody", interest="Blue LAPM under $90")
    ranking = asyncio.run(shop.recommend(interest))
    plain = asyncio.run(shop.recommend(replace(interest, request_id="r2", interest=None)))
    assert texts == ["blue lamp"]
    assert ranking.items[0].item.title == "blue lamp" != plain.items[0].item.title
    assert {"understand", "encode", "interest", "answer"} <= set(ranking.stages_ms)
    assert "encode" not in plain.stages_ms
