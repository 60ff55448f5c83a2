import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.retrieval import similar
from recsys.retrieval.similar import content_neighbours, nearest_items


def by_definition(items_ID, texts_I, block, n, allowed_I):
    """Items x items: the best scores first, of equal ones the lower text, then the lower row."""
    lists = []
    for row in block:
        others = [
            other
            for other in np.flatnonzero(allowed_I).tolist()
            if other != row and items_ID[row].any()
        ]
        scores = {other: float(items_ID[row] @ items_ID[other]) for other in others}
        best = sorted(others, key=lambda other: (-scores[other], texts_I[other], other))[:n]
        lists.append([(other, scores[other]) for other in best])
    return lists


@st.composite
def catalogues(draw):
    """Few texts for many items; small whole-number vectors, so that scores are exact, often equal,
    sometimes zero."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    items = draw(st.integers(1, 30))
    _, texts_I = np.unique(random.integers(0, draw(st.integers(1, 30)), items), return_inverse=True)
    vectors_TD = random.integers(-1, 2, (texts_I.max() + 1, 3)).astype(np.float32)
    allowed_I = random.random(items) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    low, high = sorted(draw(st.tuples(st.integers(0, items), st.integers(0, items))))
    return vectors_TD[texts_I], texts_I, range(low, high), draw(st.integers(1, 35)), allowed_I


@settings(max_examples=200, deadline=None)
@given(catalogues())
def test_equals_items_by_items(catalogue):
    found = nearest_items(*catalogue)
    wanted = by_definition(*catalogue)
    n = catalogue[3]
    assert found.rows_BN.shape == found.scores_BN.shape == (len(wanted), n)
    for rows, scores, best in zip(found.rows_BN, found.scores_BN, wanted, strict=True):
        pads = n - len(best)
        assert rows.tolist() == [row for row, _ in best] + [-1] * pads
        assert scores.tolist() == [score for _, score in best] + [-np.inf] * pads


def test_twins_come_first_and_an_item_is_not_like_itself():
    """Items 0 and 2 have one text; 1 leans their way, 3 stands across."""
    items_ID = np.array([[1, 0], [0.8, 0.6], [1, 0], [0, 1]], np.float32)
    found = nearest_items(items_ID, np.array([0, 1, 0, 2]), range(4), 2, np.ones(4, bool))
    assert found.rows_BN.tolist() == [[2, 1], [0, 2], [0, 1], [1, 0]]
    np.testing.assert_allclose(found.scores_BN[0], [1, 0.8])


def test_what_is_not_sold_is_like_others_but_nobody_is_like_it():
    items_ID = np.array([[1, 0], [1, 0], [0.6, 0.8]], np.float32)
    found = nearest_items(items_ID, np.array([0, 0, 1]), range(3), 3, np.array([False, True, True]))
    assert found.rows_BN.tolist() == [[1, 2, -1], [2, -1, -1], [1, -1, -1]]


def test_many_items_of_one_text_fill_the_list():
    items_ID = np.tile(np.array([[1, 0]], np.float32), (50, 1))
    found = nearest_items(items_ID, np.zeros(50, np.int64), range(2, 4), 3, np.ones(50, bool))
    assert found.rows_BN.tolist() == [[0, 1, 3], [0, 1, 2]]


def shelf(*titles):
    columns = dict.fromkeys(("brand", "category", "description", "attributes"), [""] * len(titles))
    return pa.table({"title": list(titles), **columns})


def test_words_part_items_that_the_vectors_find_alike():
    """All on one vector: the lamp is as near to the chair as the other chair is, until their words
    are read."""
    items, texts_I = shelf("red oak chair", "steel lamp", "oak chair"), np.arange(3)
    items_ID = np.tile(np.array([[0.6, 0.8]], np.float32), (3, 1))
    assert nearest_items(items_ID, texts_I, range(1), 2, np.ones(3, bool)).rows_BN.tolist() == [
        [1, 2]
    ]
    found = content_neighbours(items, texts_I, items_ID, range(3), 2, allowed_I=np.ones(3, bool))
    assert found.rows_BN.tolist() == [[2, 1], [0, 2], [0, 1]]
    np.testing.assert_allclose(found.scores_BN[0, 1], 1, rtol=1e-6)
    assert 1 < found.scores_BN[0, 0] < 2


def test_an_item_without_a_vector_is_silent_whatever_its_words():
    items_ID = np.array([[1, 0], [0, 0], [0, 1]], np.float32)
    found = content_neighbours(
        shelf("oak chair", "oak chair, worn", "lamp"),
        np.arange(3),
        items_ID,
        range(3),
        2,
        allowed_I=np.ones(3, bool),
    )
    assert found.rows_BN[1].tolist() == [-1, -1]
    assert found.rows_BN[0].tolist() == [1, 2], "others find it by its words"


def test_content_in_blocks_of_texts_is_content_at_once(monkeypatch):
    random = np.random.default_rng(0)
    words = np.array(["oak", "pine", "chair", "lamp", "red", "blue", "steel", "small"])
    titles = sorted({" ".join(words[random.random(8) < 0.4]) for _ in range(40)})
    texts_I = np.concatenate([np.arange(len(titles)), random.integers(0, len(titles), 15)])
    vectors_TD = random.normal(size=(len(titles), 5)).astype(np.float32)
    items, sold_I = shelf(*(titles[text] for text in texts_I)), random.random(len(texts_I)) < 0.8
    whole = content_neighbours(
        items, texts_I, vectors_TD[texts_I], range(len(texts_I)), 7, allowed_I=sold_I
    )
    monkeypatch.setattr(similar, "TEXTS_PER_BLOCK", 3)
    for low, high in ((0, 9), (9, 30), (30, len(texts_I))):
        part = content_neighbours(
            items, texts_I, vectors_TD[texts_I], range(low, high), 7, allowed_I=sold_I
        )
        np.testing.assert_array_equal(part.rows_BN, whole.rows_BN[low:high])
        np.testing.assert_allclose(part.scores_BN, whole.scores_BN[low:high], rtol=1e-5)
    assert content_neighbours(
        items, texts_I, vectors_TD[texts_I], range(4, 4), 7, allowed_I=sold_I
    ).rows_BN.shape == (0, 7)
