import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.understanding.synthetic_typos import add_typo, add_typos


@given(st.text(alphabet="abcz ", max_size=30), st.integers(0, 1000))
def test_one_edit_where_a_word_is_long_enough(query, seed):
    from rapidfuzz.distance import OSA

    typed = add_typo(query, random.Random(seed))
    assert OSA.distance(query, typed) == any(len(word) >= 4 for word in query.split(" "))


@pytest.mark.parametrize("query", ["", "12 x 14 in", "无线耳机", "手机 led"])
def test_what_has_no_long_word_stays(query):
    assert add_typo(query, random.Random(0)) == query


def test_a_letter_repeated():
    assert {len(add_typo("zzzz", random.Random(seed))) for seed in range(50)} == {3, 4, 5}


def test_all_edits_and_all_words_occur():
    typed = [add_typo("blue drill", random.Random(seed)) for seed in range(100)]
    assert {len(text) for text in typed} == {9, 10, 11}
    assert any(text.startswith("blue ") for text in typed)
    assert any(text.endswith(" drill") for text in typed)


def test_a_typo_depends_on_its_query_and_seed_alone():
    assert add_typos(["blue drill", "red pump"], 3)[1:] == add_typos(["red pump"], 3)
    assert add_typos(["cordless blue drill"], 3) != add_typos(["cordless blue drill"], 4)
