"""What a release must satisfy before it is published. Pure: an open release in, sentences out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import ReleaseError
from recsys.release import files
from recsys.release.arrow import row_ranges
from recsys.release.release import Release
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
    """One condition, whether it passed, and the sentence that says so with its numbers."""

    name: str
    passed: bool
    sentence: str


def check_release(release: Release, previous: Release | None) -> list[Check]:
    """All conditions, each with its outcome; those that compare need a `previous` release, the
    held-out day metrics in the manifest."""
    manifest = release.manifest
    return [
        _items(release),
        _files(release),
        _finite("item vectors", release.item_vectors_ID),
        _finite("taste vectors", release.user_space_item_vectors_ID),
        _finite("user vectors", release.user_vectors_UD),
        _no_empty_lists(release),
        _events_of_catalogue(manifest.counts),
        *(_near_yesterday(release, previous) if previous else []),
        *([_not_under_popularity(manifest.metrics)] if manifest.metrics else []),
    ]


def require_passed(checks: list[Check]) -> None:
    """Raises ReleaseError with the sentence of every check that failed."""
    failures = [check.sentence for check in checks if not check.passed]
    if failures:
        raise ReleaseError("not published: " + "; ".join(failures))


def _items(release: Release) -> Check:
    count = len(release.item_ids)
    return Check("items", count > 0, f"the catalogue has {count:,} items")


def _files(release: Release) -> Check:
    """Every file that must be there is, and every array has the dtype and axes of `files`."""
    names = release.manifest.files
    lengths = {
        "I": len(release.item_ids),
        "U": len(release.user_ids),
        "F": len(release.manifest.sources),
    }
    wrong = [f"{name} is missing" for name in files.missing(names)]
    arrays = [file for file in files.ARRAYS if file.name in names]
    wrong += [misfit for file in arrays if (misfit := file.misfit(release.array(file), lengths))]
    sentence = "; ".join(wrong) or f"{len(arrays)} arrays have their dtypes and lengths"
    return Check("files", not wrong, sentence)


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


def _events_of_catalogue(counts: dict[str, int]) -> Check:
    unknown, events = counts["unknown_item_events"], counts["events"]
    share = 1 - unknown / events if events else 1.0
    sentence = (
        f"{share:.1%} of {events:,} events name an item of the catalogue "
        f"(at least {MIN_KNOWN_SHARE:.0%} must)"
    )
    return Check("events", share >= MIN_KNOWN_SHARE, sentence)


def _near_yesterday(release: Release, previous: Release) -> list[Check]:
    checks = [
        _not_shrunk("items", len(release.item_ids), len(previous.item_ids), previous.version),
        _not_shrunk("users", len(release.user_ids), len(previous.user_ids), previous.version),
    ]
    if release.manifest.space == previous.manifest.space:
        checks.append(_drift(release, previous))
    return checks


def _not_shrunk(name: str, now: int, before: int, version: str) -> Check:
    sentence = (
        f"{now:,} {name} after {before:,} in {version} (a loss of {MAX_LOST_SHARE:.0%} is allowed)"
    )
    return Check(f"{name} since yesterday", now >= (1 - MAX_LOST_SHARE) * before, sentence)


def _drift(release: Release, previous: Release, sample: int = 10_000) -> Check:
    """How well the vectors of unchanged texts agree, over at most `sample` items."""
    step = max(1, len(release.item_ids) // sample)
    rows = np.arange(0, len(release.item_ids), step)
    hashes = release.items["text_hash"].take(pa.array(rows))
    before = pc.fill_null(pc.index_in(hashes, value_set=previous.items["text_hash"]), -1)
    before = np.asarray(before)
    same = before >= 0
    now_ND, before_ND = release.item_vectors_ID[rows[same]], previous.item_vectors_ID[before[same]]
    # A text that the encoder fails on has no vector.
    encoded_N = now_ND.any(axis=1) & before_ND.any(axis=1)
    cosines = np.einsum("nd,nd->n", now_ND[encoded_N], before_ND[encoded_N])
    worst = float(cosines.min(initial=1.0))
    sentence = (
        f"{len(cosines):,} vectors of unchanged texts agree with {previous.version} "
        f"to cosine {worst:.4f}"
    )
    return Check("vector drift", worst >= MIN_CARRIED_COSINE, sentence)


def _not_under_popularity(metrics: dict[str, float]) -> Check:
    ours, floor = metrics["recall@10"], metrics["popularity/recall@10"]
    sentence = (
        f"recall@10 of a held-out day is {ours:.4f} over {int(metrics['users']):,} users, "
        f"popularity's is {floor:.4f}"
    )
    return Check("held-out day", ours >= floor, sentence)
