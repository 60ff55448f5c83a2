"""Weights of alternatives from literals: what an item scores for each, against the term itself."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.query_expansion import Vocabulary
from recsys.retrieval.text.synonyms import Synonyms

#: Words of one item each, and thirty items more: all these words are rare alike, mail and box not.
TITLES = ["mailman", "sofa", "couch", "paint", "painting", "mailbox", "mail box x1"]
INDEX = LexicalIndex.build(
    {"title": [*TITLES, *["mail y1"] * 15, *["box y2"] * 15]}, boosts={"title": 1}
)
SYNONYMS = Synonyms.parse(["sofa, couch"])


def score(query: str, title: str) -> float:
    return float(INDEX.scores(query, SYNONYMS)[TITLES.index(title)])


@pytest.mark.parametrize(
    ("query", "title", "itself", "weight"),
    [
        ("mailm", "mailman", "mailman x", 0.5),  # a word that no item has, unfinished
        ("sofa x", "couch", "couch x", 0.8),
        ("paint x", "painting", "painting x", 0.6),
        ("painted x", "painting", "painting x", 0.6),
        ("mailbox x", "mail box x1", "mail box x", 0.6),
    ],
)
def test_weights_against_the_term_itself(
    query: str, title: str, itself: str, weight: float
) -> None:
    plain = LexicalIndex.scores(INDEX, itself)[TITLES.index(title)]
    assert score(query, title) == pytest.approx(weight * plain, rel=1e-5)


def test_a_longer_word_than_a_known_one_scores_a_tenth() -> None:
    index = LexicalIndex.build({"title": ["tool", "toolbox", "saw", "oak"]}, {})
    longer, itself = index.scores("tool")[1], index.scores("toolbox x")[1]
    assert longer == pytest.approx(0.1 * itself, rel=1e-5)


def test_words_that_the_catalogue_joins_score_as_one_word_no_rarer_than_they_are() -> None:
    """Of 37 items 16 have mail, 16 box, one mailbox."""
    worth = 2 * np.log(1 + 21.5 / 16.5) / np.log(1 + 36.5 / 1.5)
    plain = INDEX.scores("mailbox x")[5]
    assert score("mail box x", "mailbox") == pytest.approx(worth * plain, rel=1e-5)


def test_the_most_frequent_completions_up_to_32() -> None:
    terms = [f"a{number:02}" for number in range(40)]
    vocabulary = Vocabulary(["a", *terms], np.arange(41), 41)
    assert vocabulary.completions("a") == list(range(40, 8, -1))
    assert vocabulary.completions("a4") == []


@pytest.mark.parametrize(
    ("titles", "splits"),
    [
        (["ink jet", "ink jet", "toner"], True),
        (["ink jet", "toner", "toner"], False),  # in one item alone
        (["in kjet", "in kjet", "toner"], False),  # two letters are no part
    ],
)
def test_a_word_is_split_into_known_parts(titles: list[str], splits: bool) -> None:
    assert bool(LexicalIndex.build({"title": titles}, {}).scores("inkjet x")[0]) == splits
