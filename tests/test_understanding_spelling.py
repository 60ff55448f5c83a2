from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets import data_folder
from recsys.errors import NotFoundError
from recsys.retrieval.text.analysis import index_terms
from recsys.understanding.spelling import Speller
from recsys.understanding.synthetic_typos import add_typos

TITLES = (
    ["cordless drill"] * 30
    + ["table lamp"] * 20
    + ["dishwasher, stainless steel"] * 20
    + ["dish rack", "water proof pump 18v"] * 5
    + ["office chair", "holiday cheer"] * 10
    + ["paper towel holder"] * 12
    + ["tower fan"] * 40
    + ["ceiling fan"] * 30
    + ["cieling lamp"]
    + ["手机壳"] * 9
)


def speller_of(titles, context=True):
    rows = defaultdict(list)
    for row, title in enumerate(titles):
        for term in set(index_terms(title)):
            rows[term].append(row)
    terms = sorted(rows)
    postings = [np.array(rows[term], dtype=np.int32) for term in terms]
    frequencies = np.array([len(posting) for posting in postings])
    return Speller(terms, frequencies, (lambda at: postings[at]) if context else None)


@pytest.fixture(scope="module")
def speller():
    return speller_of(TITLES)


@pytest.mark.parametrize(
    ("word", "term"),
    [
        ("dril", "drill"),  # delete
        ("drrill", "drill"),  # insert
        ("drell", "drill"),  # substitute
        ("dirll", "drill"),  # transpose
        ("drils", "drill"),
        ("dishwasehrs", "dishwasher"),
        ("dishwushor", "dishwasher"),  # two edits
        ("drull", "drill"),
        ("dxxll", None),  # two edits in a short word
        ("lapm", "lamp"),
        ("tablelamp", "table lamp"),
        ("drill", None),
        ("drills", None),
        ("dishwa", None),  # the beginning of a word is not split into dish and something
        ("18v", None),
        ("ab", None),
        ("手机克", None),
        ("", None),
    ],
)
def test_correct(speller, word, term):
    assert speller.correct_word(word) == term


def test_the_words_beside_it_choose(speller):
    assert speller.correct_word("towl", ["paper"]) == "towel"
    assert speller.correct_word("towel") is None
    assert speller.correct_word("tower", ["fan"]) is None
    assert speller.correct_word("towen", ["paper"]) == "towel"
    assert speller.correct_word("towen", ["fan"]) == "tower"
    assert speller.correct_word("towen") == "tower"  # more frequent
    assert speller.correct_word("chair", ["office"]) is None
    assert speller.correct_word("chear", ["holiday"]) == "cheer"


def test_a_correction_must_have_met_the_words_beside_it(speller):
    assert speller.correct_word("chear", ["drill"]) is None
    assert speller_of(TITLES, context=False).correct_word("chear", ["drill"]) in ("chair", "cheer")


def test_the_catalogues_own_typo_gives_way_where_it_does_not_fit(speller):
    assert speller.correct_word("cieling", ["fan"]) == "ceiling"
    assert speller.correct_word("cieling", ["lamp"]) is None
    assert speller.correct_word("cieling") is None


@pytest.mark.parametrize(
    ("typos", "fans", "beside", "term"),
    [
        (2, 40, "fan", "ceiling"),
        (21, 400, "fan", None),  # not rare
        (5, 40, "fan", None),  # the other is not common enough
        (2, 40, "lamp", None),  # it fits
        (2, 40, "desk", None),  # so does the other
    ],
)
def test_a_word_of_the_catalogue_is_doubted_with_reason(typos, fans, beside, term):
    titles = (
        ["ceiling fan"] * fans + ["cieling lamp"] * typos + ["desk"] * 900 + ["ceiling desk"] * 9
    )
    assert speller_of(titles).correct_word("cieling", [beside]) == term


def test_the_first_letter_is_seldom_wrong():
    titles = ["wand"] * 12 + ["band"] * 15
    assert speller_of(titles).correct_word("wond") == "wand"
    assert speller_of(titles).correct_word("wbnd") == "wand"
    assert speller_of(titles).correct_word("xand") == "band"


def test_letters_of_a_code_stay(speller):
    assert speller.correct_text("dril-141 dril/2 2-dril dril")[0] == "dril-141 dril/2 2-drill drill"


def test_corrected_replaces_words_and_leaves_the_rest(speller):
    text, corrections = speller.correct_text("dish washer, 18v tablelamp / dril-drill 手机壳dril!")
    assert text == "dishwasher, 18v table lamp / drill-drill 手机壳drill!"
    assert set(corrections) == {
        ("dish washer", "dishwasher"),
        ("tablelamp", "table lamp"),
        ("dril", "drill"),
    }


