"""What a release must satisfy before it is published. Pure: an open release in, sentences out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.errors import RefusedError
from recsys.intervals import wilson_interval
from recsys.release import files
from recsys.release.arrow import row_ranges
from recsys.release.release import Release

#: Names of `Check.flag` that may be allowed once, and those of a night's own checks of its input.
ALLOWABLE = (
    "bad-rows",
    "events",
    "held-out-day",
    "items-since-yesterday",
    "lists",
    "pictures-since-yesterday",
    "titles",
    "users-since-yesterday",
    "vector-drift",
)
#: How sure it must be that recommendations are worse than popularity.
LEVEL = 0.99


@dataclass(frozen=True, kw_only=True)
class ReleaseLimits:
    """What a release may lose, lack or drift before it is refused; shares are 0..1.

    More than `max_lost_items` of the catalogue, `max_lost_pictures` of its pictures or
    `max_lost_users` of the users since the previous release is taken for an accident (of users the
    noise of a small number is allowed besides; pictures whose host does not answer are kept). At
    least `min_known_events` of the events must name an item of the catalogue, `min_titled` of the
    items must have a title or description. The same text under the same encoder has cosine
    `min_carried_cosine` to its vector of before: anything lower means that the encoder changed
    without changing its space. Of a held-out day of `min_held_out_users` or more, recall must not
    be significantly more than `max_recall_deficit` below that of popularity."""

    max_lost_items: float = 0.2
    max_lost_users: float = 0.2
    max_lost_pictures: float = 0.2
    min_known_events: float = 0.5
    min_titled: float = 0.5
    min_carried_cosine: float = 0.99
    min_held_out_users: int = 30
    max_recall_deficit: float = 0.0


@dataclass(frozen=True)
class Check:
    """One condition, whether it passed, and the sentence that says so with its numbers.

    `setting` is the limit that decides, of `ReleaseLimits`."""

    name: str
    passed: bool
    sentence: str
    setting: str = ""

    @property
    def flag(self) -> str:
        """By which it is allowed once, where it is one of ALLOWABLE."""
        return self.name.replace(" ", "-")


def check_release(
    release: Release,
    previous: Release | None,
    limits: ReleaseLimits = ReleaseLimits(),
) -> list[Check]:
    """All conditions, each with its outcome; those that compare need a `previous` release, the
    held-out day metrics in the manifest."""
    manifest = release.manifest
    return [
        _items(release),
        _files(release),
        _finite("item vectors", release.item_vectors_ID),
        _finite("taste vectors", release.user_space_item_vectors_ID),
        _finite("user vectors", release.user_vectors_UD),
        _finite("picture vectors", release.picture_vectors_GE),
        _no_empty_lists(release),
        events_of_catalogue(
            manifest.counts["unknown_item_events"],
            manifest.counts["events"],
            limits.min_known_events,
        ),
        *(_near_yesterday(release, previous, limits) if previous else []),
        *([_not_under_popularity(manifest.metrics, limits)] if manifest.metrics else []),
    ]


def require_passed(checks: Sequence[Check], allow: Collection[str] = ()) -> None:
    """Raises RefusedError with the sentence of every check that failed, but for those in `allow`,
    and with what lets it pass."""
    failures = [check for check in checks if not (check.passed or _allowed(check, allow))]
    if not failures:
        return
    sentence = "not published: " + "; ".join(check.sentence for check in failures)
    flags = tuple(check.flag for check in failures)
    if not set(flags) <= set(ALLOWABLE):
        raise RefusedError(sentence)
    words = " ".join(f"--allow {flag}" for flag in flags)
    settings = [f"night.limits.{check.setting}" for check in failures if check.setting]
    lasting = f", or change {' and '.join(settings)} of the setup" if settings else ""
    raise RefusedError(f"{sentence}. If that is right, run it again with {words}{lasting}", flags)


def _allowed(check: Check, allow: Collection[str]) -> bool:
    return check.flag in ALLOWABLE and check.flag in allow


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


def _finite(name: str, matrix_ND: NDArray[np.floating[Any]]) -> Check:
    blocks = (matrix_ND[block.start : block.stop] for block in row_ranges(len(matrix_ND), 65_536))
    broken = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in blocks)
    return Check(name, not broken, f"{broken:,} of {len(matrix_ND):,} {name} hold NaN or infinity")


def _no_empty_lists(release: Release) -> Check:
    """But for users who bought everything that is in stock: nothing is left for them."""
    users = len(release.user_ids)
    empty = np.flatnonzero(release.candidate_rows_UN[:, 0] < 0) if users else np.empty(0, int)
    sentence = f"{len(empty):,} of {users:,} users have an empty candidate list"
    if not len(empty):
        return Check("lists", True, sentence)
    in_stock = np.flatnonzero(release.in_stock_I)
    if not len(in_stock):
        sentence = f"{sentence}: none of {len(release.item_ids):,} items is in stock"
    passed = len(in_stock) > 0 and all(
        np.isin(in_stock, release.history(int(user)).bought()[1]).all() for user in empty
    )
    return Check("lists", passed, sentence)


def events_of_catalogue(unknown: int, events: int, least: float) -> Check:
    """As far as so few events can tell, the share `least` of them must name an item."""
    share = 1 - unknown / events if events else 1.0
    sentence = (
        f"{share:.1%} of {events:,} events name an item of the catalogue "
        f"(at least {least:.0%} must)"
    )
    passed = not events or wilson_interval(share, events)[1] >= least
    return Check("events", passed, sentence, "min_known_events")


def _near_yesterday(release: Release, previous: Release, limits: ReleaseLimits) -> list[Check]:
    version, users = previous.version, len(previous.user_ids)
    items = (len(release.item_ids), len(previous.item_ids))
    withdrawn = release.manifest.counts.get("withdrawn_by_day", 0)
    of_items = not_shrunk("items", items, version, lost=limits.max_lost_items)
    if withdrawn:
        sentence = f"{of_items.sentence}; {withdrawn:,} of the files' were withdrawn by day"
        of_items = replace(of_items, sentence=sentence)
    checks = [
        of_items,
        not_shrunk(
            "users",
            (len(release.user_ids), users),
            version,
            lost=limits.max_lost_users,
            noise=3 * users**0.5,
        ),
    ]
    if release.manifest.picture_space and previous.manifest.picture_space:
        pictures = (release.manifest.counts["pictures"], previous.manifest.counts["pictures"])
        lost = limits.max_lost_pictures
        checks.append(not_shrunk("pictures", pictures, version, lost=lost))
    if release.manifest.space == previous.manifest.space:
        checks.append(_drift(release, previous, limits.min_carried_cosine))
    return checks


def not_shrunk(
    name: str, counts: tuple[int, int], version: str, *, lost: float, noise: float = 0.0
) -> Check:
    """Now and before, of which the share `lost` may be lost, and `noise`."""
    now, before = counts
    sentence = f"{now:,} {name} after {before:,} in {version} (a loss of {lost:.0%} is allowed)"
    passed = now >= (1 - lost) * before - noise
    return Check(f"{name} since yesterday", passed, sentence, f"max_lost_{name}")


def _drift(release: Release, previous: Release, least: float, sample: int = 10_000) -> Check:
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
    name = "vector drift"
    return Check(name, worst >= least, sentence, "min_carried_cosine")


def _not_under_popularity(metrics: dict[str, float], limits: ReleaseLimits) -> Check:
    """Refused where recall is surely lower: the whole interval of its users' differences is."""
    ours, floor, users = metrics["recall@10"], metrics["popularity/recall@10"], metrics["users"]
    sentence = (
        f"recall@10 of a held-out day is {ours:.4f} over {int(users):,} users, "
        f"popularity's is {floor:.4f}"
    )
    low, high = metrics["recall@10/difference/low"], metrics["recall@10/difference/high"]
    if users < limits.min_held_out_users:
        passed, verdict = True, f"not enough users to tell, {limits.min_held_out_users} are"
    else:
        passed = high >= -limits.max_recall_deficit
        verdict = f"the difference is from {low:.4f} to {high:.4f}, {LEVEL:.0%} sure"
    name, sentence = "held-out day", f"{sentence} ({verdict})"
    return Check(name, passed, sentence, "max_recall_deficit")
