"""A replica whose encoder or re-ranker is slow, or fails: answers come in time, without that part,
and say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.config import search_ranker
from recsys.encoders.hashing import HashingEncoder
from recsys.types import Floats, Query, Ranking, Vectors
from serve.encoder import EncoderReplica
from serve.replicas import ShopReplica
from tests.checkerboard import setup

WORDS_ALONE = ("encode: found by words alone",)


@pytest.fixture
def home(shop_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHELF_HOME", str(shop_home))
    monkeypatch.setenv("NIGHTSHELF_EVENTS", str(tmp_path / "events.sqlite"))


def search_within_half_a_second(
    encode: Callable[[str], Awaitable[Vectors]], text: str = "red chair", **day: Any
) -> tuple[Ranking, float]:
    """A search whose answer is due in half a second, and how many seconds it took."""
    base = setup()
    encoder = SimpleNamespace(encode=SimpleNamespace(remote=encode))
    shop = ShopReplica(replace(base, day=replace(base.day, **day)), encoder)
    try:
        started = time.perf_counter()
        ranking = asyncio.run(
            shop.search(Query(request_id="r1", text=text, k=3, deadline=started + 0.5))
        )
        return ranking, time.perf_counter() - started
    finally:
        shop.close()


async def well(text: str) -> Vectors:
    encoder = setup().encoder()
    return Vectors((text,), encoder.encode_queries([text]), encoder.space)


async def slowly(text: str) -> Vectors:
    await asyncio.sleep(30)
    return await well(text)


async def never(text: str) -> Vectors:
    raise RuntimeError("CUDA error: device-side assert triggered")


@pytest.mark.parametrize("encode", [slowly, never])
def test_a_search_without_its_vector_is_answered_by_words_in_time(
    home: None, encode: Callable[[str], Awaitable[Vectors]]
) -> None:
    ranking, seconds = search_within_half_a_second(encode, deadline_ms=500.0)
    assert ranking.items[0].item.title == "red chair"
    assert ranking.skipped == WORDS_ALONE
    assert seconds < 0.5
    assert search_within_half_a_second(well, deadline_ms=500.0)[0].skipped == ()


class SlowReader:
    """A cross-encoder that takes a fifth of a second a pair."""

    def __init__(self) -> None:
        self.read = 0

    def scores(self, queries: Sequence[str], texts: Sequence[str]) -> Floats:
        self.read += len(texts)
        time.sleep(0.2 * len(texts))
        return np.ones(len(texts), np.float32)


def test_a_slow_reader_is_skipped_not_waited_for(home: None) -> None:
    base = setup()
    reader = SlowReader()
    choices = replace(base.search, rerank_batch=1, rerank_depth=16)
    ranker = search_ranker({"lexical": 1.0, "cross_encoder": 1.0})
    encoder = SimpleNamespace(encode=SimpleNamespace(remote=well))
    shop = ShopReplica(
        replace(base, search=choices, day=replace(base.day, search_ms=300.0)), encoder
    )
    try:
        live = shop.live.recommender
        assert live is not None
        searcher = replace(live.searcher, cross_encoder=reader, ranker=ranker)
        shop.live.recommender = replace(live, searcher=searcher)
        started = time.perf_counter()
        ranking = asyncio.run(
            shop.search(Query(request_id="r1", text="red", k=3, deadline=started + 1.0))
        )
        seconds = time.perf_counter() - started
    finally:
        shop.close()
    assert ranking.items[0].item.title.startswith("red ")
    best = min(ranking.total or 0, choices.rerank_depth)
    assert ranking.skipped == (f"cross_encoder: read {reader.read} of the best {best}",)
    assert reader.read < best
    assert 1 <= reader.read <= 2
    assert seconds < 1.0


@dataclass
class Fragile(HashingEncoder):
    """Raises on every batch with one text in it."""

    def __init__(self) -> None:
        super().__init__(64)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        if "poison" in texts:
            raise RuntimeError("a byte that is none")
        return super().encode_queries(texts)


def test_a_text_that_the_model_fails_on_spoils_no_other_in_its_batch(home: None) -> None:
    encoder = EncoderReplica(replace(setup(), encoder=Fragile))
    first, poison, last = asyncio.run(encoder.encode_batch(["red chair", "poison", "blue lamp"]))
    assert isinstance(poison, RuntimeError)
    plain = HashingEncoder(64).encode_queries(["red chair", "blue lamp"])
    for answer, vector_D in zip((first, last), plain, strict=True):
        assert isinstance(answer, Vectors)
        np.testing.assert_allclose(answer.matrix_ND[0], vector_D, atol=1e-6)
