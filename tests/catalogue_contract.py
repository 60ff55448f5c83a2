"""What every log of the catalogue's changes does, whatever holds it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from recsys.catalogue.changes import (
    CatalogueLog,
    ChangeResult,
    ItemChange,
    ItemState,
    apply_changes,
)
from recsys.errors import InputError

ROOT = Path(__file__).parents[1]


def every(item_id: str) -> bool:
    """Of a release that has every item."""
    return True


def none(item_id: str) -> bool:
    """Of a release that has no item."""
    return False


def put(item_id: str, version: int | None = None, **fields: Any) -> ItemChange:
    return ItemChange(item_id=item_id, kind="put", fields=fields, version=version)


def patch(item_id: str, version: int | None = None, **fields: Any) -> ItemChange:
    return ItemChange(item_id=item_id, kind="patch", fields=fields, version=version)


def delete(item_id: str) -> ItemChange:
    return ItemChange(item_id=item_id, kind="delete")


def values(log: CatalogueLog) -> dict[str, dict[str, Any]]:
    return {state.item_id: state.values() for state in log.states()}


def statuses(results: Sequence[ChangeResult]) -> list[str]:
    return [result.status for result in results]


class CatalogueLogContract:
    """`open` opens the same log each time it is given the same folder."""

    def open(self, folder: Path) -> CatalogueLog:
        raise NotImplementedError

    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[CatalogueLog]:
        log = self.open(tmp_path)
        yield log
        log.close()

    def test_a_new_log_is_empty(self, log: CatalogueLog) -> None:
        assert (log.states(), log.end(), log.state("mug")) == ([], 0, None)
        assert log.append([], every) == []
        assert log.health().up
        assert log.drain() == 0

    def test_a_state_comes_back_as_it_was(self, log: CatalogueLog) -> None:
        fields = {
            "title": "Çay bardağı 杯子",
            "price": 4.1,
            "in_stock": None,
            "added": "2026-03-01T00:00:00+00:00",
            "_attributes": [["colour", 'red\n"dark"']],
        }
        [result] = log.append([put("shelf/杯 1", 7, **fields)], none)
        assert result == ChangeResult("accepted", log.end(), 7)
        state = log.state("shelf/杯 1")
        assert state is not None
        assert [state] == log.states()
        assert (state.values(), state.version, state.whole) == (fields, 7, True)
        assert {change.number for change in state.fields.values()} == {state.number}

    def test_each_change_is_upon_those_before_it(self, log: CatalogueLog) -> None:
        changes = [put("a", price=1.0), patch("a", price=2.0), patch("b", price=1.0), delete("a")]
        assert statuses(log.append(changes, none)) == [*["accepted"] * 2, "missing", "accepted"]
        [state] = log.states()
        assert (state.deleted, state.values(), state.number) == (True, {}, log.end())
        assert statuses(log.append([put("a", price=3.0)], none)) == ["accepted"]
        assert values(log) == {"a": {"price": 3.0}}

    def test_what_changes_nothing_has_no_new_number(self, log: CatalogueLog) -> None:
        log.append([patch("a", 7, price=1.0)], every)
        end = log.end()
        changes = [patch("a", 7, price=1.0), patch("a", 6, price=2.0)]
        assert log.append(changes, every) == [
            ChangeResult("unchanged", end, 7),
            ChangeResult("stale", end, 7),
        ]
        assert log.end() == end

    def test_what_a_night_may_have_replaced_is_said_anew(self, log: CatalogueLog) -> None:
        """Its files are newer than the change, and hold another price; then the shop repeats it."""
        first = [patch("a", price=1.0), patch("b", 7, price=1.0), delete("c")]
        log.append(first, every)
        assert statuses(log.append(first, every)) == ["unchanged"] * 3
        folded = log.end()
        again = [patch("a", price=1.0), patch("b", 7, price=1.0), patch("b", 8, price=1.0)]
        results = log.append([*again, delete("c")], every, folded)
        assert statuses(results) == ["accepted", "unchanged", "accepted", "accepted"]
        states = log.states(after=folded)
        assert [state.changed_since(folded) for state in states] == [{"price": 1.0}] * 2 + [{}]
        repeats = [*first[:1], *again[2:], *first[2:]]
        assert statuses(log.append(repeats, every, folded)) == ["unchanged"] * 3

    def test_an_item_that_a_night_brought_back_is_there_again(self, log: CatalogueLog) -> None:
        log.append([delete("a"), delete("b")], every)
        assert statuses(log.append([patch("a", price=1.0)], every)) == ["missing"]
        folded = log.end()
        patches = [patch("a", price=1.0), patch("b", price=1.0)]
        results = log.append(patches, lambda item_id: item_id == "a", folded)
        assert statuses(results) == ["accepted", "missing"]
        [state] = log.states(after=folded)
        assert (state.deleted, state.whole, state.values()) == (False, False, {"price": 1.0})

    def test_states_are_in_the_order_of_their_last_change(self, log: CatalogueLog) -> None:
        log.append([patch(item_id, price=1.0) for item_id in "abcd"], every)
        log.append([patch("b", in_stock=False), patch("a", price=1.0)], every)
        states = log.states()
        assert [state.item_id for state in states] == ["a", "c", "d", "b"]
        assert all(a.number < b.number for a, b in pairwise(states))
        assert states[-1].number == log.end()
        assert log.states(after=states[1].number, limit=1) == states[2:3]
        assert log.states(after=log.end()) == []
        assert states[-1].changed_since(states[0].number) == {"price": 1.0, "in_stock": False}
        assert states[-1].changed_since(states[2].number) == {"in_stock": False}

    def test_more_states_than_a_page(self, log: CatalogueLog) -> None:
        for start in range(0, 3000, 1000):
            changes = [patch(f"i{number}", price=1.0) for number in range(start, start + 1000)]
            log.append(changes, every)
        assert [state.item_id for state in log.states()] == [f"i{row}" for row in range(3000)]

    def test_an_append_that_fails_writes_nothing(self, log: CatalogueLog) -> None:
        with pytest.raises(InputError):
            log.append([patch("a", price=1.0), patch("b", title="\ud800")], every)
        assert (log.states(), log.end()) == ([], 0)
        with pytest.raises(ZeroDivisionError):
            log.append([put("a", price=1.0), patch("b", price=1.0)], lambda _: bool(1 / 0))
        assert (log.states(), log.end()) == ([], 0)

    def test_it_does_not_matter_how_changes_are_cut_into_calls(
        self, log: CatalogueLog, tmp_path: Path
    ) -> None:
        """200 changes of four items, in calls of up to nine, as all of them in memory."""
        dice = random.Random(7)
        changes = [
            ItemChange(
                item_id=dice.choice("abcd"),
                kind=(kind := dice.choice(("put", "patch", "patch", "delete"))),
                fields={} if kind == "delete" else {dice.choice("xyz"): dice.randrange(3)},
                version=dice.choice((None, dice.randrange(40))),
            )
            for _ in range(200)
        ]
        results, rest = list[ChangeResult](), list(changes)
        while rest:
            size = dice.randrange(1, 10)
            results += log.append(rest[:size], lambda item_id: item_id in "ab")
            rest = rest[size:]
        states, expected = apply_changes(
            dict.fromkeys("abcd"),
            changes,
            end=0,
            time=datetime.now(UTC),
            exists=lambda item_id: item_id in "ab",
        )
        assert [(each.status, each.version) for each in results] == [
            (each.status, each.version) for each in expected
        ]
        assert {
            (s.item_id, s.whole, s.deleted, repr(sorted(s.values().items()))) for s in states
        } == {
            (s.item_id, s.whole, s.deleted, repr(sorted(s.values().items()))) for s in log.states()
        }
        assert set(statuses(results)) == {"accepted", "unchanged", "stale", "missing"}

    def test_a_second_opener_reads_and_continues_it(
        self, log: CatalogueLog, tmp_path: Path
    ) -> None:
        log.append([patch("a", price=1.0)], every)
        second = self.open(tmp_path)
        assert second.states() == log.states()
        second.append([patch("a", in_stock=False)], every)
        assert values(log) == {"a": {"price": 1.0, "in_stock": False}}
        second.close()

    def test_a_follower_misses_nothing_while_two_append(
        self, log: CatalogueLog, tmp_path: Path
    ) -> None:
        """Each writes its own items, and counts up one that both share: of that one too a follower
        has the last state, and numbers rise as it reads."""
        followed: dict[str, ItemState] = {}
        position = 0

        def follow() -> None:
            nonlocal position
            for state in log.states(after=position, limit=7):
                assert state.number > position
                position, followed[state.item_id] = state.number, state

        with ThreadPoolExecutor(2) as pool:
            writers = [pool.submit(self._write, tmp_path, name) for name in "ab"]
            while not all(writer.done() for writer in writers):
                follow()
            for writer in writers:
                writer.result()
        while position < log.end():
            follow()
        assert followed == {state.item_id: state for state in log.states()}
        assert len(followed) == 121
        assert followed["shared"].values() == {"a": 59, "b": 59}

    def _write(self, folder: Path, name: str) -> None:
        log = self.open(folder)
        for number in range(60):
            shared = patch("shared", **{name: number})
            log.append([patch(f"{name}{number}", price=1.0), shared], every)
        log.close()


class WriterProcess:
    """A process that appends one change after the other and says so; `opener` is the code that
    opens its log."""

    CODE = """
