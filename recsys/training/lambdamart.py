"""The tree ranker: LambdaMART (Burges 2010) over clicks weighed by inverse propensity, on LightGBM.

Legend: B requests, K places, F features, N shown items, C clicks, P pairs of one request's
items."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.metrics import mean
from recsys.ranking import trees
from recsys.ranking.logged_rankings import CLIP, LoggedRankings, PositionBias, ips_ndcg, is_vector
from recsys.training.loop import Say
from recsys.training.ranker_net import clicked_lists
from recsys.training.schedule import FitResult


@dataclass(frozen=True, kw_only=True)
class TreeRecipe:
    """How the trees are grown. `clip` bounds a click's weight, see `LoggedRankings.ips_weights`;
    `patience` rounds without a better validation end it."""

    rounds: int = 300
    patience: int = 30
    learning_rate: float = 0.1
    leaves: int = 15
    smallest_leaf: int = 50
    clip: float = CLIP
    seed: int = 0
    # One: two on a busy machine of two cores took ten times as long, threads of OpenMP waiting for
    # each other.
    threads: int = 1


def train_trees(
    train: LoggedRankings,
    valid: LoggedRankings,
    examination: PositionBias | None,
    folder: Path,
    *,
    recipe: TreeRecipe = TreeRecipe(),
    say: Say = lambda _: None,
) -> FitResult:
    """Grows LambdaMART trees and saves them to `folder` for `TreeRanker`; the validation is the
    mean of `ips_ndcg`.

    The trees see no vectors: one number of them says nothing. Raises InputError as `train_net`.
    """
    started = time.perf_counter()
    names = tuple(name for name in train.names if not is_vector(name))
    train, valid = (
        clicked_lists(lists, part).with_features(names)
        for lists, part in ((train, "train"), (valid, "valid"))
    )

    def validate(scores_BK: NDArray[Any]) -> float:
        return mean(ips_ndcg(scores_BK, valid, examination, clip=recipe.clip))

    def validation(scores_N: NDArray[Any], _: Any) -> tuple[str, float, bool]:
        return "ips_ndcg", validate(_spread(scores_N, valid)), True

    objective = LambdaMartObjective(train, examination, recipe.clip)
    booster, values = _boost(train, valid, objective, validation, recipe)
    trees.save_trees(booster, names, folder)
    start, best = validate(np.zeros_like(valid.gains_BK)), max(values)
    seconds, rounds = time.perf_counter() - started, booster.best_iteration
    say(f"trees {rounds} of {len(values)}  validation {best:.4f}  {seconds:.0f} s")
    return FitResult(best=best, step=rounds, steps=len(values), seconds=seconds, start=start)


def _boost(
    train: LoggedRankings,
    valid: LoggedRankings,
    objective: Any,
    validation: Any,
    recipe: TreeRecipe,
) -> tuple[Any, list[float]]:
    """The booster, and the validation after each round."""
    import lightgbm

    data, history = _dataset(train), dict[str, dict[str, list[float]]]()
    booster = lightgbm.train(
        _parameters(recipe, len(data.data)) | {"objective": objective},
        data,
        recipe.rounds,
        valid_sets=[_dataset(valid, data)],
        feval=validation,
        callbacks=[
            lightgbm.early_stopping(recipe.patience, verbose=False),
            lightgbm.record_evaluation(history),
        ],
    )
    return booster, history["valid_0"]["ips_ndcg"]


def _parameters(recipe: TreeRecipe, examples: int) -> dict[str, Any]:
    """A small log may have small leaves: a twentieth of it."""
    return {
        "learning_rate": recipe.learning_rate,
        "num_leaves": recipe.leaves,
        "min_data_in_leaf": max(1, min(recipe.smallest_leaf, examples // 20)),
        "lambda_l2": 1.0,
        "seed": recipe.seed,
        "num_threads": recipe.threads,
        "deterministic": True,
        "force_row_wise": True,
        "metric": "None",
        "verbose": -1,
    }


class LambdaMartObjective:
    """LambdaMART's objective (Burges 2010) of clicks without position bias, as LightGBM calls it.

    A pair is an item i with more gain than j of its request. It counts |delta nDCG| of exchanging
    the two as they are ranked now, times the weights of both places, times how likely j was seen.
    In the position-based model a pair's mean is then r_i (1 - r_j) times something that is the same
    for both, wherever they stood, with any clip: what is clicked little as nobody looked there
    loses no more than it wins (Joachims et al. 2017; Wang et al., WSDM 2018; Hu et al., WWW 2019,
    who estimate one weight a place for clicks and one for none)."""

    def __init__(
        self, lists: LoggedRankings, examination: PositionBias | None, clip: float
    ) -> None:
        self.lists = lists
        gains_BK = lists.gains_BK
        requests_C, clicked_C = np.nonzero(lists.clicked_BK)
        worse_CK = (
            gains_BK[requests_C] < gains_BK[requests_C, clicked_C, None]
        ) & lists.present_BK[requests_C]
        which_P, worse_P = np.nonzero(worse_CK)
        owner_P, better_P = requests_C[which_P], clicked_C[which_P]
        weights_BK = lists.ips_weights(examination, clip) * lists.examination_posterior_BK(
            examination
        )
        discounts_K = _discounts(gains_BK.shape[1])
        ideal_B = -np.sort(-gains_BK, axis=1) @ discounts_K
        self.weight_P = gains_BK[owner_P, better_P] - gains_BK[owner_P, worse_P]
        self.weight_P *= (
            weights_BK[owner_P, better_P] * weights_BK[owner_P, worse_P] / ideal_B[owner_P]
        )
        row_BK = np.cumsum(lists.present_BK.ravel()).reshape(gains_BK.shape) - 1
        self.better_P, self.worse_P = row_BK[owner_P, better_P], row_BK[owner_P, worse_P]

    def __call__(self, scores_N: NDArray[Any], _: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """[N] slopes and curvatures, of the items of the lists from place to place."""
        order_BK = np.argsort(-_spread(scores_N, self.lists), axis=1, kind="stable")
        discounts_BK = np.empty(order_BK.shape)
        np.put_along_axis(discounts_BK, order_BK, _discounts(order_BK.shape[1])[None], axis=1)
        discounts_N = discounts_BK[self.lists.present_BK]
        moved_P = self.weight_P * np.abs(discounts_N[self.better_P] - discounts_N[self.worse_P])
        wrong_P = 1 / (
            1 + np.exp(np.clip(scores_N[self.better_P] - scores_N[self.worse_P], -50, 50))
        )
        slopes_P, bends_P = moved_P * wrong_P, moved_P * wrong_P * (1 - wrong_P)
        rows = len(scores_N)
        slopes_N = np.bincount(self.worse_P, slopes_P, rows) - np.bincount(
            self.better_P, slopes_P, rows
        )
        return slopes_N, np.bincount(self.worse_P, bends_P, rows) + np.bincount(
            self.better_P, bends_P, rows
        )


def _discounts(places: int) -> NDArray[np.float64]:
    return 1 / np.log2(np.arange(2, 2 + places))


def _spread(values_N: NDArray[Any], lists: LoggedRankings) -> NDArray[Any]:
    """[B, K] of one value an item; -inf at pads."""
    values_BK = np.full(lists.positions_BK.shape, -np.inf)
    values_BK[lists.present_BK] = values_N
    return values_BK


def _dataset(lists: LoggedRankings, reference: Any = None) -> Any:
    import lightgbm

    features_NF = lists.features_BKF[lists.present_BK]
    names = [
        f"f{at}" for at in range(features_NF.shape[1])
    ]  # LightGBM refuses names that JSON would have to quote
    return lightgbm.Dataset(
        features_NF,
        lists.gains_BK[lists.present_BK],
        reference,
        feature_name=names,
        params={"verbose": -1},
    )
