"""Explanations: why an item stands where it stands in a logged answer, or why it is not in it.

The request is replayed on the release that answered it, as of its own time: the same sources,
scores and random draws. Features, scores and propensities are those of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.errors import InputError, NotFoundError
from recsys.pipeline.attribution import (
    Attribution,
    Contribution,
    ScoredRow,
    attribute,
    logged_row,
    replayed_row,
)
from recsys.pipeline.exclusion import Exclusion, find_exclusion
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.replay import Replay, replay
from recsys.pipeline.rerank import FIRST
from recsys.pipeline.searcher import EncodedText
from recsys.types import Impression, Interaction


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """`base` and the contributions of `parts` add up to `score`, to rounding; both are missing for
    an item that no ranker scored. `sources` are the scores of the sources that retrieved the item,
    `terms` what each word of the query added to the lexical score. `moved` says why it does not
    stand where its score puts it, `propensity` how probable that was. `note` says where the parts
    are not of the ranker version that made the score. `exclusion` says why it was not shown."""

    request_id: str
    item_id: str
    title: str
    release: str
    surface: str
    ranker: str
    place: int | None = None
    score: float | None = None
    base: float = 0.0
    parts: tuple[Contribution, ...] = ()
    sources: Mapping[str, float] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    moved: str = ""
    propensity: float = 1.0
    exclusion: Exclusion | None = None
    note: str = ""

    @property
    def in_answer(self) -> bool:
        """Whether the answer has the item."""
        return self.exclusion is None

    @property
    def summary(self) -> str:
        """All of it in a sentence or two."""
        if self.exclusion:
            return f"Not shown: {self.exclusion.reason}."
        sources = ", ".join(self.sources) or "no source"
        score = f"{self.score or 0:.3g} of {self.ranker}"
        clauses = [f"Place {self.place} with {score}, retrieved by {sources}"]
        if self.parts:
            largest = (f"{part.feature} ({part.contribution:+.3g})" for part in self.parts[:3])
            clauses.append(f"most of it from {', '.join(largest)}")
        return "; ".join([*clauses, *(each for each in (self.moved, self.note) if each)]) + "."


def explain(
    shop: Recommender,
    impression: Impression,
    item_id: str,
    live: Sequence[Interaction] = (),
    encoded: EncodedText | None = None,
) -> Explanation:
    """`shop` answers from the impression's release; `live` are the user's events between the night
    and the request; `encoded` is the text of a search or of a declared interest.

    Raises NotFoundError for an item that the release does not have, InputError for an answer that
    was not ranked here (a client's own list, similar items) or comes from another release."""
    row = _checked_row(shop, impression, item_id)
    replayed = replay(shop, impression, live, encoded)
    place = next(iter(np.flatnonzero(replayed.pool.rows_N == row).tolist()), None)
    position = impression.item_ids.index(item_id) if item_id in impression.item_ids else None
    scored = _scored_row(replayed, item_id, position, place)
    attribution = Attribution()
    if scored is not None:
        attribution = attribute(shop, replayed, scored, impression.arms)
    return Explanation(
        request_id=impression.request_id,
        item_id=item_id,
        title=shop.release.item(row).title,
        release=impression.release,
        surface=impression.surface,
        ranker=impression.ranker or FIRST,
        place=None if position is None else impression.offset + position + 1,
        score=None if scored is None else scored.score,
        base=attribution.base,
        parts=attribution.parts,
        sources={} if place is None else _source_signals(replayed, place),
        terms=_term_scores(shop, encoded, row),
        moved="" if position is None else _moved(replayed, position, place),
        propensity=_propensity(impression, position),
        exclusion=None if position is not None else find_exclusion(shop, replayed, row),
        note=attribution.note,
    )


def _checked_row(shop: Recommender, impression: Impression, item_id: str) -> int:
    """The item's row in the release that answered."""
    row = shop.release.item_ids.row(item_id)
    if impression.release != shop.release.version:
        raise InputError(
            f"request {impression.request_id} was answered from release {impression.release}: "
            "open that"
        )
    if impression.surface not in ("search", "recommend"):
        raise InputError(
            f"request {impression.request_id} is of surface {impression.surface}: nothing was "
            "ranked there"
        )
    if row is None:
        raise NotFoundError(
            f"item {item_id!r} is not in release {shop.release.version}: it could not be shown"
        )
    return row


def _scored_row(
    replayed: Replay, item_id: str, position: int | None, place: int | None
) -> ScoredRow | None:
    """The item as it was ranked: by the log where it was shown, else by the replay; None where it
    was not ranked."""
    if position is not None:
        return logged_row(replayed, item_id, place)
    return None if place is None else replayed_row(replayed, place)


def _term_scores(shop: Recommender, encoded: EncodedText | None, row: int) -> Mapping[str, float]:
    """What each word of the query added to the lexical score."""
    if encoded is None:
        return {}
    return shop.searcher.lexical.index.explain(encoded[0].understanding.normalised, row)


def _source_signals(replayed: Replay, place: int) -> dict[str, float]:
    """The scores of the sources that retrieved a candidate."""
    pool = replayed.pool
    columns = zip(
        pool.names, pool.signals_NF[place].tolist(), pool.retrieved_NF[place].tolist(), strict=True
    )
    return {name: score for name, score, retrieved in columns if retrieved}


def _propensity(impression: Impression, position: int | None) -> float:
    if position is None or not impression.propensities:
        return 1.0
    return impression.propensities[position]


def _moved(replayed: Replay, position: int, place: int | None) -> str:
    """Why a shown item does not stand where its score puts it."""
    if place is None:
        return "queried again, no source retrieves it: the user's history or the time has changed"
    score_rank = replayed.reranked.order_N.tolist().index(place) + 1
    place_in_answer = replayed.impression.offset + position + 1
    if score_rank == place_in_answer:
        return ""
    propensity = _propensity(replayed.impression, position)
    cause = f"chance (a propensity of {propensity:.3g})" if propensity < 0.5 else "a rule or chance"
    return f"its score puts it at place {score_rank}, {cause} at place {place_in_answer}"
