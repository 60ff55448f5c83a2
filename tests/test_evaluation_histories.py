"""Leave one out, its scores and rivals: on histories small enough to read, then on a real shop."""

import json
import subprocess
import sys
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import evaluate_histories as job
from recsys import metrics
from recsys.arrays import Histories
from recsys.encoders.hashing import HashingEncoder
from recsys.errors import InputError
from recsys.evaluation import baselines, leave_one_out, next_item, systems
from recsys.retrieval.behaviour import successors
from recsys.retrieval.behaviour.successors import successor_weights
from recsys.tables import ITEMS_IN
from recsys.types import PURCHASE

NOBODY = np.empty((0, 1), np.float32)


def logged(*users):
    """Histories of these item rows, and days that say which event is which."""
    offsets, rows = (
        np.cumsum([0, *map(len, users)]),
        np.array([row for user in users for row in user], np.int32),
    )
    return Histories(
        offsets=offsets,
        items=rows,
        types=np.full(len(rows), PURCHASE, np.int8),
        days=np.arange(len(rows)) / 1000,
    )


def as_lists(part):
    return [part.slice(user, user + 1).items.tolist() for user in range(len(part))]


def catalogue(*titles):
    ids = [f"i{row:03}" for row in range(len(titles))]
    nothing = {field.name: pa.nulls(len(ids), field.type) for field in ITEMS_IN}
    return pa.table({**nothing, "item_id": ids, "title": list(titles)}, schema=ITEMS_IN)


def contender(name, split, items=None, items_ID=NOBODY, seed=0):
    return baselines.BASELINES[name](
        split, items or catalogue(*["word"] * split.item_count), items_ID, seed, print
    )


def test_the_last_two_are_left_out():
    split = leave_one_out.leave_one_out(logged([0, 1, 2, 3], [4, 5], [], [1, 0, 4]), 6)
    assert as_lists(split.train) == [[0, 1], [4, 5], [], [1]]
    assert as_lists(split.before_test) == [[0, 1, 2], [4, 5], [], [1, 0]]
    assert (as_lists(split.valid.histories), split.valid.targets_U.tolist()) == (
        [[0, 1], [1]],
        [2, 0],
    )
    assert (as_lists(split.test.histories), split.test.targets_U.tolist()) == (
        [[0, 1, 2], [1, 0]],
        [3, 4],
    )
    assert split.test.users_U.tolist() == [0, 3]
    assert (split.users, split.past) == (split.test, split.before_test)
    assert split.counts_I.tolist() == [2, 2, 1, 0, 1, 1]
    valid = leave_one_out.leave_one_out(logged([0, 1, 2, 3]), 6, "valid")
    assert (valid.users, valid.past) == (valid.valid, valid.train)
    assert valid.counts_I.tolist() == [1, 1, 0, 0, 0, 0]


def test_a_target_that_was_there_before_is_not_asked():
    split = leave_one_out.leave_one_out(logged([0, 1, 2, 0], [0, 1, 1, 2], [3, 4, 5]), 6)
    assert split.test.users_U.tolist() == [1, 2]
    assert split.valid.users_U.tolist() == [0, 2]
    assert as_lists(split.before_test) == [[0, 1, 2], [0, 1, 1], [3, 4]]


def test_what_cannot_be_split_is_refused():
    with pytest.raises(InputError, match="no history has 3 events"):
        leave_one_out.leave_one_out(logged([0, 1]), 2)
    with pytest.raises(ValueError, match="part is 'train': score 'valid' or 'test'"):
        leave_one_out.leave_one_out(logged([0, 1, 2]), 3, "train")
    with pytest.raises(InputError, match="a share of 0 of the users"):
        leave_one_out.sample_users(logged([0, 1, 2]), 0, 0)
    with pytest.raises(InputError, match=r"0\.1 of 3 items is 0: of 1 targets give 1 to all"):
        leave_one_out.cold_start_split(logged([0, 1, 2]), 3, 0.1, 0)
    with pytest.raises(InputError, match="1 of 3 items is 3: of 1 targets"):
        leave_one_out.cold_start_split(logged([0, 1, 2]), 3, 1, 0)


