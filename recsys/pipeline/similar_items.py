"""What is similar to one item, as an answer."""

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
    if (row := release.item_ids.row(item_id)) is None:
        raise NotFoundError(
            f"item {item_id!r} is not in release {release.version}: take an id from /search"
        )
    allowed = release.filter_mask(query.filters)
    rows_S, scores_S = _neighbours(release, searcher, row, query.k)
    passing_S = rows_S >= 0
    if allowed is not None:
        passing_S &= allowed[rows_S]
    rows_K, scores_K = rows_S[passing_S][: query.k], scores_S[passing_S][: query.k]
    items = tuple(
        ScoredItem(item=release.item(at), score=score, sources={"similar": score})
        for at, score in zip(rows_K.tolist(), scores_K.tolist(), strict=True)
    )
    features = FeatureTable(("similar",), np.asarray(scores_K, np.float32)[:, None])
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