def test_two_words_that_go_together_are_not_joined():
    titles = ["sand paper"] * 20 + ["sandpaper"] * 20
    assert speller_of(titles).correct_text("sand paper")[0] == "sand paper"
    assert speller_of(titles[10:] + ["sandpaper"] * 90).correct_text("sand paper")[0] == "sandpaper"


def test_a_word_is_joined_once_everywhere(speller):
    assert (
        speller.correct_text("dish washer dish washer dish rack")[0]
        == "dishwasher dishwasher dish rack"
    )
    chain = speller_of(["abcd"] * 20 + ["bcde"] * 20 + ["abcde"] * 20)
    assert chain.correct_text("ab cd e")[0] == "abcd e"


def test_words_to_keep(speller):
    assert speller.correct_text("dril dish washer", protected={"dril", "dish"}) == (
        "dril dish washer",
        (),
    )


def test_words_of_the_language_are_no_typos():
    terms, frequencies = ["drill", "soda"], np.array([9, 9])
    assert Speller(terms, frequencies).correct_word("sofas") == "soda"
    assert Speller(terms, frequencies, lexicon={"sofa"}).correct_word("sofas") is None
    assert Speller(terms, frequencies, lexicon={"sofa"}).correct_word("drlil") == "drill"


def test_an_empty_vocabulary_corrects_nothing():
    assert Speller([], np.zeros(0, np.int64)).correct_text("any thing at all") == (
        "any thing at all",
        (),
    )


@given(st.text(alphabet="abdehilmnopr 手1-'s", max_size=40))
@settings(deadline=None)
def test_corrections_say_what_changed(text):
    speller = speller_of(TITLES[::7])
    corrected, corrections = speller.correct_text(text)
    assert (corrected == text) == (not corrections)
    assert all(typed != correct for typed, correct in corrections)


@given(st.sampled_from(sorted({word for title in TITLES for word in index_terms(title)})))
def test_a_word_of_the_catalogue_alone_stays(word):
    assert speller_of(TITLES).correct_word(word) is None


@pytest.mark.realdata
def test_one_typo_a_query_costs_little():
    """Home Depot: BM25's recall@10 lost to one typo, and by correcting the queries as people typed
    them."""
    import pandas as pd

    from recsys.retrieval.text.bm25 import LexicalIndex

    try:
        folder = data_folder("home_depot")
    except NotFoundError as error:
        pytest.skip(str(error))
    items = pd.read_parquet(folder / "items.parquet")
    judged = pd.read_parquet(folder / "judgments.parquet")
    titles, places = (
        items["title"].tolist(),
        {item: row for row, item in enumerate(items["item_id"])},
    )
    wanted = judged[(judged["split"] == "valid") & (judged["relevance"] >= 2.5)].groupby("query")[
        "item_id"
    ]
    relevant = {query: {places[item] for item in found} for query, found in wanted}
    index, speller = LexicalIndex.build({"title": titles}, {}), speller_of(titles)

    def recall(queries):
        top = [set(np.argpartition(-index.scores(query), 10)[:10].tolist()) for query in queries]
        return np.mean(
            [
                len(found & real) / len(real)
                for found, real in zip(top, relevant.values(), strict=True)
            ]
        )

    typed = [query.casefold() for query in relevant]
    clean = recall(speller.correct_text(query)[0] for query in typed)
    assert clean >= recall(typed)
    typos = add_typos(typed)
    assert recall(speller.correct_text(query)[0] for query in typos) > clean * 0.92
    assert recall(typos) < clean * 0.65


@pytest.mark.parametrize(
    ("word", "term"),
    [("kitxxen", "kitchen"), ("fauxxt", None), ("fauxet", "faucet"), ("saaw", "saw"), ("sw", None)],
)
def test_two_edits_from_seven_letters_on_one_before(word, term):
    assert speller_of(["kitchen", "faucet", "saw"]).correct_word(word) == term


def test_words_up_to_32_letters_are_corrected():
    longest, longer = "a" * 31 + "b", "c" * 32 + "d"
    speller = speller_of([longest, longer])
    assert speller.correct_word("a" * 30 + "xb") == longest
    assert speller.correct_word("c" * 31 + "xd") is None


@pytest.mark.parametrize(("times", "term"), [(2500, "kitchen"), (3500, "kitchxx")])
def test_an_edit_more_costs_what_a_frequency_of_e_to_the_eighth_is_worth(times, term):
    """exp(4 / 0.5) = 2981 times, one more in each logarithm: one edit in one item, or two."""
    terms, frequencies = ["kitchen", "kitchxx"], np.array([1, 2 * times])
    assert Speller(terms, frequencies).correct_word("kitchan") == term


def test_a_split_or_joined_word_is_in_five_items():
    for items, joined, split in ((4, "dish pan", None), (5, "dishpan", "dish pan")):
        whole = speller_of(["dishpan"] * items + ["dish", "pan"])
        assert whole.correct_text("dish pan")[0] == joined
        assert speller_of(["dish", "pan"] * items).correct_word("dishpan") == split