import sys
from recsys.catalogue.changes import ItemChange
{opener}
name = sys.argv[1]
for number in range(int(sys.argv[2])):
    fields = dict([(name, number), ("last", [name, number])])
    change = ItemChange(item_id="shared", kind="patch", fields=fields)
    own = ItemChange(item_id=name + str(number), kind="put", fields=dict(price=1.0))
    results = log.append([change, own], lambda _: True)
    assert [result.status for result in results] == ["accepted"] * 2, results
    print(number, flush=True)
"""

    def __init__(self, opener: str, name: str, count: int) -> None:
        code = self.CODE.format(opener=opener)
        command = [sys.executable, "-c", code, name, str(count)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.acknowledged = -1

    def read(self, lines: int | None = None) -> None:
        """The acknowledgements of so many changes, or of all."""
        assert self.process.stdout is not None
        while lines is None or lines > 0:
            if not (line := self.process.stdout.readline()):
                break
            self.acknowledged = int(line)
            lines = None if lines is None else lines - 1

    def kill(self) -> None:
        """SIGKILL; what it acknowledged before is read."""
        self.process.kill()
        self.read()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def check_two_processes(opener: str, open_log: Callable[[], CatalogueLog]) -> None:
    """One is killed on its way: nothing acknowledged is lost, and the shared item has one order."""
    writers = [WriterProcess(opener, name, 150) for name in "ab"]
    writers[0].read(60)
    writers[0].kill()
    writers[1].read()
    writers[1].kill()
    log = open_log()
    numbers = {state.item_id: state for state in log.states()}
    shared = numbers.pop("shared")
    assert shared.fields["last"].number == shared.number
    for writer, name in zip(writers, "ab", strict=True):
        items = {item_id for item_id in numbers if item_id.startswith(name)}
        count = len(items)
        # the last may have been written and not yet acknowledged
        assert count - 1 <= writer.acknowledged + 1 <= count
        assert items == {f"{name}{number}" for number in range(count)}
        assert shared.values()[name] == count - 1
        own = [numbers[f"{name}{number}"].number for number in range(count)]
        assert own == sorted(own)
    assert writers[1].acknowledged == 149
    log.close()
