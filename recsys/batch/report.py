"""Fills the release report: counts and plots from the release, a dozen real answers from the funnel
itself."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np

from recsys.batch.plan import NightRun
from recsys.batch.stages import StageLine
from recsys.models.composition import build_recommender
from recsys.pipeline.candidates import unpacked
from recsys.pipeline.recommender import Recommender
from recsys.release.checks import Check
from recsys.release.release import Release
from recsys.release.report import Answer, Example, ReportData, render
from recsys.release.report import Stage as ReportStage
from recsys.types import Query, Ranking

EXAMPLES = 6


def write_report(
    night: NightRun, release: Release, lines: Sequence[StageLine], found: Sequence[Check]
) -> None:
    """`report.html` beside the release. Loads the encoder: the examples are answered as they will
    be by day."""
    manifest = release.manifest
    recommender = build_recommender(night.setup, release)
    features_UNF = release.candidate_features_UNF
    brought_UNF = unpacked(np.asarray(release.candidate_sources_UN), len(manifest.sources))
    by_source = {
        name: np.asarray(features_UNF[:, :, at])[brought_UNF[:, :, at]]
        for at, name in enumerate(manifest.sources)
    }
    metrics = manifest.metrics
    floors = (
        [
            {"name": "nightshelf", "recall@10": metrics["recall@10"]},
            {"name": "popularity", "recall@10": metrics["popularity/recall@10"]},
        ]
        if metrics
        else []
    )
    data = ReportData(
        version=manifest.version,
        previous=manifest.previous,
        setup=manifest.setup,
        space=manifest.space,
        commit=manifest.commit,
        counts=manifest.counts,
        quarantined=manifest.quarantined,
        stages=[
            ReportStage(
                line.name, line.rows, line.seconds, len(line.workers), line.reused == line.shards
            )
            for line in lines
        ],
        quality=floors,
        checks=found,
        prices=release.prices_I,
        events_per_user=np.concatenate(
            [np.diff(chunk.offsets) for chunk in release.users["items"].chunks] or [[]]
        ),
        item_events=np.asarray(release.popularity_I),
        list_scores={name: values for name, values in by_source.items() if values.size},
        source_share={name: float(values.size) for name, values in by_source.items()},
        searches=_searches(night, recommender),
        recommendations=_recommendations(recommender),
    )
    night.store.write(night.release_path("report.html"), render(data).encode())


def _searches(night: NightRun, recommender: Recommender) -> list[Example]:
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
    asked = [recommender.understand(text) for text in texts]
    vectors_QD = encoder.encode_queries([each.understanding.normalised for each in asked])
    return [
        Example(
            [text],
            _answers(
                recommender.search(
                    Query(request_id=uuid.uuid4().hex, k=5, text=text), vector_D, understood
                )
            ),
        )
        for text, vector_D, understood in zip(texts, vectors_QD, asked, strict=True)
    ]


def _recommendations(recommender: Recommender) -> list[Example]:
    release = recommender.release
    users = len(release.user_ids)
    examples = []
    for row in range(0, users, max(1, users // EXAMPLES))[:EXAMPLES]:
        latest = dict.fromkeys(int(item) for item in release.history(row).items[::-1])
        asked = [release.item(item).title for item in list(latest)[:5]]
        query = Query(request_id=uuid.uuid4().hex, k=5, user_id=release.user_ids[row])
        examples.append(Example(asked, _answers(recommender.recommend(query))))
    return examples


def _answers(ranking: Ranking) -> list[Answer]:
    return [
        Answer(found.item.title, found.item.brand, found.item.price, tuple(found.sources))
        for found in ranking.items
    ]
