"""The checks before publishing, each on a release of three items and two users that is good but for
one thing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.arrays import Histories
from recsys.errors import RefusedError, ReleaseError
from recsys.release import files
from recsys.release.arrow import IdMap
from recsys.release.checks import Check, ReleaseLimits, check_release, require_passed
from recsys.release.files import ReleaseFile
from recsys.release.manifest import Manifest
from recsys.types import PURCHASE

ITEMS, USERS = 3, 2
LENGTHS = {"I": 3, "U": 2, "D": 2, "d": 2, "N": 2, "F": 1, "S": 2, "C": 2, "B": 1, "L": 1, "T": 4}
LENGTHS |= {"P": 2, "p": 2, "A": 2, "G": 3, "E": 2, "H": 2, "M": 2}
METRICS = {
    "recall@10": 0.3,
    "popularity/recall@10": 0.2,
    "recall@10/difference/low": 0.05,
    "recall@10/difference/high": 0.15,
    "users": 50.0,
}


@dataclass
class FakeRelease:
    """What the checks read of a release, over arrays in memory."""

    manifest: Manifest
    arrays: dict[ReleaseFile, np.ndarray]
    texts: list[bytes] = field(default_factory=lambda: [b"a", b"b", b"c"])
    users: int = USERS
    in_stock_I: Any = (True, True, True)
    purchases: Any = ()

    def history(self, user: int) -> Histories:
        bought = np.array(self.purchases, np.int32)
        return Histories(
            offsets=np.array([0, len(bought)]),
            items=bought,
            types=np.full(len(bought), PURCHASE, np.int8),
            days=np.zeros(len(bought)),
        )

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def items(self) -> pa.Table:
        return pa.table({"text_hash": self.texts})

    @property
    def item_ids(self) -> IdMap:
        return _ids(len(self.texts))

    @property
    def user_ids(self) -> IdMap:
        return _ids(self.users)

    def array(self, file: ReleaseFile) -> np.ndarray:
        return self.arrays[file]

    def __getattr__(self, name: str) -> np.ndarray:
        return self.arrays[
            {
                "item_vectors_ID": files.ITEM_VECTORS,
                "user_space_item_vectors_ID": files.TASTE_VECTORS,
                "user_vectors_UD": files.USER_VECTORS,
                "candidate_rows_UN": files.CANDIDATE_ROWS,
                "picture_vectors_GE": files.PICTURE_VECTORS,
            }[name]
        ]


def _ids(count: int) -> IdMap:
    return IdMap(pa.chunked_array([[f"id{row}" for row in range(count)]], pa.string()))


def release(**changes: Any) -> FakeRelease:
    names = [file.name for file in files.FILES if file is not files.LEXICAL]
    manifest: dict[str, Any] = {
        "version": "today",
        "space": "words-2",
        "setup": "shop",
        "commit": "c",
        "previous": "yesterday",
        "created": "2026-01-02T02:00:00+00:00",
        "events_from": None,
        "events_until": None,
        "counts": {"events": 100, "unknown_item_events": 50},
        "quarantined": {},
        "sources": ["discovery"],
        "metrics": METRICS,
        "files": dict.fromkeys([*names, "lexical/vocab.index.json"], "sum"),
    }
    arrays = {
        file: np.zeros([LENGTHS[axis] for axis in file.axes], file.dtype) for file in files.ARRAYS
    }
    for file in (files.ITEM_VECTORS, files.TASTE_VECTORS, files.USER_VECTORS):
        arrays[file][:, 0] = 1
    return FakeRelease(Manifest(**manifest | changes), arrays)


def failures(today: FakeRelease, yesterday: FakeRelease | None = None) -> list[str]:
    checks: list[Check] = check_release(today, yesterday)  # type: ignore[arg-type]
    return [check.sentence for check in checks if not check.passed]


def failure(today: FakeRelease, yesterday: FakeRelease | None = None) -> str:
    (sentence,) = failures(today, yesterday)
    return sentence


def test_a_good_release_passes_every_check() -> None:
    names = [check.name for check in check_release(release(), release())]  # type: ignore[arg-type]
    assert failures(release(), release()) == failures(release()) == []
    assert names == [
        "items",
        "files",
        "item vectors",
        "taste vectors",
        "user vectors",
        "picture vectors",
        "lists",
        "events",
        "items since yesterday",
        "users since yesterday",
        "vector drift",
        "held-out day",
    ]


def test_a_catalogue_without_items_is_refused() -> None:
    empty = release()
    empty.arrays = {
        file: array[:0] if file.axes[0] == "I" else array[:, :0] if "I" in file.axes else array
        for file, array in empty.arrays.items()
    }
    empty.texts = []
    assert failure(empty) == "the catalogue has 0 items"


@pytest.mark.parametrize("file", [file for file in files.FILES if not file.optional], ids=str)
def test_a_missing_file_is_refused(file: ReleaseFile) -> None:
    listed = release().manifest.files
    rest = {name: sha256 for name, sha256 in listed.items() if not name.startswith(file.name)}
    assert failure(release(files=rest)) == f"{file.name} is missing"


def test_optional_files_may_be_missing() -> None:
    optional = {file.name for file in files.FILES if file.optional}
    listed = release().manifest.files
    assert {"attributes.arrow", "dense.ivf", "taste_vectors.npy", "relevance.json"} <= optional
    assert not failures(release(files={name: "" for name in listed if name not in optional}))


@pytest.mark.parametrize("file", files.ARRAYS, ids=str)
def test_an_array_of_another_dtype_or_number_of_axes_is_refused(file: ReleaseFile) -> None:
    for change in (lambda array: array.astype(np.int16), lambda array: array[..., None]):
        odd = release()
        odd.arrays[file] = change(odd.arrays[file])
        assert f"{file.name} is {odd.arrays[file].dtype}" in "; ".join(failures(odd))


@pytest.mark.parametrize(
    ("file", "axis", "sentence"),
    [
        (files.POPULARITY, 0, "popularity.npy is 2 long in axis I, not 3"),
        (files.TOUCHES, 1, "touches.npy is 2 long in axis I, not 3"),
        (files.CANDIDATE_SOURCES, 0, "candidates_sources.npy is 1 long in axis U, not 2"),
        (files.CANDIDATE_FEATURES, 2, "candidates_features.npy is 0 long in axis F, not 1"),
        (files.PROJECTION, 0, "projection.npy is 1 long in axis D, not 2"),
        (files.SIMILAR_SCORES, 1, "similar_scores.npy is 1 long in axis S, not 2"),
    ],
)
def test_an_array_of_another_length_is_refused(file: ReleaseFile, axis: int, sentence: str) -> None:
    short = release()
    short.arrays[file] = np.delete(short.arrays[file], 0, axis)
    assert failure(short) == sentence


@pytest.mark.parametrize(("axis", "length"), [("I", ITEMS), ("U", USERS)])
def test_arrays_that_agree_with_each_other_alone_are_refused(axis: str, length: int) -> None:
    short = release()
    for file, array in short.arrays.items():
        if axis in file.axes:
            short.arrays[file] = np.delete(array, 0, file.axes.index(axis))
    assert f"long in axis {axis}, not {length}" in failure(short)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (files.ITEM_VECTORS, "1 of 3 item vectors hold NaN or infinity"),
        (files.TASTE_VECTORS, "1 of 3 taste vectors hold NaN or infinity"),
        (files.USER_VECTORS, "1 of 2 user vectors hold NaN or infinity"),
        (files.PICTURE_VECTORS, "1 of 3 picture vectors hold NaN or infinity"),
    ],
)
def test_vectors_that_are_not_finite_are_refused(
    file: ReleaseFile, value: float, sentence: str
) -> None:
    broken = release()
    broken.arrays[file][1, 1] = value
    assert failure(broken) == sentence


def test_an_empty_candidate_list_is_refused() -> None:
    empty = release()
    empty.arrays[files.CANDIDATE_ROWS][1] = -1
    assert failure(empty) == "1 of 2 users have an empty candidate list"
    empty.arrays[files.CANDIDATE_ROWS][1, 0] = 0  # a short list is none
    assert not failures(empty)


def test_who_bought_everything_that_is_in_stock_may_have_an_empty_list() -> None:
    empty = release()
    empty.arrays[files.CANDIDATE_ROWS][1] = -1
    empty.in_stock_I, empty.purchases = (True, False, True), (0, 2, 2)
    assert not failures(empty)
    empty.purchases = (0, 1)
    assert len(failures(empty)) == 1
    empty.in_stock_I = (False, False, False)
    assert failure(empty).endswith("candidate list: none of 3 items is in stock")


def test_half_of_the_events_must_name_an_item_of_the_catalogue() -> None:
    unknown = {"events": 10_000, "unknown_item_events": 5_200}
    assert failure(release(counts=unknown)) == (
        "48.0% of 10,000 events name an item of the catalogue (at least 50% must)"
    )
    for events, unknown_items in ((0, 0), (3, 3), (100, 55)):  # too few to tell
        counts = {"events": events, "unknown_item_events": unknown_items}
        assert not failures(release(counts=counts))


def yesterday_with(items: int, users: int) -> FakeRelease:
    """A release of another space, so that its vectors are not compared."""
    manifest = release(version="yesterday", space="another").manifest
    return FakeRelease(manifest, {}, [b"a"] * items, users)


def test_a_loss_of_more_than_a_fifth_since_yesterday_is_refused() -> None:
    today = release()
    assert failure(today, yesterday_with(4, USERS)) == (
        "3 items after 4 in yesterday (a loss of 20% is allowed)"
    )
    assert failure(today, yesterday_with(ITEMS, 100)) == (
        "2 users after 100 in yesterday (a loss of 20% is allowed)"
    )
    assert not failures(today, yesterday_with(ITEMS, 7))  # of seven users five may be by chance
    today = release()
    today.arrays |= {file: longer(today.arrays[file], file.axes) for file in files.ARRAYS}
    today.texts, today.users = [b"x"] * 80, 80
    assert not failures(today, yesterday_with(100, 100))
    assert len(failures(today, yesterday_with(101, 200))) == 2
    assert not failures(today, yesterday_with(1, 1))


def longer(array: np.ndarray, axes: str) -> np.ndarray:
    """80 items and 80 users."""
    for axis in "IU":
        if axis in axes:
            array = np.repeat(array.take([0], axes.index(axis)), 80, axes.index(axis))
    return array


@pytest.mark.parametrize(("cosine", "passes"), [(0.9899, False), (0.9901, True)])
def test_vectors_of_unchanged_texts_must_stay(cosine: float, passes: bool) -> None:
    yesterday = release(version="yesterday")
    turned = [cosine, np.sqrt(1 - cosine**2)]
    yesterday.arrays[files.ITEM_VECTORS][2] = turned
    yesterday.texts = [b"b", b"z", b"a"]  # the second text is new today, the third is a's
    sentences = failures(release(), yesterday)
    assert sentences == (
        [] if passes else ["2 vectors of unchanged texts agree with yesterday to cosine 0.9899"]
    )
    yesterday.arrays[files.ITEM_VECTORS][2] = 0  # the encoder failed on it: no vector to compare
    assert not failures(release(), yesterday)


def test_vectors_of_another_space_are_not_compared() -> None:
    yesterday = release(version="yesterday", space="another")
    yesterday.arrays[files.ITEM_VECTORS][:] = [0, 1]
    assert not failures(release(), yesterday)


def test_recall_under_that_of_popularity_is_refused() -> None:
    worse = METRICS | {"recall@10": 0.1, "recall@10/difference/low": -0.2}
    surely = worse | {"recall@10/difference/high": -0.001}
    assert failure(release(metrics=surely)) == (
        "recall@10 of a held-out day is 0.1000 over 50 users, popularity's is 0.2000 (the "
        "difference is from -0.2000 to -0.0010, 99% sure)"
    )
    assert not failures(release(metrics=worse | {"recall@10/difference/high": 0.0}))
    assert not failures(release(metrics={}))


def test_too_few_users_of_a_held_out_day_prove_nothing() -> None:
    few = METRICS | {"recall@10/difference/high": -1.0, "users": 29.0}
    (check,) = check_release(release(metrics=few), None)[-1:]  # type: ignore[arg-type]
    assert check.passed
    assert check.sentence.endswith("(not enough users to tell, 30 are)")


def test_limits_are_the_setup_s(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = ReleaseLimits(
        max_lost_items=0.5,
        max_lost_users=0.99,
        min_known_events=0.3,
        max_recall_deficit=0.2,
        min_carried_cosine=0.9,
    )
    today = release(
        counts={"events": 10_000, "unknown_item_events": 6_900},
        metrics=METRICS | {"recall@10/difference/high": -0.1},
    )
    previous = release(version="yesterday")
    previous.texts, previous.users = [b"a"] * 4, 1000
    previous.arrays[files.ITEM_VECTORS] = np.array([[0.95, np.sqrt(1 - 0.95**2)]] * 4)
    assert len(failures(today, previous)) == 5
    lax = check_release(today, previous, limits)  # type: ignore[arg-type]
    assert [check.sentence for check in lax if not check.passed] == []


def test_every_failure_is_in_the_refusal() -> None:
    checks = [Check("a", False, "one"), Check("b", True, "two"), Check("c", False, "three")]
    with pytest.raises(ReleaseError, match=r"^not published: one; three$"):
        require_passed(checks)
    require_passed(checks[1:2])


def test_a_refusal_names_what_lets_it_pass_once_and_for_ever() -> None:
    checks = [
        Check("items since yesterday", False, "3 of 4", "max_lost_items"),
        Check("lists", False, "1 is empty"),
    ]
    with pytest.raises(RefusedError) as refused:
        require_passed(checks)
    assert str(refused.value) == (
        "not published: 3 of 4; 1 is empty. If that is right, run it again with --allow "
        "items-since-yesterday --allow lists, or change night.limits.max_lost_items of the setup"
    )
    assert refused.value.checks == ("items-since-yesterday", "lists")
    require_passed(checks, ["lists", "items-since-yesterday"])
    with pytest.raises(RefusedError, match="not published: 1 is empty"):
        require_passed(checks, ["items-since-yesterday"])


def test_what_is_broken_is_not_allowed() -> None:
    with pytest.raises(RefusedError, match=r"not published: no files$") as refused:
        require_passed([Check("files", False, "no files")], ["files"])
    assert refused.value.checks == ()
