"""The cross-encoder and its training, on words that only a comparison can order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.datasets.judgments import JudgedPairs
from recsys.errors import NotFoundError
from recsys.ranking.cross_encoder import CrossEncoder, bert_tiny, pair_batch, pair_tokenizer
from recsys.training import cross_encoder
from recsys.training.cross_encoder import UNJUDGED, judged_ndcg, with_negatives
from recsys.training.schedule import Schedule
from tests.toy_kinds import TEXTS, VERBS, VOCABULARY, bert_folder, judged

pytestmark = pytest.mark.slow

SCHEDULE = Schedule(epochs=20, batch_size=32, learning_rate=3e-3, patience=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_folder(tmp_path_factory.mktemp("bert"), spread=0.3)


@pytest.fixture(scope="module")
def trained(
    base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, cross_encoder.FitResult]:
    folder = tmp_path_factory.mktemp("cross-encoder")
    return folder, cross_encoder.train_cross_encoder(
        base, TEXTS, judged(VERBS[:3]), judged(VERBS[3:], 1), folder=folder, schedule=SCHEDULE
    )


def test_training_learns_to_compare(trained: tuple[Path, cross_encoder.FitResult]) -> None:
    """Queries with a verb that training never saw: which items say the "bb" of their "aa"?"""
    folder, fitted = trained
    assert fitted.best > 0.9 > 0.6 > fitted.start
    valid = judged(VERBS[3:], 2)
    scores_P = CrossEncoder(folder).scores(
        [valid.queries[q] for q in valid.query_P], [TEXTS[r] for r in valid.rows_P]
    )
    assert judged_ndcg(valid, scores_P) > 0.9, "the saved folder is the trained model"
    assert scores_P[valid.grades_P == 1].mean() > 0.8 > 0.2 > scores_P[valid.grades_P == 0].mean()


def test_same_seed_same_scores(base: Path, tmp_path: Path) -> None:
    schedule = Schedule(epochs=1, batch_size=64, learning_rate=3e-3, patience=0, seed=3)
    for name in ("first", "second"):
        cross_encoder.train_cross_encoder(
            base,
            TEXTS,
            judged(VERBS[:1]),
            judged(VERBS[3:], 1),
            folder=tmp_path / name,
            schedule=schedule,
        )
    first, second = (
        CrossEncoder(tmp_path / name).scores(["aa1"] * 80, TEXTS) for name in ("first", "second")
    )
    np.testing.assert_array_equal(first, second)


def test_a_pair_scores_the_same_in_any_batch(trained: tuple[Path, cross_encoder.FitResult]) -> None:
    queries = ["buy aa1", "aa1", "find cheap aa3 black c1 c2 c3", "", "aa7"] * 5
    texts = ["bb1 red c0", "bb2 " * 30, "bb3", "bb4 green", ""] * 5
    together = CrossEncoder(trained[0], batch_size=32).scores(queries, texts)
    for size in (1, 3):
        np.testing.assert_allclose(
            CrossEncoder(trained[0], batch_size=size).scores(queries, texts), together, atol=1e-5
        )
    turned = CrossEncoder(trained[0], batch_size=4).scores(queries[::-1], texts[::-1])
    np.testing.assert_allclose(turned[::-1], together, atol=1e-5)
    assert together.dtype == np.float32
    assert ((together >= 0) & (together <= 1)).all()
    assert len(np.unique(together.round(5))) > 2


def test_nothing_to_score(trained: tuple[Path, cross_encoder.FitResult]) -> None:
    reader = CrossEncoder(trained[0])
    assert reader.scores([], []).shape == (0,)
    assert "_model" not in vars(reader), "nothing was loaded for it"


def test_queries_and_texts_of_other_numbers_are_refused(
    trained: tuple[Path, cross_encoder.FitResult],
) -> None:
    with pytest.raises(ValueError, match="longer"):
        CrossEncoder(trained[0]).scores(["aa1"], ["bb1", "bb2"])


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        NotFoundError, match=r"nowhere has no cross-encoder: name a folder that its training wrote"
    ):
        CrossEncoder(tmp_path / "nowhere")


def test_pairs_are_cut_the_longer_first_and_padded(base: Path) -> None:
    arrays = pair_batch(pair_tokenizer(base, 8), ["aa1", "buy aa2"], ["bb1 " * 20, "bb2"])
    ids = {word: at for at, word in enumerate(VOCABULARY)}
    first = [2, ids["aa1"], 3, *[ids["bb1"]] * 4, 3]
    second = [2, ids["buy"], ids["aa2"], 3, ids["bb2"], 3, 0, 0]
    assert arrays["input_ids"].tolist() == [first, second]
    assert arrays["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 0, 0]]
    assert arrays["attention_mask"].tolist() == [[1] * 8, [1] * 6 + [0] * 2]


@pytest.mark.realdata
def test_bert_tiny_is_a_folder_to_train_from() -> None:
    try:
        folder = bert_tiny()
    except NotFoundError as error:
        pytest.skip(str(error))
    assert {"config.json", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert len(pair_tokenizer(folder, 64).encode("cordless drill", "18 v drill").ids) > 6


#: Query 0 was judged on 1 and 2, query 1 on 5. The lists begin with what stands too high to be a
#: negative.
TRAIN = JudgedPairs.from_unsorted(["a", "b"], [0, 0, 1], [1, 2, 5], [1.0, 0.0, 0.5])
LISTS_QN = np.array([[7, 1, 2, 3, 4, -1], [5, 6, 5, 8, -1, -1]])


def test_negatives_are_what_nobody_judged() -> None:
    more = with_negatives(TRAIN, LISTS_QN, each=2, first=1, seed=0)
    assert more.queries == TRAIN.queries
    assert more.query_P.tolist() == [0, 0, 0, 0, 1, 1, 1]
    (rows_0, grades_0), (rows_1, grades_1) = more.by_query()
    assert (rows_0[:2].tolist(), set(rows_0[2:].tolist())) == ([1, 2], {3, 4})
    assert (rows_1[:1].tolist(), set(rows_1[1:].tolist())) == ([5], {6, 8})
    assert (grades_0.tolist(), grades_1.tolist()) == (
        [1, 0, UNJUDGED, UNJUDGED],
        [0.5, UNJUDGED, UNJUDGED],
    )


def test_negatives_of_short_lists() -> None:
    assert with_negatives(TRAIN, LISTS_QN, each=5, first=4, seed=0).rows_P.tolist() == [1, 2, 4, 5]
    assert with_negatives(TRAIN, LISTS_QN[:, :0], each=5, first=1, seed=0).rows_P.tolist() == [
        1,
        2,
        5,
    ]
    assert with_negatives(TRAIN, LISTS_QN, each=0, first=0, seed=0).rows_P.tolist() == [1, 2, 5]


lists = st.lists(
    st.lists(st.integers(0, 9), min_size=6, max_size=6, unique=True), min_size=2, max_size=2
)


@given(lists, st.integers(0, 6), st.integers(0, 6), st.integers(0, 9))
def test_laws_of_negatives(listed: list[list[int]], each: int, first: int, seed: int) -> None:
    more = with_negatives(TRAIN, np.array(listed), each=each, first=first, seed=seed)
    assert (np.diff(more.query_P) >= 0).all()
    for query, (rows, grades) in enumerate(more.by_query()):
        judged_rows, judged_grades = TRAIN.by_query()[query]
        added = rows[len(judged_rows) :]
        pool = set(listed[query][first:]) - set(judged_rows.tolist())
        assert rows[: len(judged_rows)].tolist() == judged_rows.tolist()
        assert grades.tolist() == [*judged_grades.tolist(), *[UNJUDGED] * len(added)]
        assert len(added) == len(set(added.tolist())) == min(each, len(pool))
        assert set(added.tolist()) <= pool


def test_judged_ndcg_worked_example() -> None:
    """Grades 1 and .5 gain 3 and 1; the second query has no gain and is left out."""
    pairs = JudgedPairs.from_unsorted(["a", "b"], [0, 0, 0, 1], [0, 1, 2, 3], [0.5, 0.0, 1.0, 0.0])
    best = 3 + 1 / np.log2(3)
    assert judged_ndcg(pairs, np.array([2.0, 1.0, 3.0, 9.0])) == pytest.approx(1)
    assert judged_ndcg(pairs, np.array([3.0, 2.0, 1.0, 9.0])) == pytest.approx((1 + 3 / 2) / best)
    assert judged_ndcg(pairs, np.array([2.0, 3.0, 1.0, 9.0]), k=1) == 0
