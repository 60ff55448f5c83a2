"""How soon does a network that learns online follow a preference shift?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys.evaluation.results import Criterion
from recsys.events.joins import label_examples
from recsys.market.click_models import ClickModel
from recsys.market.market import Market
from recsys.ranking.examination import intervention_harvesting
from recsys.ranking.logged_rankings import split_by_user
from recsys.simulation.synthetic_logs import (
    SWAPS,
    CandidateSets,
    sales_scores,
    simulate_log,
    to_events,
)
from recsys.simulation.truth_metrics import Values, adaptation
from recsys.types import Ints

if TYPE_CHECKING:
    from recsys.training.last_layer import OnlineLearner


def online_adaptation(
    market: Market,
    model: ClickModel,
    folder: Path,
    *,
    count: int = 1000,
    chunk: int = 50,
    seed: int = 0,
) -> Criterion:
    """Events until the preference shift at noon is followed (`truth_metrics.adaptation`).

    The network is trained on a log of a shop that ranks by sales; after the shift it serves `chunk`
    requests, learns from them, serves the next ones."""
    learner = _trained_learner(market, model, folder, 6 * count, seed)
    morning, afternoon = (
        CandidateSets.draw(market, count, seed + 1_000_000 + number) for number in (0, 1)
    )
    scores_BN, shifted = learner.score(morning.features_BNF), market.with_price_effect_reversed()
    steps = [
        _serve_and_learn(
            learner, afternoon.take(slice(start, start + chunk), shifted), model, seed + start
        )
        for start in range(0, count, chunk)
    ]
    after_B, events_B = map(np.concatenate, zip(*steps, strict=True))
    shifted_B = morning.take(slice(None), shifted).true_ndcg(scores_BN)
    criterion = adaptation(morning.true_ndcg(scores_BN), shifted_B, after_B, events_B, chunk)
    return replace(criterion, name="events until a flip is followed, drawn log")


def _trained_learner(
    market: Market, model: ClickModel, folder: Path, count: int, seed: int
) -> OnlineLearner:
    from recsys.training.influence import OnlineConfig
    from recsys.training.last_layer import OnlineLearner
    from recsys.training.ranker_net import NetRecipe, train_net

    past = CandidateSets.draw(market, count, seed)
    lists = simulate_log(past, sales_scores(past), policy=SWAPS, model=model, seed=seed)
    examination = intervention_harvesting(lists, draws=20)
    train_net(*split_by_user(lists), examination, folder, recipe=NetRecipe(seed=seed))
    return OnlineLearner(folder, OnlineConfig(), examination)


def _serve_and_learn(
    learner: OnlineLearner, candidates: CandidateSets, model: ClickModel, seed: int
) -> tuple[Values, Ints]:
    """The true nDCG of each list, and its clicks, from which the learner then learned."""
    scores_BN = learner.score(candidates.features_BNF)
    lists = simulate_log(candidates, scores_BN, policy=SWAPS, model=model, seed=seed)
    impressions, interactions = to_events(lists)
    learner.learn(label_examples(impressions, [interactions]))
    return candidates.true_ndcg(scores_BN), lists.clicked_BK.sum(axis=1)
