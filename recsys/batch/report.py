"""Fills the release report: counts and plots from the release, a dozen answers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.batch.plan import NightRun
from recsys.batch.stages import StageLine
from recsys.models.composition import build_recommender
from recsys.pipeline.candidates import unpack_source_bits
from recsys.pipeline.recommender import Recommender
from recsys.release.checks import Check
from recsys.release.price_moves import price_moves
from recsys.release.release import Release
from recsys.release.report import ExampleAnswer, ExampleItem, ReportData, StageRow, render
from recsys.types import Query, Ranking

EXAMPLES = 6


def write_report(
    night: NightRun,
    release: Release,
    previous: Release | None,
    lines: Sequence[StageLine],
    checks: Sequence[Check],
) -> None:
    """`report.html` beside the release. Loads the encoder: the examples are answered as they will
    be by day."""
    manifest = release.manifest
    recommender = build_recommender(night.setup, release)
    scores = _scores_by_source(release)
    data = ReportData(
        version=manifest.version,
        previous=manifest.previous,
        setup=manifest.setup,
        space=manifest.space,
        commit=manifest.commit,
        counts=manifest.counts,
        quarantined=manifest.quarantined,
        intake=manifest.intake,
        price_moves=price_moves(release.items, previous.items) if previous else (),
        stages=[_stage_row(line) for line in lines],
        quality=_quality(manifest.metrics),
        checks=checks,
        prices=release.prices_I,
        events_per_user=np.concatenate(
            [np.diff(chunk.offsets) for chunk in release.users["items"].chunks] or [[]]
        ),
        item_events=np.asarray(release.popularity_I),
        list_scores={name: values for name, values in scores.items() if values.size},
        source_share={name: float(values.size) for name, values in scores.items()},
        searches=_searches(night, recommender),
        recommendations=_recommendations(recommender),
    )
    night.store.write(night.release_path("report.html"), render(data).encode())


def _scores_by_source(release: Release) -> dict[str, np.ndarray]:
    """The scores that each source gave the candidates it brought."""
    sources, features_UNF = release.manifest.sources, release.candidate_features_UNF
    brought_UNF = unpack_source_bits(np.asarray(release.candidate_sources_UN), len(sources))
    return {
        name: np.asarray(features_UNF[:, :, column])[brought_UNF[:, :, column]]
        for column, name in enumerate(sources)
    }


def _stage_row(line: StageLine) -> StageRow:
    return StageRow(
        name=line.name,
        rows=line.rows,
        seconds=line.seconds,
        workers=len(line.workers),
        skipped=line.reused == line.shards,
    )


def _quality(metrics: dict[str, float]) -> list[dict[str, Any]]:
    """Our row and that of popularity, where a day was held out."""
    names = {"nightshelf": "recall@10", "popularity": "popularity/recall@10"}
    rows = [{"name": name, "recall@10": metrics.get(key)} for name, key in names.items()]
    return rows if metrics else []


def _searches(night: NightRun, recommender: Recommender) -> list[ExampleAnswer]:
    """Queries a shopper could type: the product words of items that sell, spread over the
    catalogue's best."""
    release, encoder = recommender.release, night.setup.encoder()
    sold = np.argsort(-np.asarray(release.popularity_I), kind="stable")[: 40 * EXAMPLES : 40]
    titles = [title for row in sold if (title := release.item(int(row)).title)]
    texts = list(
        dict.fromkeys(" ".join(title.split(",")[0].split()[:4]).lower() for title in titles)
    )[:EXAMPLES]
    if not texts:
        return []
    queries = [recommender.understand(text) for text in texts]
    vectors_QD = encoder.encode_queries([each.understanding.normalised for each in queries])
    return [
        ExampleAnswer(
            [text],
            _answers(
                recommender.search(
                    Query(request_id=uuid.uuid4().hex, k=5, text=text), vector_D, understood
                )
            ),
        )
        for text, vector_D, understood in zip(texts, vectors_QD, queries, strict=True)
    ]


def _recommendations(recommender: Recommender) -> list[ExampleAnswer]:
    release = recommender.release
    users = len(release.user_ids)
    examples = []
    for row in range(0, users, max(1, users // EXAMPLES))[:EXAMPLES]:
        latest = dict.fromkeys(int(item) for item in release.history(row).items[::-1])
        titles = [release.item(item).title for item in list(latest)[:5]]
        query = Query(request_id=uuid.uuid4().hex, k=5, user_id=release.user_ids[row])
        examples.append(ExampleAnswer(titles, _answers(recommender.recommend(query))))
    return examples


def _answers(ranking: Ranking) -> list[ExampleItem]:
    return [
        ExampleItem(scored.item.title, scored.item.brand, scored.item.price, tuple(scored.sources))
        for scored in ranking.items
    ]
