"""The catalogue log in SQLite: the contract, and what only several processes can show."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from recsys.catalogue.changes import CatalogueLog
from recsys.catalogue.sqlite import SqliteCatalogueLog
from recsys.config import catalogue_log, tiny
from recsys.errors import InputError, StoreDownError
from recsys.events import sqlite_database
from tests.catalogue_contract import CatalogueLogContract, check_two_processes, every, patch

OPENER = "from recsys.catalogue import sqlite; log = sqlite.SqliteCatalogueLog({path!r})"


class TestSqliteCatalogueLog(CatalogueLogContract):
    def open(self, folder: Path) -> CatalogueLog:
        return SqliteCatalogueLog(folder / "home" / "catalogue.sqlite")


def test_two_processes_append_at_once_and_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"  # not there yet: both also make it
    check_two_processes(OPENER.format(path=str(path)), partial(SqliteCatalogueLog, path))


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be taken for one" * 50, None]
)
def test_a_path_that_is_no_log_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "catalogue.sqlite"
    path.write_bytes(content) if content else path.mkdir()
    with pytest.raises(InputError, match=r"sqlite cannot be opened as a catalogue log"):
        SqliteCatalogueLog(path)


def test_a_log_that_stays_locked_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_database, "BUSY_TIMEOUT_S", 0.05)
    first, second = (SqliteCatalogueLog(tmp_path / "log") for _ in range(2))
    with first.database.transaction(), pytest.raises(StoreDownError, match="locked"):
        second.append([patch("a", price=1.0)], every)
    assert second.states() == []
    first.close()
    second.close()


def test_the_log_lies_in_the_home(tmp_path: Path) -> None:
    setup = replace(tiny(), home=f"file://{tmp_path}")
    log = setup.catalogue_log()
    log.append([patch("a", price=1.0)], every)
    log.close()
    assert (tmp_path / "catalogue.sqlite").exists()
    other = replace(setup, catalogue_store=partial(SqliteCatalogueLog, tmp_path / "other"))
    assert other.catalogue_log().end() == 0


def test_of_a_home_far_away_it_lies_beside_the_event_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NIGHTSHELF_EVENTS", raising=False)
    with pytest.raises(InputError, match="catalogue log cannot lie at s3://shop"):
        catalogue_log("s3://shop")
    monkeypatch.setenv("NIGHTSHELF_EVENTS", str(tmp_path / "events.sqlite"))
    catalogue_log("s3://shop")().close()
    assert (tmp_path / "catalogue.sqlite").exists()
