"""Why an item stands where it stands in an answer, or where it was lost on the way.

The request is asked again on the release that answered it, at the time it was asked: the same
sources, the same scores, the same chance. What of it was logged (features, scores, propensities) is
taken from the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from recsys.errors import InputError, NotFoundError
from recsys.interfaces import Explained, Ranker, Scorer
from recsys.pipeline.candidates import DEPTH
from recsys.pipeline.facets import collapsed
from recsys.pipeline.recommender import CandidatePool, Recommender
from recsys.pipeline.rerank import COLUMN, FIRST, TABLE, Pool, Reranked
from recsys.pipeline.search import SearchPage
from recsys.pipeline.searcher import FEATURES, Hits
from recsys.ranking.logged_rankings import is_vector
from recsys.types import Filters, Floats, Impression, Interaction, Mask, Query
from recsys.understanding.query_parser import ParsedQuery

#: More candidates than sources bring.
ALL = 1_000_000
#: Features named in a comparison with the last item that was shown.
MOST = 5


@dataclass(frozen=True)
class Part:
    """What one feature (or one vector) was, and what it added to the score."""

    feature: str
    value: float
    contribution: float


@dataclass(frozen=True)
class Lost:
    """Where in the funnel an item was lost that the answer does not show.

    `stage` is catalogue, filter, retrieval, depth, ranking or page. `reason` is a sentence;
    `details` has its numbers."""

    stage: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """`base` and the contributions of `parts` add up to `score`, to rounding; both are missing for
    an item that no ranker saw. `sources` are what each source said of the item, `terms` what each
    word of the query that it has added to the lexical score. `moved` says what took it from where
    its score put it; `propensity` how likely that was. `note` says where the parts are not of the
    ranker that made the score."""

    request_id: str
    item_id: str
    title: str
    release: str
    surface: str
    ranker: str
    shown: bool
    place: int | None = None
    score: float | None = None
    base: float = 0.0
    parts: tuple[Part, ...] = ()
    sources: Mapping[str, float] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    moved: str = ""
    propensity: float = 1.0
    lost: Lost | None = None
    note: str = ""

    @property
    def summary(self) -> str:
        """All of it in a sentence or two."""
        if self.lost:
            return f"Not shown: {self.lost.reason}."
        brought = (
            f"brought by {', '.join(self.sources)}" if self.sources else "brought by no source"
        )
        told = [f"Place {self.place} with {self.score or 0:.3g} of {self.ranker}, {brought}"]
        if self.parts:
            told.append(
                "most of it from "
                + ", ".join(f"{p.feature} ({p.contribution:+.3g})" for p in self.parts[:3])
            )
        return "; ".join([*told, *(each for each in (self.moved, self.note) if each)]) + "."


@dataclass(frozen=True)
class _Replayed:
    """A request asked again: its candidates in their last order, and what each source said."""

    pool: Pool
    looked: Reranked
    features_NF: Floats
    first: Ranker
    names: tuple[str, ...]
    brought_NF: Mask
    filters: Filters
    hits: Hits | None = None


def explain(
    shop: Recommender,
    impression: Impression,
    item_id: str,
    live: Sequence[Interaction] = (),
    read: tuple[ParsedQuery, Floats] | None = None,
) -> Explanation:
    """`shop` answers from the impression's release; `live` is what the user had done between the
    night and the request; `read` is the text, understood, and its vector, for a search or a
    declared interest.

    Raises NotFoundError for an item that the release does not have, InputError for an answer that
    was not ranked here (a client's own list, similar items) or comes from another release."""
    row = shop.release.item_ids.row(item_id)
    if impression.release != shop.release.version:
        raise InputError(
            f"request {impression.request_id} was answered from release {impression.release}: open that"
        )
    if impression.surface not in ("search", "recommend"):
        raise InputError(
            f"request {impression.request_id} is of surface {impression.surface}: nothing was ranked there"
        )
    if row is None:
        raise NotFoundError(
            f"item {item_id!r} is not in release {shop.release.version}: it could not be shown"
        )
    query = query_of(impression)
    again = _replayed(shop, impression, query, live, read)
    told: dict[str, Any] = {
        "request_id": impression.request_id, "item_id": item_id, "title": shop.release.item(row).title,
        "release": impression.release, "surface": impression.surface, "ranker": impression.ranker or FIRST,
    }  # fmt: skip
    if read is not None:
        told["terms"] = shop.searcher.lexical.index.explain(read[0].understanding.normalised, row)
    place = next(iter(np.flatnonzero(again.pool.rows_N == row).tolist()), None)
    if place is not None or item_id in impression.item_ids:
        told |= _scored(shop, impression, again, item_id, place)
    if item_id in impression.item_ids:
        rank = None if place is None else again.looked.order_N.tolist().index(place) + 1
        return _of_shown(impression, item_id, rank, told)
    return Explanation(
        **told, shown=False, lost=_lost(shop, query, again, row, live, read, impression.time)
    )


def query_of(impression: Impression) -> Query:
    """The request that an impression answered."""
    asked: dict[str, Any] = dict(impression.asked)
    filters: dict[str, Any] = {
        name: value for name, value in asked.items() if name in Filters.__dataclass_fields__
    }
    lists: dict[str, Any] = {
        name: tuple(filters[name]) for name in ("category", "brand") if name in filters
    }
    known = {"user_id": impression.user_id, "text": impression.query, "offset": impression.offset}
    rest: dict[str, Any] = {
        name: value for name, value in asked.items() if name not in filters
    } | known
    return Query(request_id=impression.request_id, **rest, filters=Filters(**(filters | lists)))


def _replayed(
    shop: Recommender,
    impression: Impression,
    query: Query,
    live: Sequence[Interaction],
    read: tuple[ParsedQuery, Floats] | None,
) -> _Replayed:
    if query.text is None:
        asked = shop.candidates(query, live, read, {}, impression.time, ALL)
        pool, context = asked.pool, asked.context
        looked = shop.reranker.look(query, "recommend", pool, context)
        names, brought_NF = asked.found.names, asked.found.brought_BKF[0, : len(pool)]
        filters = replace(query.filters, in_stock=True)
        return _Replayed(
            pool,
            looked,
            shop.reranker.features(pool, context),
            asked.ranker,
            names,
            brought_NF,
            filters,
        )
    if read is None:
        raise InputError("a search is explained with its text understood and encoded: give both")
    found = SearchPage(shop.release, shop.searcher, shop.reranker).found(query, read[1], read[0])
    features_NF = shop.reranker.features(found.pool, found.context)
    first, hits = shop.searcher.ranker, found.hits
    return _Replayed(
        found.pool, found.looked, features_NF, first, FEATURES, hits.brought_NF, found.filters, hits
    )


def _scored(
    shop: Recommender, impression: Impression, again: _Replayed, item_id: str, place: int | None
) -> dict[str, Any]:
    """Score and parts of an item: by the log where it was shown, as asked again where it was not;
    `place` in the pool of then, None where nothing brings it any more."""
    told: dict[str, Any] = {}
    team, values_F = "", np.zeros(len(TABLE), np.float32)
    if place is not None:
        told["score"], team = float(again.looked.scores_N[place]), again.looked.teams_N[place]
        values_F = again.features_NF[place]
        said = zip(again.names, again.brought_NF[place], strict=True)
        told["sources"] = {
            name: float(again.pool.signals[name][place]) for name, there in said if there
        }
    if item_id in impression.item_ids:
        at = impression.item_ids.index(item_id)
        told["score"] = impression.scores[at] if impression.scores else told.get("score", 0.0)
        logged = dict(zip(impression.feature_names, impression.features[at], strict=True))
        values_F = np.array([logged.get(name, 0.0) for name in TABLE], np.float32)
        team = impression.teams[at] if impression.teams else ""
    teams = shop.reranker.teams(impression.arms)
    name = teams.get(
        team, next(iter(teams.values()))
    )  # what both had in front was scored by the first
    ranker = (
        shop.reranker.rankers.get(name) if place is None or place < shop.reranker.depth else None
    )
    if ranker is not None:
        columns = [COLUMN[column] for column in ranker.feature_names]
        values = dict(zip(ranker.feature_names, values_F[columns].tolist(), strict=True))
        told |= _parts(ranker, values_F[columns][None], 0, values)
        told["note"] = _note(told, impression.ranker, shop.reranker.labels.get(name, name))
    elif place is not None:
        values = {name: float(again.pool.signals[name][place]) for name in again.names}
        table_NF = np.stack([again.pool.signals[name] for name in again.names], axis=1)
        told |= _parts(again.first, table_NF, place, values)
    return told


def _note(told: Mapping[str, Any], then: str, now: str) -> str:
    """Where the ranker has learned since the answer, its parts add up to another score."""
    total = told.get("base", 0.0) + sum(part.contribution for part in told.get("parts", ()))
    if abs(total - told["score"]) <= 1e-3 * max(1.0, abs(told["score"])):
        return ""
    return f"{then} ranked then; the parts are of {now}, which serves now and gives {total:.4g}"


def _parts(
    ranker: Ranker, table_NF: Floats, place: int, values: Mapping[str, float]
) -> dict[str, Any]:
    """Base and parts, largest first, the numbers of a vector together; nothing where the ranker
    cannot say."""
    if not isinstance(ranker, Explained):
        return {}
    told_F = ranker.contributions(table_NF[None])[0, place].astype(float)
    added: dict[str, tuple[float, float]] = {}
    for (name, value), contribution in zip(values.items(), told_F[:-1], strict=True):
        if is_vector(name):
            name, value = f"{name.split('.')[0]} vector", 0.0
        added[name] = (value, added.get(name, (0.0, 0.0))[1] + contribution)
    parts = [Part(name, value, contribution) for name, (value, contribution) in added.items()]
    parts.sort(key=lambda part: -abs(part.contribution))
    return {"base": float(told_F[-1]), "parts": tuple(parts)}


def _of_shown(
    impression: Impression, item_id: str, rank: int | None, told: dict[str, Any]
) -> Explanation:
    at = impression.item_ids.index(item_id)
    place = impression.offset + at + 1
    propensity = impression.propensities[at] if impression.propensities else 1.0
    moved = ""
    if rank is None:
        moved = "asked again, no source brings it: the user's history or the clock has changed its answer"
    elif rank != place:
        cause = (
            f"chance (a propensity of {propensity:.3g})" if propensity < 0.5 else "a rule or chance"
        )
        moved = f"its score puts it at place {rank}, {cause} at place {place}"
    return Explanation(**told, shown=True, place=place, propensity=propensity, moved=moved)


def _lost(
    shop: Recommender,
    query: Query,
    again: _Replayed,
    row: int,
    live: Sequence[Interaction],
    read: tuple[ParsedQuery, Floats] | None,
    at: datetime,
) -> Lost:
    """The first stage of the funnel that the item did not pass."""
    passing = shop.release.passing(again.filters, np.array([row]))
    failed = [name for name, passed in passing.items() if not passed[0]]
    if failed:
        return Lost("filter", f"it does not pass {', '.join(failed)}", {"filters": failed})
    place = np.flatnonzero(again.pool.rows_N == row)
    if not len(place):
        if again.hits is not None:
            return _not_found(shop, again, row, read)
        return _not_brought(shop.asked(query, live, read, {}, at, ALL), row)
    return _below(shop, query, again, int(place[0]))


def _not_brought(asked: CandidatePool, row: int) -> Lost:
    """Of a recommendation: what each source said of it, against the last that it brought."""
    histories, rows_11 = asked.requests.histories, np.array([[row]], np.int32)
    if row in asked.pool.rows_N:
        return Lost("depth", "the night's list ends before it, and it is that list which answered")
    if histories is not None and row in histories.bought()[1].tolist():
        return Lost(
            "retrieval", "the user has bought it, and no source of what is bought again brought it"
        )
    told = {}
    for source in asked.sources:
        lists = source.retrieve(asked.requests, DEPTH, asked.allowed)
        there = lists.scores_BN[0][lists.rows_BN[0] >= 0]
        score = (
            float(source.score(asked.requests, rows_11)[0, 0])
            if isinstance(source, Scorer)
            else 0.0
        )
        told[source.source] = {
            "score": score,
            "needed": float(there.min()) if len(there) == DEPTH else 0.0,
        }
    listed = "; ".join(
        f"{name} {each['score']:.3g} of {each['needed']:.3g} needed" for name, each in told.items()
    )
    return Lost("retrieval", f"no source brought it among the candidates ({listed})", told)


def _not_found(
    shop: Recommender, again: _Replayed, row: int, read: tuple[ParsedQuery, Floats] | None
) -> Lost:
    """Of a search: how many of the words it has, and how near it is."""
    assert read is not None
    assert again.hits is not None
    searcher, text, vector_D = shop.searcher, read[0].understanding.normalised, read[1]
    covered = float(searcher.lexical.index.coverage(text, searcher.lexical.synonyms)[row])
    dense_I = searcher.item_vectors_ID @ vector_D
    nearer = int((dense_I > dense_I[row]).sum())
    choices = searcher.choices
    details = {
        "words": covered,
        "words_needed": choices.min_term_coverage,
        "nearer": nearer,
        "near": choices.dense_k,
    }
    if covered >= choices.min_term_coverage:
        return Lost(
            "depth",
            f"more than {choices.max_candidates:,} items have the words: {covered:.0%} of them were not enough",
        )
    reason = (
        f"it has {covered:.0%} of the query's words by weight ({choices.min_term_coverage:.0%} needed), and {nearer:,} items are "
        f"nearer in meaning (the {choices.dense_k} nearest are found)"
    )
    return Lost("retrieval", reason, details)


def _below(shop: Recommender, query: Query, again: _Replayed, place: int) -> Lost:
    """A candidate that others were put before: by which features, against the last that was
    shown."""
    order = again.looked.order_N.tolist()
    rank = order.index(place)
    last = order[min(query.offset + query.k, len(order)) - 1]
    if query.offset and rank < query.offset:
        return Lost("page", f"it is on an earlier page, at place {rank + 1}", {"place": rank + 1})
    rows_N = again.pool.rows_N[again.looked.order_N]
    if query.collapse and again.pool.rows_N[place] not in collapsed(rows_N, shop.release.groups_I):
        return Lost(
            "page", "another item of its group stands for it (collapse)", {"place": rank + 1}
        )
    details: dict[str, Any] = {"place": rank + 1, "shown": query.offset + query.k}
    reason = (
        f"it came to place {rank + 1} of {len(order):,}, and {query.offset + query.k} were shown"
    )
    if place >= shop.reranker.depth and again.looked.ranker != FIRST:
        return Lost(
            "depth",
            f"{reason}: the first stage put it behind the {shop.reranker.depth} that are ranked",
            details,
        )
    mine, theirs = (_contributions(shop, again, at) for at in (place, last))
    gaps = {name: theirs.get(name, 0.0) - mine.get(name, 0.0) for name in mine | theirs}
    behind = dict(sorted(gaps.items(), key=lambda gap: -gap[1])[:MOST])
    behind = {name: gap for name, gap in behind.items() if gap > 0}
    words = ", ".join(f"{name} ({gap:.3g})" for name, gap in behind.items())
    details |= {"behind": behind, "score": float(again.looked.scores_N[place])}
    details["score_of_last"] = float(again.looked.scores_N[last])
    return Lost(
        "ranking", f"{reason}: behind the last of them by {words}" if words else reason, details
    )


def _contributions(shop: Recommender, again: _Replayed, place: int) -> dict[str, float]:
    """What each feature gives a candidate, as asked again."""
    nobody = Impression(
        request_id="",
        time=datetime.min,
        release=shop.release.version,
        surface="",
        item_ids=(),
        arms=again.looked.arms,
    )
    told = _scored(shop, nobody, again, "", place)
    return {part.feature: part.contribution for part in told.get("parts", ())}