users_rows = st.lists(st.lists(st.integers(0, 9), max_size=9), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(users_rows.filter(lambda users: any(len(user) >= 3 for user in users)))
def test_nothing_of_the_future_is_fitted(users):
    """Every history is what is fitted and then its targets."""
    log = logged(*users)
    split = leave_one_out.leave_one_out(log, 10)
    for user, train, before in zip(
        users, as_lists(split.train), as_lists(split.before_test), strict=True
    ):
        cut = len(user) >= 3
        assert (train, before) == (user[: len(user) - 2 * cut], user[: len(user) - cut])
    for part, eval_users in ((split.before_test, split.test), (split.train, split.valid)):
        assert as_lists(eval_users.histories) == [
            as_lists(part)[user] for user in eval_users.users_U
        ]
        for user, target in zip(eval_users.users_U, eval_users.targets_U, strict=True):
            assert target == users[user][len(as_lists(part)[user])]
            assert target not in as_lists(part)[user]


@settings(max_examples=50, deadline=None)
@given(users_rows, st.integers(0, 3))
def test_only_ascending_runs_are_shuffled(users, seed):
    log, ids = logged(*users), [f"{9 - row}" for row in range(10)]
    shuffled = leave_one_out.shuffle_ties(log, ids, seed)
    for user, other in zip(users, as_lists(shuffled), strict=True):
        named, others = [ids[row] for row in user], [ids[row] for row in other]
        cuts = [0, *(at for at in range(1, len(named)) if named[at] <= named[at - 1]), len(named)]
        for low, high in pairwise(cuts):
            assert sorted(others[low:high]) == named[low:high]
    np.testing.assert_array_equal(shuffled.days, log.days)


def test_a_run_comes_out_in_every_order():
    log, ids = logged([2, 0, 1], [1]), ["a", "b", "c"]
    ends = {tuple(as_lists(leave_one_out.shuffle_ties(log, ids, seed))[0]) for seed in range(20)}
    assert ends == {(2, 0, 1), (2, 1, 0)}
    assert (
        leave_one_out.ascending_ends(log),
        leave_one_out.ascending_ends(logged([2, 1, 0], [])),
    ) == (
        1,
        0,
    )


@settings(max_examples=50, deadline=None)
@given(
    users_rows.filter(lambda users: any(len(set(user)) >= 4 for user in users)), st.integers(0, 3)
)
def test_a_cold_item_is_seen_nowhere_but_as_a_test_target(users, seed):
    try:
        split = leave_one_out.cold_start_split(logged(*users), 10, 0.1, seed)
    except InputError:
        return  # nobody's history is long enough without it
    cold = set(split.test.targets_U.tolist())
    seen = {
        row
        for part in (split.train, split.before_test, split.valid.histories)
        for row in part.items.tolist()
    }
    assert len(cold) <= 1
    assert not cold & (
        seen | set(split.valid.targets_U.tolist()) | set(split.test.histories.items.tolist())
    )
    if not cold:
        return
    (row,) = cold
    eval_users = {user for user, rows in enumerate(users) if len(rows) >= 3 and rows[-1] == row}
    assert set(split.test.users_U.tolist()) == {
        u for u in eval_users if sum(other != row for other in users[u]) >= 2
    }


def test_a_share_of_the_users_keeps_whole_histories():
    log = logged(*[[user, user, user] for user in range(100)])
    part = as_lists(leave_one_out.sample_users(log, 0.3, seed=1))
    assert 15 < len(part) < 45
    assert part == [[rows[0]] * 3 for rows in part]
    assert leave_one_out.sample_users(log, 1, seed=1) is log


#: Two users, with 1 and 5 events, whose targets are found at places 2 and 11 of 20; item 30 is the
#: tail.
EVAL_USERS = leave_one_out.EvalUsers(
    logged([0], [1, 2, 3, 4, 5]), np.array([31, 30], np.int32), np.array([0, 1])
)
ROWS_UK = np.array([[9, 31, *range(10, 28)], [*range(6, 16), 30, *range(16, 25)]])


def test_scores_of_a_worked_example():
    counts_I = np.array([5] * 29 + [0, 1, 60])
    row = next_item.next_item_scores([ROWS_UK], EVAL_USERS, counts_I)
    assert [row[f"recall@{k}"] for k in (5, 10, 20)] == [1 / 2, 1 / 2, 1]
    np.testing.assert_allclose(row["ndcg@10"], 1 / np.log2(3) / 2)
    np.testing.assert_allclose(row["mrr"], (1 / 2 + 1 / 11) / 2)
    assert (row["recall@10/1-4"], row["recall@10/5-9"]) == (1, 0)
    assert (row["recall@10/1-4/users"], row["recall@10/20+/users"]) == (1, 0)
    assert np.isnan(row["recall@10/20+"])
    assert (row["tail_recall@10"], row["tail_recall@10/users"]) == (0, 1)
    assert (row["cold_recall@10/users"], row["recall@10/interval"]) == (0, [0, 1])
    first_UK = ROWS_UK[:, :10]
    assert row["coverage"] == len(np.unique(first_UK)) / 32
    assert row["gini@10"] == metrics.gini(metrics.exposure(first_UK, 32))
    assert row["novelty"] == metrics.novelty(first_UK, counts_I)
    assert row["tail_share@10"] == metrics.share_of_places(first_UK, metrics.tail(counts_I))


def test_cold_targets_have_no_event():
    counts_I = np.array([5] * 31 + [0])
    row = next_item.next_item_scores([ROWS_UK], EVAL_USERS, counts_I)
    assert (row["cold_recall@10"], row["cold_recall@10/users"]) == (1, 1)


def test_seeds_are_averaged_and_their_spread_told():
    other_UK = np.roll(
        ROWS_UK, 10, axis=1
    )  # the first user's target falls to place 12, the other's rises to 1
    both = [ROWS_UK, np.where(ROWS_UK == 31, 28, ROWS_UK)]
    row = next_item.next_item_scores(both, EVAL_USERS, np.ones(32, int))
    assert row["recall@10"] == (1 / 2 + 0) / 2
    np.testing.assert_allclose(row["recall@10/std"], np.std([1 / 2, 0], ddof=1))
    assert row["recall@10/interval"] == [0, 1]
    alone = next_item.next_item_scores([other_UK], EVAL_USERS, np.ones(32, int))
    assert "recall@10/std" not in alone
    assert alone["recall@10"] == 1 / 2


#: Nuts follow bolts for three users; screws, as popular, stand before them and far away.
HARDWARE = catalogue("brass bolt", "brass nut", "steel screw", "red paint", "blue paint", "glue")
SHED = leave_one_out.leave_one_out(
    logged(*[[2, 3, 0, 1, 4, 5]] * 3, [2, 4, 4, 4, 3, 1, 1], [4, 4, 2, 2], [5, 5, 0, 1, 3]),
    len(HARDWARE),
)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("popularity", 4),
        ("item_knn", 1),
        ("tfidf", 1),
        ("item_knn+tfidf", 1),
        ("ease", 1),
        ("content", 1),
    ],
)
def test_what_a_rival_tells_who_bought_bolts(name, first):
    items_ID = HashingEncoder(64).encode_items(HARDWARE["title"].to_pylist())
    rows_UK = contender(name, SHED, HARDWARE, items_ID)(logged([0]), 3)
    assert rows_UK[0, 0] == first


