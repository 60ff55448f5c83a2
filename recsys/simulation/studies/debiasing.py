"""Does learning from clicks weighted by inverse examination rank better than learning from raw
clicks?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys.evaluation.results import Criterion
from recsys.intervals import clustered_mean
from recsys.market.click_models import ClickModel
from recsys.market.market import Market
from recsys.ranking.examination import Examination, intervention_harvesting
from recsys.ranking.logged_rankings import split_by_user
from recsys.simulation.synthetic_logs import SWAPS, CandidateSets, sales_scores, simulate_log


def debiasing_gain(
    market: Market,
    model: ClickModel,
    folder: Path,
    *,
    count: int = 8000,
    logs: int = 5,
    seed: int = 0,
) -> Criterion:
    """The true nDCG@10, on new requests, of trees trained with the examination curve that the log
    itself gives, over that of the same trees trained on raw clicks; less 1.

    The mean over `logs` of a shop that ranks by sales and the trees trained on each, with Student's
    interval."""
    gains = [
        _gain(market, model, folder / f"{number}", count, seed + number) for number in range(logs)
    ]
    average = clustered_mean(np.array(gains))
    return Criterion(
        name="true nDCG, debiased over raw",
        floor=0.0,
        goal=0.05,
        value=average.value,
        interval=average.interval,
        by_interval=True,
    )


def _gain(market: Market, model: ClickModel, folder: Path, count: int, seed: int) -> float:
    from recsys.ranking.trees import TreeRanker
    from recsys.training.lambdamart import TreeRecipe, train_trees

    candidates = CandidateSets.draw(market, count, seed)
    test = CandidateSets.draw(market, count // 2, seed + 1_000_000)
    scores_BN = sales_scores(candidates)
    lists = simulate_log(candidates, scores_BN, policy=SWAPS, model=model, seed=seed)
    train, valid = split_by_user(lists)

    def ndcg(name: str, examination: Examination | None) -> float:
        train_trees(
            train, valid, examination, folder / name, recipe=TreeRecipe(seed=seed, threads=1)
        )
        return float(test.true_ndcg(TreeRanker(folder / name).score(test.features_BNF)).mean())

    return ndcg("debiased", intervention_harvesting(lists, draws=20)) / ndcg("raw", None) - 1
