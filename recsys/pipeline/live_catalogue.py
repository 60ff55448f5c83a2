"""The catalogue as the shop changes it: states of the log onto a release, as a recommender.

Each change makes a new snapshot beside the one that answers; what did not change they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recsys.catalogue.changes import ItemState
from recsys.catalogue.segment import CatalogueSegment, EncodeItems, needs_row
from recsys.catalogue.snapshot import CatalogueSnapshot
from recsys.catalogue.values import VALUES
from recsys.interfaces import Ranker
from recsys.pipeline.live_sources import live_sources, stacked_retriever
from recsys.pipeline.recommender import Recommender
from recsys.retrieval.text.bm25 import LexicalRetriever
from recsys.retrieval.text.segments import SegmentedIndex
from recsys.types import Floats

#: What a searcher computes once of all items.
_STATISTICS = ("mean_D", "relevance_model")


@dataclass(kw_only=True)
class LiveCatalogue:
    """One release and what was changed since its night. Used by one thread; what it gives is safe
    for all.

    `base` answers from the release alone. `encode` makes vectors of item texts in its space; of
    each text once."""

    base: Recommender
    encode: EncodeItems
    decimal: str | None = None
    states: dict[str, ItemState] = field(default_factory=dict)
    _vectors: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.snapshot = CatalogueSnapshot.of(self.base.release)
        self.recommender = recommender_on(self.base, self.snapshot)

    @property
    def number(self) -> int:
        """Of the last change that is applied."""
        return self.snapshot.number

    def advance(self, newest: Iterable[ItemState], number: int) -> Recommender:
        """After these states, the newest of each item, up to a number of the log."""
        release, values = self.base.release, list[ItemState]()
        segment_changes = False
        for state in newest:
            if state.number <= release.manifest.changes:
                continue
            needs = needs_row(state, release, self.decimal)
            before = self.states.get(state.item_id)
            if needs:
                segment_changes |= not before or _indexed_anew(before, state)
                self.states[state.item_id] = state
            elif before:
                segment_changes = True
                del self.states[state.item_id]
            values.append(state)
        if segment_changes:
            segment = CatalogueSegment.of(
                release,
                list(self.states.values()),
                self._encode,
                self.base.user_model,
                self.decimal,
            )
            self.snapshot = self.snapshot.with_segment(segment, number)
        self.snapshot = self.snapshot.with_states(values, number)
        self.recommender = recommender_on(self.recommender, self.snapshot, self.base)
        return self.recommender

    def serve_with(self, rankers: Mapping[str, Ranker], labels: Mapping[str, str]) -> Recommender:
        """The same answers, re-ranked by these rankers from now on."""
        reranker = replace(self.recommender.reranker, rankers=rankers, labels=labels)
        self.recommender = replace(self.recommender, reranker=reranker)
        return self.recommender

    def _encode(self, texts: Sequence[str]) -> Floats:
        """Of texts that were not encoded before; those that no item has any more are forgotten."""
        new = list(dict.fromkeys(text for text in texts if text not in self._vectors))
        vectors = {text: self._vectors[text] for text in texts if text in self._vectors}
        if new:
            vectors |= dict(zip(new, self.encode(new), strict=True))
        self._vectors = vectors
        return np.stack([vectors[text] for text in texts])


def recommender_on(
    current: Recommender, snapshot: CatalogueSnapshot, base: Recommender | None = None
) -> Recommender:
    """The recommender over another snapshot of its release. `base` is that of the release alone,
    by default `current`."""
    base = base or current
    before = current.release
    same_segment = same_rows = False
    if isinstance(before, CatalogueSnapshot):
        same_segment = before.segment is snapshot.segment
        same_rows = same_segment and np.array_equal(before.live_rows_I, snapshot.live_rows_I)
    words = snapshot.lexical.new_terms if isinstance(snapshot.lexical, SegmentedIndex) else ()
    searcher = current.searcher
    if not same_segment:
        dense = base.searcher.dense
        if len(snapshot.segment):
            dense = stacked_retriever(dense, snapshot, snapshot.segment.item_vectors_SD)
        searcher = replace(
            base.searcher,
            lexical=LexicalRetriever(snapshot.lexical, base.searcher.lexical.synonyms),
            dense=dense,
            item_vectors_ID=snapshot.item_vectors_ID,
            user_space_item_vectors_ID=snapshot.user_space_item_vectors_ID,
            text_of=snapshot.texts,
            popularity_I=snapshot.popularity_I,
        )
    sources = current.recommend_sources
    if not same_rows:
        sources = live_sources(base.recommend_sources, snapshot)
    night = searcher.__dict__ if same_segment else _statistics(base, snapshot)
    searcher = replace(searcher, visible_I=snapshot.visible_I)
    searcher.__dict__.update({name: night[name] for name in _STATISTICS})
    return replace(
        current,
        release=snapshot,
        searcher=searcher,
        parser=base.parser.over(snapshot.codes, snapshot.item_ids.__getitem__, words),
        recommend_sources=sources,
        reranker=replace(current.reranker, item_features=snapshot.item_features),
    )


def _statistics(base: Recommender, snapshot: CatalogueSnapshot) -> dict[str, Any]:
    """What a searcher computes of all items once: of those of the release it is the night's."""
    model = base.searcher.relevance_model
    if model is not None and len(snapshot.segment):
        model = model.followed_by(snapshot.segment.item_vectors_SD)
    return {"mean_D": base.searcher.mean_D, "relevance_model": model}


def _indexed_anew(before: ItemState, after: ItemState) -> bool:
    """Whether more than the values of an item in the segment changed."""
    changed = after.changed_since(before.number).keys() - set(VALUES)
    own = before.values()
    return before.deleted or any(own.get(name) != after.values()[name] for name in changed)
