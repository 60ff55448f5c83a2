"""Why an answer does not show an item: the first stage of the funnel that excluded it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recsys.interfaces import Scorer
from recsys.pipeline.attribution import attribute, replayed_row
from recsys.pipeline.candidates import RETRIEVAL_DEPTH, CandidatePool
from recsys.pipeline.facets import collapse
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.replay import ALL, Replay
from recsys.pipeline.rerank import FIRST
from recsys.pipeline.searcher import EncodedText

#: Features named in a comparison with the last item that was shown.
MAX_COMPARED = 5


@dataclass(frozen=True)
class Exclusion:
    """`stage` is filter, retrieval, depth, ranking or page. `reason` is a sentence; `details` has
    its numbers."""

    stage: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


def find_exclusion(shop: Recommender, replay: Replay, row: int) -> Exclusion:
    """Of an item (a row of the release) that the answer does not show."""
    passing = shop.release.passing(replay.filters, np.array([row]))
    failed = [name for name, passed in passing.items() if not passed[0]]
    if failed:
        reason = f"it does not pass {', '.join(failed)}"
        return Exclusion("filter", reason, {"filters": failed})
    places = np.flatnonzero(replay.pool.rows_N == row)
    if len(places):
        return _outranked(shop, replay, int(places[0]))
    if replay.hits is not None:
        assert replay.encoded is not None
        return _not_matched(shop, replay.encoded, row)
    first_stage = shop.live_pool(
        replay.query,
        replay.live,
        replay.encoded,
        stages_ms={},
        now=replay.impression.time,
        depth=ALL,
    )
    return _not_retrieved(first_stage, row)


def _not_retrieved(first_stage: CandidatePool, row: int) -> Exclusion:
    """Of a recommendation: each source's score of the item, against the last that it retrieved."""
    requests, rows_11 = first_stage.requests, np.array([[row]], np.int32)
    if row in first_stage.pool.rows_N:
        return Exclusion(
            "depth", "the night's list ends before it, and it is that list which answered"
        )
    if requests.histories is not None and row in requests.histories.bought()[1].tolist():
        reason = "the user has bought it, and no source of repeat purchases retrieved it"
        return Exclusion("retrieval", reason)
    details = {}
    for source in first_stage.sources:
        candidates = source.retrieve(requests, RETRIEVAL_DEPTH, first_stage.allowed)
        scores = candidates.scores_BN[0][candidates.rows_BN[0] >= 0]
        score = 0.0
        if isinstance(source, Scorer):
            score = float(source.score(requests, rows_11)[0, 0])
        full = len(scores) == RETRIEVAL_DEPTH
        details[source.source] = {"score": score, "needed": float(scores.min()) if full else 0.0}
    listed = "; ".join(
        f"{name} {each['score']:.3g} of {each['needed']:.3g} needed"
        for name, each in details.items()
    )
    reason = f"no source retrieved it as a candidate ({listed})"
    return Exclusion("retrieval", reason, details)


def _not_matched(shop: Recommender, encoded: EncodedText, row: int) -> Exclusion:
    """Of a search: the item's term coverage, its rank by vector, and how probably it is relevant by
    both."""
    searcher, vector_D = shop.searcher, encoded[1]
    choices, matches = searcher.choices, searcher.match(*encoded)
    coverage = float(matches.coverage_I[row])
    dense_I = searcher.item_vectors_ID @ vector_D
    nearer = int((dense_I > dense_I[row]).sum())
    details = {"words": coverage, "nearer": nearer, "near": choices.dense_k}
    reason = (
        f"it has {coverage:.0%} of the query's words by weight, and {nearer:,} items are nearer in "
        f"meaning (the {choices.dense_k} nearest may be found)"
    )
    if searcher.relevance is None:
        reason += f": {choices.min_term_coverage:.0%} of the words are needed"
        return Exclusion("retrieval", reason, details)
    rows_N, judgement = searcher.judge(matches, vector_D, np.array([row]))
    if judgement.needed == np.inf:
        details |= {"fit": judgement.fit, "fit_needed": choices.min_fit}
        reason += (
            f": the text fits nothing here, with {judgement.fit:.2f} of the {choices.min_fit:.2f} "
            "of words and meaning that are needed"
        )
        return Exclusion("retrieval", reason, details)
    log_odds = float(judgement.log_odds_N[rows_N == row][0])
    details |= {"log_odds": log_odds, "log_odds_needed": judgement.needed}
    reason += f": log odds of relevance of {log_odds:.1f}, {judgement.needed:.1f} are needed"
    return Exclusion("retrieval", reason, details)


def _outranked(shop: Recommender, replay: Replay, place: int) -> Exclusion:
    """A candidate that others were put before: by which features, against the last that was
    shown."""
    query, reranked = replay.query, replay.reranked
    order_N = reranked.order_N
    rank = order_N.tolist().index(place)
    end = query.offset + query.k
    details: dict[str, Any] = {"place": rank + 1}
    if query.offset and rank < query.offset:
        return Exclusion("page", f"it is on an earlier page, at place {rank + 1}", details)
    if query.collapse and replay.pool.rows_N[place] not in collapse(
        replay.pool.rows_N[order_N], shop.release.groups_I
    ):
        return Exclusion("page", "another item of its group stands for it (collapse)", details)
    details["shown"] = end
    reason = f"it came to place {rank + 1} of {len(order_N):,}, and {end} were shown"
    depth = shop.reranker.depth
    if place >= depth and reranked.ranker != FIRST:
        reason = f"{reason}: the first stage put it behind the {depth} that are ranked"
        return Exclusion("depth", reason, details)
    last = int(order_N[min(end, len(order_N)) - 1])
    behind = _feature_gaps(shop, replay, place, last)
    details |= {
        "behind": behind,
        "score": float(reranked.scores_N[place]),
        "score_of_last": float(reranked.scores_N[last]),
    }
    if behind:
        gaps = ", ".join(f"{name} ({gap:.3g})" for name, gap in behind.items())
        reason = f"{reason}: behind the last of them by {gaps}"
    return Exclusion("ranking", reason, details)


def _feature_gaps(shop: Recommender, replay: Replay, place: int, last: int) -> dict[str, float]:
    """The features by which another candidate is ahead, largest gap first."""
    mine, theirs = (
        {
            part.feature: part.contribution
            for part in attribute(
                shop, replay, replayed_row(replay, at), replay.reranked.arms
            ).parts
        }
        for at in (place, last)
    )
    gaps = {name: theirs.get(name, 0.0) - mine.get(name, 0.0) for name in mine | theirs}
    largest = sorted(gaps.items(), key=lambda gap: -gap[1])[:MAX_COMPARED]
    return {name: gap for name, gap in largest if gap > 0}