def test_the_later_of_two_items_is_told_first():
    """Less is said backwards: who has a nut may lack the bolt, but bought it more likely."""
    weights = successor_weights([logged([0, 1], [2, 3])], range(4), 4).toarray()
    np.testing.assert_allclose(weights[1, 0], successors.BACKWARD * weights[0, 1])
    assert 0 < weights[1, 0] < weights[0, 1]
    assert weights[0, 2] == weights[0, 0] == 0


def test_the_newest_event_counts_most():
    weights = successors.recency_weights(logged([0, 1, 0, 2], [1]), 4).toarray()
    np.testing.assert_allclose(weights, [[1 / 4 + 1 / 2, 1 / 3, 1, 0], [0, 1, 0, 0]])


@pytest.mark.parametrize("name", ["item_knn", "tfidf", "item_knn+tfidf"])
def test_who_has_no_history_is_told_what_is_popular(name):
    popular, theirs = (
        contender(entries, SHED, HARDWARE)(logged([]), 3).tolist()
        for entries in ("popularity", name)
    )
    assert theirs == popular


def test_near_pairs_count_more_and_far_ones_not():
    weights = successor_weights(
        [logged([0, 1, 2], [*[3] * 2, *range(4, 4 + successors.WINDOW)])], range(100), 100
    ).toarray()
    np.testing.assert_allclose(weights[0, 2] / weights[0, 1], 2**-successors.DISTANCE, rtol=1e-5)
    assert weights[3, 2 + successors.WINDOW] > 0 == weights[3, 3]
    assert weights[3, 3 + successors.WINDOW] > 0
    far = successor_weights([logged(list(range(successors.WINDOW + 2)))], range(100), 100).toarray()
    assert far[0, successors.WINDOW] > 0 == far[0, successors.WINDOW + 1]


