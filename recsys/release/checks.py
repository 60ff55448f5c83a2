"""What a release must satisfy before it is published. Pure: an open release in, sentences out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import ReleaseError
from recsys.release.release import Release, row_ranges
from recsys.types import Floats

#: A catalogue or a user base that shrank by more than this since the previous release is taken for
#: an accident.
MAX_LOST_SHARE = 0.2
#: The same text under the same encoder: anything lower means that the encoder changed without
#: changing its space.
MIN_CARRIED_COSINE = 0.99
#: At least this share of the events must name an item of the catalogue.
MIN_KNOWN_SHARE = 0.5


@dataclass(frozen=True)
class Check:
    """One condition, whether it held, and the sentence that says so with its numbers."""

    name: str
    passed: bool
    sentence: str


def checks(
    release: Release, previous: Release | None, counts: dict[str, int], metrics: dict[str, float]
) -> list[Check]:
    """All conditions, each with its outcome. `metrics` are those of the held-out day, empty where
    there was none."""
    return [
        _items(release),
        _finite("item vectors", release.item_vectors_ID),
        _finite("taste vectors", release.user_space_item_vectors_ID),
        _finite("user vectors", release.user_vectors_UD),
        _no_empty_lists(release),
        _known_events(counts),
        *(_near_yesterday(release, previous) if previous else []),
        *([_not_under_popularity(metrics)] if metrics else []),
    ]


def require(found: list[Check]) -> None:
    """Raises ReleaseError with every sentence that speaks against publishing."""
    failed = [check.sentence for check in found if not check.passed]
    if failed:
        raise ReleaseError("not published: " + "; ".join(failed))


def _items(release: Release) -> Check:
    count = len(release.item_ids)
    return Check("items", count > 0, f"the catalogue has {count:,} items")


def _finite(name: str, matrix_ND: Floats) -> Check:
    blocks = (matrix_ND[block.start : block.stop] for block in row_ranges(len(matrix_ND), 65_536))
    broken = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in blocks)
    return Check(name, not broken, f"{broken:,} of {len(matrix_ND):,} {name} hold NaN or infinity")


def _no_empty_lists(release: Release) -> Check:
    empty = int((release.candidate_rows_UN[:, 0] < 0).sum()) if len(release.user_ids) else 0
    return Check(
        "lists",
        not empty,
        f"{empty:,} of {len(release.user_ids):,} users have an empty candidate list",
    )


def _known_events(counts: dict[str, int]) -> Check:
    unknown, events = counts["unknown_items"], counts["events"]
    share = 1 - unknown / events if events else 1.0
    sentence = f"{share:.1%} of {events:,} events name an item of the catalogue (at least {MIN_KNOWN_SHARE:.0%} must)"
    return Check("events", share >= MIN_KNOWN_SHARE, sentence)


def _near_yesterday(release: Release, previous: Release) -> list[Check]:
    found = []
    for name, now, before in (
        ("items", len(release.item_ids), len(previous.item_ids)),
        ("users", len(release.user_ids), len(previous.user_ids)),
    ):
        kept = now >= (1 - MAX_LOST_SHARE) * before
        sentence = f"{now:,} {name} after {before:,} in {previous.version} (a loss of {MAX_LOST_SHARE:.0%} is allowed)"
        found.append(Check(f"{name} since yesterday", kept, sentence))
    if release.manifest.space == previous.manifest.space:
        found.append(_drift(release, previous))
    return found


def _drift(release: Release, previous: Release, sample: int = 10_000) -> Check:
    """How well the vectors of unchanged texts agree, over at most `sample` items."""
    step = max(1, len(release.item_ids) // sample)
    rows = np.arange(0, len(release.item_ids), step)
    hashes = release.items["text_hash"].take(pa.array(rows))
    before = np.asarray(
        pc.fill_null(pc.index_in(hashes, value_set=previous.items["text_hash"]), -1)
    )
    same = before >= 0
    now_ND, before_ND = release.item_vectors_ID[rows[same]], previous.item_vectors_ID[before[same]]
    read_N = now_ND.any(axis=1) & before_ND.any(
        axis=1
    )  # a text that the encoder fails on has no vector
    cosines = np.einsum("nd,nd->n", now_ND[read_N], before_ND[read_N])
    worst = float(cosines.min(initial=1.0))
    sentence = f"{len(cosines):,} vectors of unchanged texts agree with {previous.version} to cosine {worst:.4f}"
    return Check("vector drift", worst >= MIN_CARRIED_COSINE, sentence)


def _not_under_popularity(metrics: dict[str, float]) -> Check:
    ours, floor = metrics["recall@10"], metrics["popularity/recall@10"]
    users = int(metrics["users"])
    sentence = f"recall@10 of a held-out day is {ours:.4f} over {users:,} users, popularity's is {floor:.4f}"
    return Check("held-out day", ours >= floor, sentence)
