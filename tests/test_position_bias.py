"""Which estimator the examination curve comes from: randomised places where there are enough."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.experiments.exploration import Exploration
from recsys.learning import rankers
from recsys.ranking.examination import Examination
from tests.toy_clicks import toy_log


@pytest.mark.parametrize(
    ("kind", "requests", "estimator"),
    [
        ("swap", 500, "swaps of 500"),
        ("thompson", 500, "swaps of 500"),
        ("swap", 499, "regression-EM of 600"),
        ("epsilon", 500, "regression-EM of 600"),
    ],
)
def test_five_hundred_randomised_requests_are_enough(
    monkeypatch: pytest.MonkeyPatch, kind: str, requests: int, estimator: str
) -> None:
    lists, _ = toy_log(600, epsilon=0.5)
    lists.propensities_BK[requests:] = 1
    calls = []

    def estimate(name):
        def curve(some, seed):
            calls.append(f"{name} of {len(some)}")
            return Examination(*(np.ones(10, np.float32) for _ in range(3)))

        return curve

    monkeypatch.setattr(rankers, "intervention_harvesting", estimate("swaps"))
    monkeypatch.setattr(rankers, "regression_em", estimate("regression-EM"))
    rankers.estimate_position_bias(lists, Exploration(kind, 0.5))
    assert calls == [estimator]
