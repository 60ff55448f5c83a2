import numpy as np
import pyarrow as pa

from recsys.retrieval.text.tfidf import (
    BUCKETS,
    inverse_document_frequencies,
    term_counts,
    tfidf_vectors,
)


def items(*titles, **columns):
    empty = {
        name: [None] * len(titles)
        for name in ("title", "brand", "category", "description", "attributes")
    }
    return pa.table({**empty, "title": list(titles), **columns}).cast(
        pa.schema([(name, pa.string()) for name in empty])
    )


def likeness(table):
    weighted_IW = tfidf_vectors(
        term_counts(table), inverse_document_frequencies(term_counts(table))
    )
    return (weighted_IW @ weighted_IW.T).toarray()


def test_every_word_of_every_field_is_counted():
    counted = term_counts(
        items("oak table", "", brand=["oak", None], description=["a table of oak", None])
    )
    assert counted.shape == (2, BUCKETS)
    assert sorted(counted[[0]].data.tolist())[-2:] == [2, 3], "two tables, three times oak"
    assert counted[[1]].nnz == 0


def test_a_word_is_itself_in_any_field_but_not_in_attributes():
    in_title, in_brand, in_attributes = (
        set(term_counts(table).indices.tolist())
        for table in (items("12"), items("", brand=["12"]), items("", attributes=["12"]))
    )
    assert in_title == in_brand
    assert len(in_attributes) == 1
    assert not in_title & in_attributes


def test_a_word_weighs_by_how_few_items_have_it():
    counted = term_counts(items("oak table", "oak chair", "oak"))
    inverse_W = inverse_document_frequencies(counted)
    table_W = set(term_counts(items("table")).indices.tolist())
    oak_W = set(term_counts(items("oak")).indices.tolist())
    np.testing.assert_allclose(inverse_W[list(oak_W)], np.log(4 / 4) + 1)
    np.testing.assert_allclose(inverse_W[list(table_W)], np.log(4 / 2) + 1)
    assert inverse_W.max() == np.float32(np.log(4) + 1), "a word that nobody has"


def test_rows_have_length_one_and_an_item_without_words_none():
    likeness_II = likeness(items("oak table", "oak oak chair", ""))
    np.testing.assert_allclose(np.diag(likeness_II), [1, 1, 0], atol=1e-6)
    assert np.isfinite(likeness_II).all()


def test_the_same_rare_word_makes_items_more_alike_than_the_same_common_one():
    likeness_II = likeness(items("red oak", "red pine", "blue oak", "red ash", "red elm"))
    assert likeness_II[0, 2] > likeness_II[0, 1] > 0 == likeness_II[1, 2]


def test_a_word_said_often_counts_less_than_so_many_words():
    """1 + ln 8 to 1, not 8 to 1: the cosine with "oak" alone is .95 where plain counts would make
    it .99."""
    alone = likeness(items("oak", " ".join(["oak"] * 8 + ["lamp"]), "lamp"))[0, 1]
    np.testing.assert_allclose(alone, (1 + np.log(8)) / np.hypot(1 + np.log(8), 1), atol=1e-5)


def test_the_weights_of_a_catalogue_hold_for_an_item_that_came_later():
    inverse_W = inverse_document_frequencies(term_counts(items("oak table", "pine table")))
    old, new = (
        tfidf_vectors(term_counts(items(title)), inverse_W) for title in ("oak table", "oak stool")
    )
    assert 0 < (old @ new.T).toarray()[0, 0] < 1


def test_nothing_has_no_words():
    counted = term_counts(items())
    assert (counted.shape, counted.nnz) == ((0, BUCKETS), 0)
    assert tfidf_vectors(counted, inverse_document_frequencies(counted)).shape == (0, BUCKETS)
