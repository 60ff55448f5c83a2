"""The catalogue log in Redis: the contract against a real server, and what only kill -9 of it can
show."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import pytest

from recsys.catalogue import redis
from recsys.catalogue.changes import CatalogueLog, ChangeResult
from recsys.catalogue.redis import RedisCatalogueLog
from recsys.errors import StoreDownError
from tests.catalogue_contract import (
    CatalogueLogContract,
    check_two_processes,
    every,
    patch,
    values,
)
from tests.redis_server import RedisServer

OPENER = "from recsys.catalogue import redis; log = redis.RedisCatalogueLog({url!r}, {prefix!r})"


class TestRedisCatalogueLog(CatalogueLogContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def open(self, folder: Path) -> CatalogueLog:
        return pickle.loads(pickle.dumps(partial(RedisCatalogueLog, self.url, str(folder))))()


def test_two_processes_append_at_once_and_one_is_killed(redis_url: str, tmp_path: Path) -> None:
    prefix = str(tmp_path)
    opener = OPENER.format(url=redis_url, prefix=prefix)
    check_two_processes(opener, partial(RedisCatalogueLog, redis_url, prefix))


def test_an_acknowledged_change_survives_kill_9_of_the_server(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    log = RedisCatalogueLog(server.url)
    try:
        log.append([patch("a", price=1.0)], every)
        server.kill()
        with pytest.raises(StoreDownError, match="cannot be reached"):
            log.append([patch("b", price=1.0)], every)
        server.start()
        assert log.append([patch("b", price=2.0)], every) == [ChangeResult("accepted", 2)]
        assert values(log) == {"a": {"price": 1.0}, "b": {"price": 2.0}}
    finally:
        server.kill()


def test_what_another_changed_between_read_and_write_is_read_again(
    redis_url: str, tmp_path: Path
) -> None:
    log, other = (RedisCatalogueLog(redis_url, str(tmp_path)) for _ in range(2))
    rivals = [patch("a", in_stock=False), patch("a", title="Mug")]

    def exists(item_id: str) -> bool:
        if rivals and item_id == "b":  # after the read, before the write
            other.append([rivals.pop()], every)
        return True

    results = log.append([patch("b", price=1.0), patch("a", price=2.0)], exists)
    assert results == [ChangeResult("accepted", 3), ChangeResult("accepted", 4)]
    expected = {"price": 2.0, "in_stock": False, "title": "Mug"}
    assert values(log) == {"a": expected, "b": {"price": 1.0}}
    assert [change.number for change in log.states()[1].fields.values()] == [1, 2, 4]


def test_who_never_gets_a_turn_is_told(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "TRIES", 3)
    log, other = (RedisCatalogueLog(redis_url, str(tmp_path)) for _ in range(2))
    prices = iter(range(9))

    def exists(item_id: str) -> bool:
        other.append([patch("a", price=float(next(prices)))], every)
        return True

    with pytest.raises(StoreDownError, match="changed by others 3 times"):
        log.append([patch("a", in_stock=True), patch("b", price=1.0)], exists)
    assert list(values(log)) == ["a"]