def test_ease_is_the_least_squares_solution():
    """Its stationary point: the gradient 2 X^T (X B - X) + 2 RIDGE B is 0 off the diagonal, which
    is 0."""
    rng = np.random.default_rng(0)
    users = [rng.choice(7, 4, replace=False) for _ in range(40)]
    log = logged(*users, [3, 3, 3, 3])
    once_UI = np.zeros((41, 7))
    once_UI[log.owners_E, log.items] = 1
    gram = once_UI.T @ once_UI
    weights = baselines.ease_weights(log, 7)
    assert (np.diag(weights) == 0).all()
    assert np.abs(weights).sum() > 0.1
    gradient = gram @ weights - gram + baselines.RIDGE * weights
    np.testing.assert_allclose(gradient - np.diag(np.diag(gradient)), 0, atol=1e-3)


def test_ease_says_when_there_are_too_many_items():
    wide = leave_one_out.leave_one_out(logged([0, 1, 2]), baselines.EASE_ITEMS + 1)
    with pytest.raises(InputError, match="it takes up to 15,000 items"):
        contender("ease", wide)


def test_content_wants_a_vector_for_each_item():
    with pytest.raises(InputError, match="0 vectors for 6 items: encode the whole catalogue"):
        contender("content", SHED)


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_answers_repeat_nothing_and_hold_nothing_of_the_history(name, monkeypatch):
    monkeypatch.setattr(baselines, "USERS_PER_BLOCK", 2)
    eval_users = logged([0, 1], [], [5, 5, 5, 4], [2])
    rows_UK = contender(name, SHED, HARDWARE, np.eye(6, dtype=np.float32))(eval_users, 5)
    assert rows_UK.shape == (4, 5)
    for rows, past in zip(rows_UK.tolist(), as_lists(eval_users), strict=True):
        answered = [row for row in rows if row >= 0]
        assert len(answered) == len(set(answered)) == min(5, 6 - len(set(past)))
        assert not set(answered) & set(past)
    assert contender(name, SHED, HARDWARE, np.eye(6, dtype=np.float32))(logged(), 5).shape == (0, 5)


def test_titles_without_a_word_are_no_error():
    split = leave_one_out.leave_one_out(logged([0, 1, 2]), 3)
    rows_UK = contender("tfidf", split, catalogue(None, "", "!"))(split.users.histories, 2)
    assert rows_UK.tolist() == [[2, -1]]


