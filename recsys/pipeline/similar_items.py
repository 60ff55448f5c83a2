"""What is similar to one item, and what goes with it, as answers."""

from __future__ import annotations

import numpy as np

from recsys.arrays import Requests
from recsys.errors import NotFoundError
from recsys.pipeline.searcher import HybridSearcher
from recsys.release.release import Release
from recsys.types import FeatureTable, Floats, Query, Ranking, Rows, ScoredItem

#: Of so many nearest items an item that came by day borrows what goes with them.
NEAREST = 5


def similar_items(
    release: Release, searcher: HybridSearcher, query: Query, item_id: str
) -> Ranking:
    """The k most similar that pass the filters. Raises NotFoundError for an unknown item."""
    row = _row_of(release, item_id)
    rows_S, scores_S = _neighbours(release, searcher, row, query.k)
    return _answer(release, query, rows_S, scores_S, source="similar")


def complementary_items(
    release: Release, searcher: HybridSearcher, query: Query, item_id: str
) -> Ranking:
    """The k that go best with the item and pass the filters, of other products. By the learned
    compatibility, of one that came by day by what goes with its nearest; where the release has no
    such lists, what is most often bought with it, and of another category, where it has one: what
    is of the same is a substitute. Raises NotFoundError for an unknown item."""
    row = _row_of(release, item_id)
    [then] = release.rows_then(np.array([row], np.int32)).tolist()
    if release.complements is None:
        rows_S, scores_S = _bought_together(release, row, then)
    elif then >= 0:
        rows_S = release.rows_now(release.complements[0][then])
        scores_S = np.asarray(release.complements[1][then])
    else:
        rows_S, scores_S = _complements_of_nearest(release, searcher, row)
    others_S = (rows_S >= 0) & (release.products_I[rows_S] != release.products_I[row])
    return _answer(release, query, rows_S[others_S], scores_S[others_S], source="complements")


def _bought_together(release: Release, row: int, then: int) -> tuple[Rows, Floats]:
    """Nothing of an item that came by day."""
    if then < 0:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    rows_S = release.rows_now(release.co_occurrence[0][then])
    scores_S = np.asarray(release.co_occurrence[1][then])
    categories_I = release.item_features.categories_I
    if categories_I[row] < 0:
        return rows_S, scores_S
    complements_S = categories_I[rows_S] != categories_I[row]
    return rows_S[complements_S], scores_S[complements_S]


def _complements_of_nearest(
    release: Release, searcher: HybridSearcher, row: int
) -> tuple[Rows, Floats]:
    """The lists of the NEAREST items that the night knew, summed by how near they are."""
    assert release.complements
    near_N, weights_N = _neighbours(release, searcher, row, NEAREST)
    then_N = release.rows_then(near_N)
    listed_N = (then_N >= 0) & (near_N >= 0)
    rows_NS = release.rows_now(release.complements[0][then_N[listed_N][:NEAREST]])
    margins_NS = release.complements[1][then_N[listed_N][:NEAREST]]
    scores_NS = weights_N[listed_N][:NEAREST, None] * margins_NS
    rows_M, owners = np.unique(rows_NS[rows_NS >= 0], return_inverse=True)
    scores_M = np.bincount(owners, scores_NS[rows_NS >= 0], minlength=len(rows_M))
    order = np.lexsort((rows_M, -scores_M))
    return rows_M[order].astype(np.int32), scores_M[order].astype(np.float32)


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
