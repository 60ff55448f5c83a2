"""Human relevance judgements as ranked lists with online features: the gate's second test set."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from recsys.config import Setup
from recsys.errors import InputError
from recsys.events.joins import label_examples
from recsys.models.composition import build_recommender, serving_setup
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.rerank import TABLE
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import FeatureTable, Floats, Impression, Query

#: Judged queries that the gate evaluates at most.
MAX_QUERIES = 500


def judged_lists_of_setup(setup: Setup, path: Path) -> LoggedRankings:
    """`judged_lists` by the recommender that the setup serves now."""
    setup = serving_setup(setup)
    recommender = build_recommender(setup, Release.open(ArtifactStore(setup.home)))
    encoder = setup.encoder()
    return judged_lists(recommender, lambda text: encoder.encode_queries([text])[0], path)


def judged_lists(
    recommender: Recommender, encode: Callable[[str], Floats], path: Path
) -> LoggedRankings:
    """The judged items that search retrieves for each judged query, with the features it ranks by
    and grades as gains.

    `path` is a Parquet file with query, item_id and relevance (1 wrong .. 3 exactly right);
    `encode` gives a text's vector. At most MAX_QUERIES queries. Raises InputError where no query
    retrieves two judged items."""
    judgements = _read_judgements(recommender.release, path)
    impressions, gains = [], []
    for number, (text, grades) in enumerate(list(judgements.items())[:MAX_QUERIES]):
        parsed = recommender.understand(text)
        vector_D = encode(parsed.understanding.normalised)
        query = Query(request_id="judged", text=text)
        results = recommender.search_page.results(query, vector_D, parsed)
        positions = np.flatnonzero(np.isin(results.pool.rows_N, list(grades)))
        # In order of rows, which says nothing of relevance.
        positions = positions[np.argsort(results.pool.rows_N[positions])]
        if len(positions) > 1:
            rows = results.pool.rows_N[positions].tolist()
            pool = results.pool.at(positions)
            features_NF = recommender.reranker.feature_table(pool, results.context)
            impressions.append(_impression(recommender.release, number, text, rows, features_NF))
            gains.append([grades[row] for row in rows])
    if not impressions:
        raise InputError(
            f"{path} judges no two items that one of its {len(judgements):,} queries finds: "
            "give others"
        )
    lists = LoggedRankings.of(label_examples(impressions, ()), TABLE)
    for at, gains_K in enumerate(gains):
        lists.gains_BK[at, : len(gains_K)] = gains_K
    return lists


def _read_judgements(release: Release, path: Path) -> dict[str, dict[int, float]]:
    """Grades by query, of items that the release holds."""
    table = pq.read_table(path, columns=["query", "item_id", "relevance"])
    judgements: dict[str, dict[int, float]] = {}
    rows = release.item_ids.rows(table["item_id"])
    for text, row, grade in zip(
        table["query"].to_pylist(), rows.tolist(), table["relevance"].to_pylist(), strict=True
    ):
        if row >= 0:
            judgements.setdefault(text, {})[row] = (grade - 1) / 2
    return judgements


def _impression(
    release: Release, number: int, text: str, rows: list[int], features_NF: Floats
) -> Impression:
    """The query stands for the user, so that a bootstrap resamples whole queries."""
    return Impression(
        request_id=f"judged {number}",
        time=datetime.now(UTC),
        release=release.version,
        surface="search",
        item_ids=tuple(release.item_ids[row] for row in rows),
        features=FeatureTable(TABLE, features_NF),
        user_id=text,
        query=text,
    )
