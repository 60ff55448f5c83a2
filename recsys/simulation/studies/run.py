"""All simulation studies of a shop's products, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from recsys.evaluation.results import Criterion, say
from recsys.interfaces import DatasetAdapter
from recsys.market.click_models import PositionBasedModel
from recsys.market.market import Market
from recsys.simulation.studies.click_spam import spam_displacement
from recsys.simulation.studies.debiasing import debiasing_gain
from recsys.simulation.studies.interleaving import interleaving_traffic
from recsys.simulation.studies.off_policy import off_policy_coverage
from recsys.simulation.studies.online_adaptation import online_adaptation


def run_studies(
    adapter: DatasetAdapter, model: PositionBasedModel, folder: Path, repetitions: int
) -> list[Criterion]:
    """Their criteria; models are trained below the folder. `repetitions` are those of the
    off-policy estimates."""
    small, large = (Market.of(adapter, shoppers=count) for count in (1000, 2000))
    studies: dict[str, Callable[[], Criterion | tuple[Criterion, ...]]] = {
        "debiased learning": lambda: debiasing_gain(small, model, folder / "trials"),
        "off-policy estimates": lambda: off_policy_coverage(large, model, repetitions=repetitions),
        "interleaving": lambda: interleaving_traffic(large, model, count=20_000),
        "click spam": lambda: spam_displacement(small, model),
        "learning by day": lambda: online_adaptation(small, model, folder / "by-day"),
    }
    criteria: list[Criterion] = []
    for name, study in studies.items():
        started = time.perf_counter()
        result = study()
        criteria += result if isinstance(result, tuple) else (result,)
        say(f"{name:<24}{time.perf_counter() - started:6.0f} s")
    return criteria
