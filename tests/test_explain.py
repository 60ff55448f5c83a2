"""Why an item is where it is: numbers that add up to the score, and the stage at which an absent
item was lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import InputError, NotFoundError
from recsys.events.impressions import build_impression
from recsys.events.joins import feature_names, label_examples
from recsys.events.sqlite import SqliteEventStore
from recsys.experiments.assignment import Experiment
from recsys.experiments.exploration import Exploration
from recsys.pipeline.attribution import Contribution
from recsys.pipeline.exclusion import Exclusion
from recsys.pipeline.explain import Explanation, explain
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.replay import query_from_impression
from recsys.pipeline.rerank import Reranker
from recsys.pipeline.searcher import SearchChoices
from recsys.ranking.linear import WeightedSum
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Filters, Impression, Interaction, Query
from tests.checkerboard import ITEMS, UNTIL, USERS, left_out, setup

#: Dear things first; the vectors count too, so that the numbers of a block have something to add
#: up.
DEAR = WeightedSum(
    {"log_price": 2.0, "brand_affinity": 0.5, "taste.0": 0.3, "taste.1": -0.2, "first": 0.1}
)


@pytest.fixture(scope="module")
def plain(shop_home: Path) -> Recommender:
    release, parts = Release.open(ArtifactStore(str(shop_home))), setup()
    choices = SearchChoices(dense_k=2, min_fit=0.1, min_log_odds=-9.0, margin=100.0)
    return Recommender.over(
        release,
        parts.user_model(),
        parts.search_ranker(),
        parts.recommend_ranker(),
        choices=choices,
    )


@pytest.fixture(scope="module")
def dear(plain: Recommender) -> Recommender:
    return replace(
        plain,
        reranker=Reranker(
            item_features=plain.release.item_features,
            rankers={"dear": DEAR},
            serving="dear",
            labels={"dear": "dear@m1"},
        ),
    )


def impression_of(
    shop: Recommender, query: Query, live: list[Interaction] | None = None
) -> Impression:
    if query.text is None:
        return build_impression(shop.recommend(query, live or ()), "recommend", query)
    understood = shop.understand(query.text)
    return build_impression(shop.search(query, vector(query.text), understood), "search", query)


def vector(text: str) -> np.ndarray:
    return setup().encoder().encode_queries([text])[0]


def explanation_of(
    shop: Recommender, answer: Impression, item: str, live: list[Interaction] | None = None
) -> Explanation:
    read = (shop.understand(answer.query), vector(answer.query)) if answer.query else None
    return explain(shop, answer, item, live or (), read)


def adds_up(explanation: Explanation) -> None:
    assert explanation.score is not None
    total = explanation.base + sum(part.contribution for part in explanation.parts)
    assert total == pytest.approx(explanation.score, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("which", ["plain", "dear"])
@pytest.mark.parametrize(
    "query",
    [
        Query(request_id="r", k=3, user_id="u03"),
        Query(request_id="r", k=3),
        Query(request_id="r", k=3, user_id="u04", text="red chair"),
    ],
)
def test_the_numbers_of_what_is_shown_add_up_to_its_score(
    which: str, query: Query, request: pytest.FixtureRequest
) -> None:
    shop: Recommender = request.getfixturevalue(which)
    answer = impression_of(shop, query)
    for place, item in enumerate(answer.item_ids):
        explanation = explanation_of(shop, answer, item)
        assert (explanation.in_answer, explanation.place, explanation.exclusion) == (
            True,
            place + 1,
            None,
        )
        assert explanation.score == pytest.approx(answer.scores[place])
        assert (explanation.moved, explanation.propensity) == ("", 1)
        assert explanation.sources
        adds_up(explanation)


def test_of_the_first_ranker_the_parts_are_named_and_a_vector_is_one(dear: Recommender) -> None:
    answer = impression_of(dear, Query(request_id="r", k=2, user_id="u03"))
    explanation = explanation_of(dear, answer, answer.item_ids[0])
    assert {part.feature for part in explanation.parts} == {
        "log_price",
        "brand_affinity",
        "taste vector",
        "first",
    }
    assert explanation.parts[0].feature == "log_price"
    assert "log_price" in explanation.summary
    assert explanation.ranker == "dear@m1"


@pytest.mark.parametrize("kind", ["ab", "interleave"])
def test_an_arm_is_explained_by_its_own_ranker(dear: Recommender, kind: str) -> None:
    """The live ranker is another; of a shared list each item by the ranker that chose it."""
    test = Experiment(
        name="test", arms={"now": 1, "new": 1}, rankers={"now": "first", "new": "dear"}, kind=kind
    )  # type: ignore[arg-type]
    shop = replace(dear, reranker=replace(dear.reranker, serving="first", experiments=(test,)))
    seen = set()
    for user in range(12):
        answer = impression_of(shop, Query(request_id=f"r{user}", k=3, user_id=f"u{user:02d}"))
        for item in answer.item_ids:
            explanation = explanation_of(shop, answer, item)
            adds_up(explanation)
            seen.add("log_price" in {part.feature for part in explanation.parts})
    assert seen == {True, False}


def test_an_item_that_no_source_retrieves_any_more_keeps_its_score(dear: Recommender) -> None:
    answer = impression_of(dear, Query(request_id="r", k=2))
    sources = tuple(source for source in dear.recommend_sources if source.source == "co_occurrence")
    forgetful = replace(
        dear, recommend_sources=sources, recommend_ranker=WeightedSum({"co_occurrence": 1.0})
    )
    explanation = explanation_of(forgetful, answer, answer.item_ids[0])
    adds_up(explanation)
    assert (explanation.place, explanation.score) == (1, pytest.approx(answer.scores[0]))
    assert "no source retrieves it" in explanation.moved


def test_a_ranker_that_has_learned_since_is_named(dear: Recommender) -> None:
    answer = impression_of(dear, Query(request_id="r", k=2))
    other = WeightedSum(dict.fromkeys(DEAR.feature_names, 2.0))
    since = replace(
        dear, reranker=replace(dear.reranker, rankers={"dear": other}, labels={"dear": "dear@m2"})
    )
    explanation = explanation_of(since, answer, answer.item_ids[0])
    assert explanation.note.startswith("dear@m1 ranked then; the parts are of dear@m2")
    assert explanation.score == pytest.approx(answer.scores[0])


def test_a_search_says_which_words_hit(plain: Recommender) -> None:
    answer = impression_of(plain, Query(request_id="r", k=3, text="red chair"))
    assert answer.item_ids[0] == "i00"
    assert set(explanation_of(plain, answer, "i00").terms) == {"red", "chair"}
    assert set(explanation_of(plain, answer, "i01").terms) == {"chair"}


def lost(
    shop: Recommender, answer: Impression, item: str, live: list[Interaction] | None = None
) -> tuple[str, str]:
    explanation = explanation_of(shop, answer, item, live)
    assert explanation.exclusion is not None
    assert not explanation.in_answer
    assert explanation.exclusion.reason in explanation.summary
    return explanation.exclusion.stage, explanation.exclusion.reason


def test_filtered(plain: Recommender) -> None:
    answer = impression_of(
        plain,
        Query(request_id="r", k=3, user_id="u03", filters=Filters(brand=("acme",), max_price=15.0)),
    )
    assert lost(plain, answer, "i15") == ("filter", "it does not pass brand, max_price")


def test_not_found_by_a_search(plain: Recommender) -> None:
    stage, reason = lost(
        plain, impression_of(plain, Query(request_id="r", k=3, text="red chair")), "i15"
    )
    assert stage == "retrieval"
    assert "0% of the query's words by weight" in reason
    assert "log odds of relevance" in reason


def test_not_brought_by_any_source(plain: Recommender) -> None:
    """Without buy-again no source retrieves what they bought last."""
    sources = tuple(source for source in plain.recommend_sources if source.source != "buy_again")
    weights = WeightedSum({source.source: 1.0 for source in sources})
    shop = replace(plain, recommend_sources=sources, recommend_ranker=weights)
    events = [
        Interaction(
            event_id="e",
            user_id="stranger",
            item_id="i05",
            type="purchase",
            time=UNTIL + timedelta(days=2),
        )
    ]
    answer = impression_of(shop, Query(request_id="r", k=3, user_id="stranger"), events)
    assert lost(shop, answer, "i05", events)[0] == "retrieval"


def test_ranked_below_by_the_features_that_cost_it_its_place(dear: Recommender) -> None:
    answer = impression_of(dear, Query(request_id="r", k=2))
    assert answer.item_ids == ("i15", "i14")
    explanation = explanation_of(dear, answer, "i03")
    assert explanation.exclusion is not None
    assert explanation.exclusion.stage == "ranking"
    assert next(iter(explanation.exclusion.details["behind"])) == "log_price"
    assert "behind the last of them by log_price" in explanation.exclusion.reason
    adds_up(explanation)


def test_behind_what_is_ranked_at_all(dear: Recommender) -> None:
    shop = replace(dear, reranker=replace(dear.reranker, depth=4))
    answer = impression_of(shop, Query(request_id="r", k=6, text="chair table lamp shelf"))
    assert len(answer.item_ids) >= 5
    stages = {
        lost(shop, answer, f"i{item:02d}")[0]
        for item in range(ITEMS)
        if f"i{item:02d}" not in answer.item_ids
    }
    assert stages <= {"depth", "retrieval", "ranking"}


def test_another_page_and_another_variant(plain: Recommender) -> None:
    second = impression_of(plain, Query(request_id="r", k=1, text="chair", offset=1))
    assert lost(plain, second, {"i00": "i01", "i01": "i00"}[second.item_ids[0]]) == (
        "page", "it is on an earlier page, at place 1"
    )  # fmt: skip
    one_each = impression_of(plain, Query(request_id="r", k=1, text="chair", collapse=True))
    other = {"i00": "i01", "i01": "i00"}[one_each.item_ids[0]]
    assert lost(plain, one_each, other) == (
        "page",
        "another item of its group stands for it (collapse)",
    )


def test_chance_is_told_of(plain: Recommender) -> None:
    shop = replace(
        plain, reranker=replace(plain.reranker, exploration=Exploration("swap", 1.0, depth=3))
    )
    answer = impression_of(shop, Query(request_id="r", k=3, user_id="u03"))
    moved = [explanation_of(shop, answer, item) for item in answer.item_ids]
    assert sum("chance" in each.moved for each in moved) == 2
    assert all(each.propensity == pytest.approx(1 / 3) for each in moved)


def test_what_cannot_be_explained_is_said(plain: Recommender) -> None:
    answer = impression_of(plain, Query(request_id="r", k=3, user_id="u03"))
    with pytest.raises(NotFoundError, match="'i99' is not in release"):
        explanation_of(plain, answer, "i99")
    with pytest.raises(InputError, match="release yesterday"):
        explanation_of(plain, replace(answer, release="yesterday"), "i00")
    with pytest.raises(InputError, match="surface client"):
        explanation_of(plain, replace(answer, surface="client"), "i00")


def test_an_impression_holds_its_whole_request(plain: Recommender, tmp_path: Path) -> None:
    query = Query(
        request_id="r",
        k=7,
        user_id="u03",
        text="chair",
        filters=Filters(
            category=("home",),
            brand=("acme", "globex"),
            min_price=1.0,
            max_price=None,
            in_stock=True,
        ),
        sort="price",
        offset=2,
        collapse=True,
        facets=True,
    )
    store = SqliteEventStore(tmp_path / "log")
    store.append_impressions(
        [
            impression_of(plain, query),
            impression_of(plain, Query(request_id="s", interest="red vase", diversity=0.5)),
        ]
    )
    again = [query_from_impression(each) for each in store.impressions()]
    assert again == [query, Query(request_id="s", interest="red vase", diversity=0.5)]


def test_a_replayed_day_has_the_scores_that_were_served(dear: Recommender, tmp_path: Path) -> None:
    """What training reads from the log is what ranked, bit by bit: the model over the logged
    features says the same."""
    store = SqliteEventStore(tmp_path / "log")
    queries = [Query(request_id=f"r{user}", k=5, user_id=f"u{user:02d}") for user in range(USERS)]
    queries += [
        Query(
            request_id=f"s{user}",
            k=5,
            user_id=f"u{user:02d}",
            text=f"red i{left_out(user):02d} chair",
        )
        for user in range(USERS)
    ]
    store.append_impressions([impression_of(dear, query) for query in queries])
    examples = label_examples(store.impressions(), store.interactions(0))
    assert set(DEAR.feature_names) <= set(feature_names(examples))
    lists = LoggedRankings.of(examples, DEAR.feature_names)
    assert len(lists) == 2 * USERS
    present_BK = lists.present_BK
    np.testing.assert_allclose(
        DEAR.score(lists.features_BKF)[present_BK], lists.scores_BK[present_BK], rtol=1e-5
    )
    assert len(np.unique(lists.scores_BK)) > ITEMS


# In words


EXPLANATION = Explanation(
    request_id="r",
    item_id="i",
    title="red chair",
    release="v",
    surface="search",
    ranker="net@m1",
    place=3,
    score=0.25,
    sources={"lexical": 2.0, "dense": 0.5},
)
PARTS = tuple(Contribution(f"f{n}", 1.0, part) for n, part in enumerate((0.5, -0.25, 0.125, 0.1)))


def test_a_summary_says_where_an_item_stands_and_what_put_it_there() -> None:
    place = "Place 3 with 0.25 of net@m1, retrieved by lexical, dense"
    parts = "; most of it from f0 (+0.5), f1 (-0.25), f2 (+0.125)"
    assert EXPLANATION.summary == f"{place}."
    assert replace(EXPLANATION, parts=PARTS).summary == f"{place}{parts}."
    moved = replace(EXPLANATION, parts=PARTS, moved="moved", note="another version")
    assert moved.summary == f"{place}{parts}; moved; another version."
    assert replace(EXPLANATION, note="another version").summary == f"{place}; another version."
    unscored = replace(EXPLANATION, score=None, sources={})
    assert unscored.summary == "Place 3 with 0 of net@m1, retrieved by no source."


def test_a_summary_of_what_is_not_shown_is_its_reason() -> None:
    exclusion = Exclusion("filter", "it does not pass brand")
    excluded = replace(EXPLANATION, place=None, exclusion=exclusion)
    assert (excluded.summary, excluded.in_answer) == ("Not shown: it does not pass brand.", False)
    assert EXPLANATION.in_answer


def test_a_search_is_replayed_with_its_text_alone(plain: Recommender) -> None:
    answer = impression_of(plain, Query(request_id="r", k=3, text="red chair"))
    with pytest.raises(InputError, match="understood and encoded: give both"):
        explain(plain, answer, "i00")


def test_a_place_counts_the_pages_before(plain: Recommender) -> None:
    whole = impression_of(plain, Query(request_id="r", k=3, text="chair"))
    page = impression_of(plain, Query(request_id="r", k=1, text="chair", offset=1))
    explanation = explanation_of(plain, page, whole.item_ids[1])
    assert (explanation.place, explanation.moved) == (2, "")
