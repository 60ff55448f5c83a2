"""The files of a spool: nothing half written stays, whole lines are read, a dead owner's file is
found."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys.events import spool_file
from recsys.events.spool_file import SpoolFile, orphans, read_lines


def content(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.spool"))]


def writes_half(file: int, line: bytes) -> int:
    return WRITE(file, line[: len(line) // 2])


def fails(*_: object) -> int:
    raise OSError(errno.ENOSPC, "the disk is full")


WRITE = os.write


@pytest.mark.parametrize(
    ("call", "fault"), [("write", writes_half), ("write", fails), ("fsync", fails)]
)
def test_nothing_stays_of_a_line_that_was_not_written(
    call: str, fault: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SpoolFile(tmp_path)
    file.append(b"one\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fault)
        with pytest.raises(OSError, match=r"full|2 of 4 bytes were written"):
            file.append(b"two\n")
    assert (content(tmp_path), file.size) == ([b"one\n"], 4)
    file.append(b"three\n")
    assert (content(tmp_path), file.size) == ([b"one\nthree\n"], 10)
    file.close()


def test_a_folder_that_takes_no_file_is_an_error_and_the_next_line_tries_again(
    tmp_path: Path,
) -> None:
    file = SpoolFile(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        file.append(b"one\n")
    (tmp_path / "missing").mkdir()
    file.append(b"one\n")
    assert content(tmp_path / "missing") == [b"one\n"]
    file.close()


def test_a_line_is_on_the_disk_before_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = [], os.fsync

    def count(file: int) -> None:
        synced.append(os.fstat(file).st_size)
        fsync(file)

    monkeypatch.setattr(os, "fsync", count)
    file = SpoolFile(tmp_path)
    file.append(b"one\n")
    file.append(b"two\n")
    assert synced[-2:] == [4, 8]
    assert len(synced) == 3, "the folder, once: the file's name is on the disk, too"
    file.clear()
    assert synced[-1] == 0
    file.close()


def test_what_was_cleared_is_written_anew_in_the_same_file(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path)
    file.clear()  # nothing was written yet
    file.append(b"one\n")
    file.clear()
    assert (content(tmp_path), file.size) == ([b""], 0)
    file.append(b"two\n")
    assert (content(tmp_path), file.read(0, 4)) == ([b"two\n"], b"two\n")
    file.close()


def test_a_file_is_closed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second time the descriptor may be another file's."""
    file, closed, close = SpoolFile(tmp_path), list[int](), os.close
    file.append(b"one\n")

    def count(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", count)
        file.close()
        file.close()
    assert len(closed) == 1


def test_whole_lines_are_read_a_piece_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "READ_BYTES", 6)
    (tmp_path / "lines").write_bytes(b"a\nb\nc\nmore than six\nd\nhalf")
    file, pieces, start = os.open(tmp_path / "lines", os.O_RDONLY), list[bytes](), 0
    while piece := read_lines(file, start, 26):
        pieces.append(piece)
        start += len(piece)
    os.close(file)
    # A line longer than a piece is read with all that follows it.
    assert pieces == [b"a\nb\nc\n", b"more than six\nd\n"]
    assert start == 22


def test_lines_behind_the_end_that_was_asked_for_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"a\nb\nc\n")
    file = os.open(tmp_path / "lines", os.O_RDONLY)
    assert [read_lines(file, 2, 4), read_lines(file, 2, 5), read_lines(file, 4, 4)] == [
        b"b\n",
        b"b\n",
        b"",
    ]
    os.close(file)


def test_only_files_whose_owner_died_are_orphans(tmp_path: Path) -> None:
    living, dead = SpoolFile(tmp_path), SpoolFile(tmp_path)
    living.append(b"mine\n")
    dead.append(b"left\n")
    dead.close()
    (tmp_path / "other.txt").write_bytes(b"no spool\n")
    adopted = list[bytes]()
    for path, file in orphans(tmp_path):
        adopted.append(read_lines(file, 0, 5))
        assert list(orphans(tmp_path)) == [], "who adopts it has it locked"
        path.unlink()
    assert adopted == [b"left\n"]
    assert content(tmp_path) == [b"mine\n"]
    living.close()
    assert len(list(orphans(tmp_path))) == 1
