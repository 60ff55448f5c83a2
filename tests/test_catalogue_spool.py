"""The spool of catalogue changes: accepted while the log is down, there once and in order when it
is back, and never over what is newer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from recsys.catalogue.changes import CatalogueLog, ChangeResult, ItemChange
from recsys.catalogue.spool import SpooledCatalogueLog
from recsys.catalogue.sqlite import SqliteCatalogueLog
from recsys.config import catalogue_log
from recsys.errors import StoreDownError
from recsys.events import backpressure
from recsys.interfaces import LogState
from tests.catalogue_contract import (
    ROOT,
    CatalogueLogContract,
    delete,
    every,
    none,
    patch,
    put,
    statuses,
    values,
)
from tests.redis_server import RedisServer

#: Appends to a spool whose log is down, says so and waits to be killed.
WRITER = """
import sys, time
from recsys.config import catalogue_log
from tests.catalogue_contract import every, patch
log = catalogue_log(sys.argv[1])()
for number in range(3):
    log.append([patch("a", price=float(number)), patch(f"w{number}", price=1.0)], every)
print("acknowledged", flush=True)
time.sleep(60)
"""


class TestSpooledCatalogueLog(CatalogueLogContract):
    def open(self, folder: Path) -> CatalogueLog:
        store = partial(SqliteCatalogueLog, folder / "log.sqlite")
        return SpooledCatalogueLog(store, folder / "spool")


class UnpluggedLog:
    """A log that can be plugged in."""

    def __init__(self, path: Path) -> None:
        self.log, self.is_down = SqliteCatalogueLog(path), True

    def close(self) -> None:
        self.log.close()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            if self.is_down:
                raise StoreDownError("the log is unplugged")
            return getattr(self.log, name)(*arguments)

        return call


@pytest.fixture
def unplugged(tmp_path: Path) -> UnpluggedLog:
    return UnpluggedLog(tmp_path / "log.sqlite")


@pytest.fixture
def spooled(
    unplugged: UnpluggedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SpooledCatalogueLog]:
    monkeypatch.setattr(backpressure, "RETRY_S", 0.01)
    log = SpooledCatalogueLog(lambda: unplugged, tmp_path / "spool")  # type: ignore[arg-type, return-value]
    yield log
    log.close()


def wait_until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_comes_while_the_log_is_down_is_there_in_order(
    unplugged: UnpluggedLog, spooled: SpooledCatalogueLog
) -> None:
    changes = [patch("a", price=1.0), put("b", 7, title="Mug"), delete("c")]
    assert spooled.append(changes, every) == [
        ChangeResult("accepted"),
        ChangeResult("accepted", 0, 7),
        ChangeResult("accepted"),
    ]
    spooled.append([patch("a", price=2.0), patch("b", 6, title="Cup")], every)
    health = spooled.health()
    assert (health.up, health.waiting, health.reason) == (False, 5, "the log is unplugged")
    for read in (spooled.states, spooled.end, partial(spooled.state, "a"), spooled.drain):
        with pytest.raises(StoreDownError, match="unplugged"):
            read()
    unplugged.is_down = False
    wait_until(lambda: spooled.health() == LogState())
    assert values(spooled) == {"a": {"price": 2.0}, "b": {"title": "Mug"}, "c": {}}


def test_what_changed_meanwhile_by_way_of_another_host_stays(
    unplugged: UnpluggedLog, spooled: SpooledCatalogueLog
) -> None:
    """The other host reached the log after the changes that wait were accepted."""
    early = [patch("a", price=1.0, in_stock=True), delete("b"), put("c", title="Cup", price=1.0)]
    spooled.append([*early, patch("d", price=1.0)], every)
    late = [patch("a", price=9.0), patch("b", price=9.0), patch("c", price=9.0), delete("d")]
    unplugged.log.append(late, every)
    unplugged.is_down = False
    wait_until(lambda: spooled.health().up)
    assert values(spooled) == {
        "a": {"price": 9.0, "in_stock": True},
        "b": {"price": 9.0},
        "c": {"title": "Cup", "price": 9.0},
        "d": {},
    }
    assert [state.item_id for state in spooled.states() if state.whole] == ["c"]


def test_a_waiting_change_does_not_outrank_the_versions_of_the_shop(
    unplugged: UnpluggedLog, spooled: SpooledCatalogueLog
) -> None:
    unplugged.log.append([patch("a", 7, price=7.0)], every)
    spooled.append([patch("a", price=1.0)], every)
    unplugged.is_down = False
    wait_until(lambda: spooled.health().up)
    assert statuses(spooled.append([patch("a", 8, price=8.0)], every)) == ["accepted"]


def test_a_log_that_is_down_is_read_in_vain_once(
    unplugged: UnpluggedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backpressure, "RETRY_S", 60.0)
    log = SpooledCatalogueLog(lambda: unplugged, tmp_path / "spool")  # type: ignore[arg-type, return-value]
    with pytest.raises(StoreDownError, match="unplugged"):
        log.states()
    assert not log.health().up
    calls = list[int]()
    unplugged.log.states = lambda *_: calls.append(1)  # type: ignore[assignment, func-returns-value]
    unplugged.is_down = False
    with pytest.raises(StoreDownError, match="unplugged"):  # until somebody has looked again
        log.states()
    assert not calls
    log.drain()
    assert log.health() == LogState()
    log.close()


def test_what_is_refused_on_replay_is_logged(
    unplugged: UnpluggedLog, spooled: SpooledCatalogueLog, caplog: pytest.LogCaptureFixture
) -> None:
    spooled.append([patch("ghost", price=1.0), patch("a", price=1.0)], lambda item: item == "a")
    unplugged.is_down = False
    wait_until(lambda: spooled.health().up)
    assert values(spooled) == {"a": {"price": 1.0}}
    assert "1 changes that waited were refused: 'ghost' (missing)" in caplog.text


def test_a_replay_that_breaks_off_is_repeated_without_harm(
    unplugged: UnpluggedLog, spooled: SpooledCatalogueLog, tmp_path: Path
) -> None:
    """As if killed after the write to the log, before the file was emptied."""
    spooled.append([patch("a", price=1.0), patch("b", price=1.0), delete("c")], every)
    [file] = (tmp_path / "spool").glob("*.spool")
    waiting = file.read_bytes()
    unplugged.is_down = False
    wait_until(lambda: spooled.health().up)
    spooled.append([patch("a", price=2.0), put("c", title="Cup")], every)
    before = spooled.states()
    (tmp_path / "spool" / "dead.spool").write_bytes(waiting)
    wait_until(lambda: not (tmp_path / "spool" / "dead.spool").exists())
    assert spooled.states() == before


def test_drain_writes_what_a_dead_process_left(tmp_path: Path) -> None:
    unplugged = UnpluggedLog(tmp_path / "log.sqlite")
    log = SpooledCatalogueLog(lambda: unplugged, tmp_path / "spool")  # type: ignore[arg-type, return-value]
    log.append([patch("a", price=1.0), put("b", title="Mug")], none)
    log.close()
    store = partial(SqliteCatalogueLog, tmp_path / "log.sqlite")
    heir = SpooledCatalogueLog(store, tmp_path / "spool")
    heir.drain()
    assert values(heir) == {"b": {"title": "Mug"}}
    heir.close()


def test_a_process_killed_with_kill_9_leaves_its_changes_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    monkeypatch.setenv("NIGHTSHELF_EVENTS", f"{server.url}?prefix=shop")
    monkeypatch.setenv("NIGHTSHELF_SPOOL", str(tmp_path / "spool"))
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "acknowledged\n"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    server.start()
    log = catalogue_log(str(tmp_path))()
    try:
        wait_until(lambda: len(log.states()) == 4)
        ones = {f"w{number}": {"price": 1.0} for number in range(3)}
        assert values(log) == {"a": {"price": 2.0}, **ones}
    finally:
        log.close()
        server.kill()


def test_a_full_spool_refuses_and_keeps_what_it_has(
    unplugged: UnpluggedLog, tmp_path: Path
) -> None:
    log = SpooledCatalogueLog(lambda: unplugged, tmp_path / "spool", limit_bytes=400)  # type: ignore[arg-type, return-value]
    log.append([patch("a", price=1.0)], every)
    many = [ItemChange(item_id=f"i{number}", kind="delete") for number in range(9)]
    with pytest.raises(StoreDownError, match=r"wait in .*spool and more than 400 may not"):
        log.append(many, every)
    assert log.health().waiting == 1
    log.close()
