"""The files of an archived log: what is read of overlapping, emptied, vanishing and damaged
ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from recsys.errors import NotFoundError
from recsys.events.archive_files import ArchiveFiles, Segment, to_impression_batch
from recsys.events.codec import to_batch
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Impression
from tests.contracts import EVENING, interaction

SHOWN = Impression(
    request_id="r", time=EVENING, release="v7", surface="home", item_ids=("b", "a"), user_id="u"
)


@pytest.fixture
def files(tmp_path: Path) -> ArchiveFiles:
    return ArchiveFiles(ArtifactStore(str(tmp_path)))


def archive(
    files: ArchiveFiles, first: int, last: int, users: Sequence[str] = ("u", "v")
) -> Segment:
    """Events e<first>..e<last>, of the users in turn, as one segment."""
    numbers = range(first, last + 1)
    events = [interaction(f"e{n}", user_id=users[n % len(users)]) for n in numbers]
    segment = files.write("interactions", first - 1, last, [to_batch(numbers, events)])
    files.commit(segment)
    return segment


def archive_impressions(files: ArchiveFiles, first: int, users: Sequence[str | None]) -> Segment:
    """Impressions r<first>... of these users as one segment."""
    numbers = range(first, first + len(users))
    shown = [
        replace(SHOWN, request_id=f"r{number}", user_id=user, sequence=number)
        for number, user in zip(numbers, users, strict=True)
    ]
    batches = [to_impression_batch(shown)]
    segment = files.write("impressions", first - 1, numbers[-1], batches)
    files.commit(segment)
    return segment


def numbers(files: ArchiveFiles, after: int, until: int) -> list[int]:
    batches = files.rows("interactions", after, until)
    return [number for batch in batches for number in batch["sequence"].to_pylist()]


def test_overlapping_segments_are_read_once_and_gaps_are_errors(files: ArchiveFiles) -> None:
    for first, last in ((1, 4), (3, 6), (2, 3), (7, 8), (10, 12)):
        archive(files, first, last)
    assert numbers(files, 0, 8) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert numbers(files, 2, 5) == [3, 4, 5]
    assert numbers(files, 4, 6) == [5, 6]
    assert numbers(files, 6, 6) == []
    assert [(each.after, each.until) for each in files.continuation("interactions", 1)] == [
        (0, 4),
        (2, 6),
        (6, 8),
    ]
    with pytest.raises(NotFoundError, match="ends at 8, not at 9"):
        numbers(files, 0, 9)
    assert numbers(files, 9, 12) == [10, 11, 12]


def test_a_file_that_vanishes_under_a_reader_is_looked_up_again(files: ArchiveFiles) -> None:
    segment = archive(files, 1, 4)
    archive(files, 5, 6)
    stale = files.segments("interactions")
    read, looks = files.segments, list[str]()

    def first_look_is_stale(kind: str) -> list[Segment]:
        looks.append(kind)
        return stale if len(looks) == 1 else read(kind)

    files.remove_user(segment, "u")
    files.segments = first_look_is_stale  # type: ignore[method-assign]
    assert numbers(files, 0, 6) == [1, 3, 5, 6]
    assert len(looks) == 2
    files.segments = lambda kind: stale  # type: ignore[method-assign]
    with pytest.raises(NotFoundError):
        numbers(files, 0, 6)


def test_who_is_removed_leaves_the_others_rows(files: ArchiveFiles) -> None:
    segment = archive_impressions(files, 1, ["u", None, "v", "u"])
    assert segment.file is not None
    assert [files.count_user(segment.file, user) for user in ("u", "v", "w")] == [2, 1, 0]
    files.remove_user(segment, "u")
    (left,) = files.segments("impressions")
    assert (left.after, left.until, left.rows, left.path) == (0, 4, 2, segment.path)
    assert left.file != segment.file
    assert not files.home.exists(segment.file)
    assert [files.impression(f"r{number}") is None for number in (1, 2, 3, 4)] == [
        True,
        False,
        False,
        True,
    ]
    files.remove_user(left, "v")
    (left,) = files.segments("impressions")
    assert left.rows == 1


def test_an_answer_is_found_beside_a_segment_that_was_emptied(files: ArchiveFiles) -> None:
    archive_impressions(files, 1, ["v", "v"])
    emptied = archive_impressions(files, 3, ["u"])
    files.remove_user(emptied, "u")
    assert [each.file is None for each in files.segments("impressions")] == [False, True]
    found = files.impression("r2")
    assert found == replace(SHOWN, request_id="r2", user_id="v")
    assert found is not None
    assert found.sequence == 2
    assert files.impression("r3") is files.impression("r9") is None
    assert [batch.num_rows for batch in files.rows("impressions", 0, 3)] == [2]


def test_only_files_that_no_segment_names_are_removed(files: ArchiveFiles) -> None:
    committed = archive(files, 1, 2)
    other = archive_impressions(files, 1, ["u"])
    killed = files.write("interactions", 2, 3, [to_batch([3], [interaction("e3")])])
    assert files.segments("interactions") == [committed], "what is not committed does not exist"
    before = set(files.home.files("log"))
    files.remove_uncommitted()
    assert before - set(files.home.files("log")) == {killed.file}
    assert files.segments("impressions") == [other]


def test_a_damaged_file_is_never_read_as_other_rows(tmp_path: Path, files: ArchiveFiles) -> None:
    segment = archive(files, 1, 200)
    assert segment.file is not None
    path, rows = tmp_path / segment.file, _table(files)
    intact = path.read_bytes()
    errors = 0
    for at in range(4, len(intact) // 2, 41):
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 0x10]) + intact[at + 1 :])
        try:
            assert _table(files).equals(rows)
        except (OSError, pa.ArrowException):
            errors += 1
    assert errors


def _table(files: ArchiveFiles) -> pa.Table:
    return pa.Table.from_batches(files.rows("interactions", 0, 200))