def test_random_is_seeded():
    first, again, other = (
        contender("random", SHED, seed=seed)(logged([0], [1]), 5).tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(job, "minilm", lambda: HashingEncoder(16))
    rng = np.random.default_rng(0)
    lines = [
        f"u{user} " + " ".join(f"i{row:02}" for row in rng.permutation(40)[: 5 + user % 9])
        for user in range(60)
    ]
    (tmp_path / "user_sequences.txt").write_text("\n".join(lines))
    (tmp_path / "items.csv").write_text(
        "item_id,title\n" + "\n".join(f"i{row:02},word {row}" for row in range(40))
    )
    return tmp_path


def run(shop, monkeypatch, capsys, *flags):
    monkeypatch.setattr(sys, "argv", ["evaluate_histories", "--data", str(shop), *flags])
    code = job.main()
    return code, capsys.readouterr()


@pytest.mark.slow
def test_the_job_s_last_line(shop, monkeypatch, capsys):
    code, printed = run(shop, monkeypatch, capsys, "--seeds", "2")
    lines = printed.out.splitlines()
    summary = json.loads(lines[-1])
    assert (code, summary["job"], summary["dataset"], summary["part"]) == (
        0,
        "evaluate_histories",
        shop.name,
        "test",
    )
    assert {row["name"]: row["seeds"] for row in summary["rows"]} == {
        name: 2 if name in ("random", "user_vector", "nightshelf") else 1 for name in job.NAMES
    }
    for row in summary["rows"]:
        low, high = row["recall@10/interval"]
        assert 0 <= low <= row["recall@10"] <= high <= 1
        assert set(row) >= {*chain(*job.TABLES), "ndcg@10/interval"}
        assert row["cold_recall@10"] is None or row["cold_recall@10/users"]
    assert "60 users with a test item" in lines
    assert not set(systems.VARIANTS) & set(job.NAMES)


def test_the_job_needs_no_ray():
    code = (
        "import sys; sys.modules['ray'] = None; "
        "import jobs.evaluate_histories as job; job.flag_parser()"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


def test_flags_of_the_job(shop, monkeypatch, capsys):
    _, printed = run(
        shop, monkeypatch, capsys, "--valid", "--only", "popularity", "--users", "0.5", "--ties"
    )
    summary = json.loads(printed.out.splitlines()[-1])
    assert (summary["part"], summary["users"], summary["ties"]) == ("valid", 0.5, True)
    assert [row["name"] for row in summary["rows"]] == ["popularity"]
    assert "these are shuffled" in printed.out
    _, printed = run(shop, monkeypatch, capsys, "--cold", "0.1", "--only", "item_knn", "content")
    knn, content = json.loads(printed.out.splitlines()[-1])["rows"]
    assert knn["cold_recall@10/users"] == content["cold_recall@10/users"] > 0
    assert content["cold_recall@10"] == content["recall@10"]
    _, printed = run(shop, monkeypatch, capsys, "--drop", "1", "--only", "content")
    summary = json.loads(printed.out.splitlines()[-1])
    # Without vectors everybody is told the first rows that his history lacks, which is of 13 items
    # at most.
    assert (summary["drop"], summary["rows"][0]["coverage"] <= 23 / 40 < content["coverage"]) == (
        1,
        True,
    )
    assert job.flag_parser().parse_args(["--data", "d", "--only", *systems.VARIANTS]).only == [
        *systems.VARIANTS
    ]


def test_the_catalogue_is_encoded_once(shop, monkeypatch, capsys):
    _, printed = run(shop, monkeypatch, capsys, "--only", "content")
    assert "vectors of 40 items" in printed.out
    monkeypatch.setattr(HashingEncoder, "encode_items", None)
    _, again = run(shop, monkeypatch, capsys, "--only", "content")
    row, same = (json.loads(out.splitlines()[-1])["rows"][0] for out in (printed.out, again.out))
    assert row["recall@10"] == same["recall@10"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--seeds", "0"], "0 seeds measure nothing"),
        (["--cold", "0.1", "--valid"], "leave --valid or --cold away"),
        (["--drop", "2"], "a share of 2 of the items"),
    ],
)
def test_the_job_refuses_with_a_sentence(shop, monkeypatch, capsys, flags, sentence):
    code, printed = run(shop, monkeypatch, capsys, *flags)
    assert code == 1
    assert "nothing was measured: " in printed.err
    assert sentence in printed.err


def test_who_cannot_take_part_is_named(shop, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "EASE_ITEMS", 39)
    code, printed = run(shop, monkeypatch, capsys, "--only", "ease", "popularity")
    assert code == 0
    assert "ease is left out: ease inverts 40 x 40" in printed.out
    assert [row["name"] for row in json.loads(printed.out.splitlines()[-1])["rows"]] == [
        "popularity"
    ]
