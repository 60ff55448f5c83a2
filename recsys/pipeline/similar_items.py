"""What is similar to one item, and what goes with it, as answers."""

from __future__ import annotations

import numpy as np

from recsys.arrays import Requests
from recsys.errors import NotFoundError
from recsys.pipeline.searcher import HybridSearcher
from recsys.release.release import Release
from recsys.types import FeatureTable, Floats, Query, Ranking, Rows, ScoredItem


def similar_items(
    release: Release, searcher: HybridSearcher, query: Query, item_id: str
) -> Ranking:
    """The k most similar that pass the filters. Raises NotFoundError for an unknown item."""
    row = _row_of(release, item_id)
    rows_S, scores_S = _neighbours(release, searcher, row, query.k)
    return _answer(release, query, rows_S, scores_S, source="similar")


def complementary_items(release: Release, query: Query, item_id: str) -> Ranking:
    """The k most often bought in one basket with the item that pass the filters, of other products
    and, where it has a category, of other ones than its own: what is of the same is a substitute.
    None of an item that came by day. Raises NotFoundError for an unknown item."""
    row = _row_of(release, item_id)
    [then] = release.rows_then(np.array([row], np.int32)).tolist()
    rows_S, scores_S = np.empty(0, np.int32), np.empty(0, np.float32)
    if then >= 0:
        rows_S = release.rows_now(release.co_occurrence[0][then])
        scores_S = np.asarray(release.co_occurrence[1][then])
        categories_I, products_I = release.item_features.categories_I, release.products_I
        complements_S = (rows_S >= 0) & (products_I[rows_S] != products_I[row])
        if categories_I[row] >= 0:
            complements_S &= categories_I[rows_S] != categories_I[row]
        rows_S, scores_S = rows_S[complements_S], scores_S[complements_S]
    return _answer(release, query, rows_S, scores_S, source="complements")


def _row_of(release: Release, item_id: str) -> int:
    if (row := release.item_ids.row(item_id)) is None:
        raise NotFoundError(
            f"item {item_id!r} is not in release {release.version}: take an id from /search"
        )
    return row


def _answer(
    release: Release, query: Query, rows_S: Rows, scores_S: Floats, *, source: str
) -> Ranking:
    """The first k that pass the filters; a row of -1 is none."""
    allowed = release.filter_mask(query.filters)
    passing_S = rows_S >= 0
    if allowed is not None:
        passing_S &= allowed[rows_S]
    rows_K, scores_K = rows_S[passing_S][: query.k], scores_S[passing_S][: query.k]
    items = tuple(
        ScoredItem(item=release.item(at), score=score, sources={source: score})
        for at, score in zip(rows_K.tolist(), scores_K.tolist(), strict=True)
    )
    features = FeatureTable((source,), np.asarray(scores_K, np.float32)[:, None])
    return Ranking(
        request_id=query.request_id,
        release=release.version,
        items=items,
        features=features if items else FeatureTable(),
    )


def _neighbours(
    release: Release, searcher: HybridSearcher, row: int, k: int
) -> tuple[Rows, Floats]:
    """The night's list of the item, in the rows of now; of one that came by day its nearest."""
    if (then := int(release.rows_then(np.array([row], np.int32))[0])) >= 0:
        return release.rows_now(release.similar_rows_IS[then]), release.similar_scores_IS[then]
    requests = Requests(size=1, vectors_BD=release.item_vectors_ID[[row]])
    nearest = searcher.dense.retrieve(requests, 2 * k + 1, searcher.visible_I)
    is_other = nearest.rows_BN[0] != row
    return nearest.rows_BN[0][is_other], nearest.scores_BN[0][is_other]
