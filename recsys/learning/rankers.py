"""Learning to rank from the feature log: position bias, propensity-weighted training, and the gate.

The newest day is held out; a ranker replaces the live one only if it is not worse there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.config import Setup
from recsys.errors import InputError
from recsys.experiments.exploration import Exploration
from recsys.interfaces import Ranker
from recsys.learning.gate import GateCriteria, Verdict, day_slices, judge, render_page
from recsys.learning.options import Say, TrainOptions
from recsys.learning.ranking_log import hold_out_last_day, read_ranking_log
from recsys.models.composition import RANKERS, with_models, with_parts
from recsys.models.store import current_models
from recsys.pipeline.rerank import FIRST
from recsys.ranking.examination import Examination, intervention_harvesting, regression_em
from recsys.ranking.linear import WeightedSum
from recsys.ranking.logged_rankings import LoggedRankings, split_by_user
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.training import EXAMINATION, GATE, NET, TREES
from recsys.training.lambdamart import TreeRecipe, train_trees
from recsys.training.ranker_net import NetRecipe, train_net
from recsys.types import Mask

#: Randomised requests that intervention harvesting needs; with fewer the curve comes from
#: regression-EM.
MIN_RANDOMISED = 500


@dataclass(frozen=True)
class RankerOptions:
    """What is trained, how, and what it has to clear. `trees` or `net` None leaves that ranker
    out."""

    trees: TreeRecipe | None
    net: NetRecipe | None
    criteria: GateCriteria = field(default_factory=GateCriteria)

    @classmethod
    def for_machine(cls, seed: int = 0) -> RankerOptions:
        """Both rankers."""
        return cls(TreeRecipe(seed=seed), NetRecipe(seed=seed))


def train_rankers(
    setup: Setup,
    rankers: RankerOptions,
    options: TrainOptions,
    judged: LoggedRankings | None = None,
) -> dict[str, float]:
    """Writes into the folder the examination curve, the rankers that passed the gate, and the
    gate's report (json, and a page).

    Returns the validation metrics. Raises InputError where the log is too small to learn from, or
    no ranker passed: the sentence says why, and the report is in the folder."""
    folder, say = options.folder, options.say
    log = read_ranking_log(setup)
    clicked = int(log.lists.has_gain_B.sum())
    say(f"{len(log.lists):,} ranked answers, {clicked:,} of them led to something")
    say("of the log: " + ", ".join(f"{name} {count:,}" for name, count in log.counts.items()))
    past, day = hold_out_last_day(log.lists)
    folder.mkdir(parents=True, exist_ok=True)
    curve = estimate_position_bias(past, setup.day.explore, options.seed, say)
    curve.save(folder / EXAMINATION)
    metrics = _fit_rankers(past, curve, rankers, folder, say)
    live, slices = load_live_ranker(setup), _slices(setup, past, day)
    candidates = with_parts(setup, folder).rankers
    verdicts = {
        name: judge(
            candidates[name](),
            live,
            day,
            examination=curve,
            judged=judged,
            slices=slices,
            criteria=rankers.criteria,
        )
        for name in metrics
    }
    _write_report(folder, verdicts)
    _remove_refused(folder, verdicts, say)
    return {f"{name}/ips_ndcg@10": value for name, value in metrics.items()}


def estimate_position_bias(
    lists: LoggedRankings, explore: Exploration, seed: int = 0, say: Say = lambda _: None
) -> Examination:
    """The examination curve: by intervention harvesting where exploration randomised enough
    requests, else by regression-EM.

    `explore` is the policy that the log was made with: one that inserts items from behind the list
    identifies no position's bias."""
    randomised_B = np.any(lists.present_BK & (lists.propensities_BK < 1), axis=1)
    count = int(randomised_B.sum())
    if count >= MIN_RANDOMISED and explore.kind in ("swap", "thompson"):
        curve = intervention_harvesting(lists.where(randomised_B), seed=seed)
        method = f"{count:,} requests with something left to chance"
    else:
        curve, method = regression_em(lists, seed=seed), "regression-EM"
    values = " ".join(f"{value:.2f}" for value in np.asarray(curve.curve_K).tolist())
    say(f"places are looked at with {values} (from {method})")
    return curve


def load_live_ranker(setup: Setup) -> Ranker:
    """The ranker that serves without a new one: the current models' one, else the first stage's
    order."""
    live = with_models(setup, current_models(setup))
    return live.rankers[live.ranker]() if live.ranker in live.rankers else WeightedSum({FIRST: 1.0})


def _fit_rankers(
    past: LoggedRankings, curve: Examination, rankers: RankerOptions, folder: Path, say: Say
) -> dict[str, float]:
    """The best validation metric of each ranker, by name."""
    train, valid = split_by_user(past)
    metrics = {}
    if rankers.trees is not None:
        metrics["trees"] = train_trees(
            train, valid, curve, folder / TREES, recipe=rankers.trees, say=say
        ).best
    if rankers.net is not None:
        metrics["net"] = train_net(
            train, valid, curve, folder / NET, recipe=rankers.net, say=say
        ).best
    return metrics


def _slices(setup: Setup, past: LoggedRankings, day: LoggedRankings) -> Mapping[str, Mask]:
    """The gate's slices: cold are users without a past in the log, tail items are the release's."""
    release = Release.open(ArtifactStore(setup.home))
    tail = release.items["item_id"].take(pa.array(np.flatnonzero(release.item_features.tail_I)))
    warm = {user for user in past.users_B.tolist() if user is not None}
    return day_slices(day, warm, set(tail.to_pylist()))


def _write_report(folder: Path, verdicts: Mapping[str, Verdict]) -> None:
    (folder / GATE).mkdir(exist_ok=True)
    for name, verdict in verdicts.items():
        (folder / GATE / f"{name}.json").write_text(json.dumps(verdict.to_dict(), indent=2) + "\n")
        (folder / GATE / f"{name}.html").write_text(render_page(name, verdict))


def _remove_refused(folder: Path, verdicts: Mapping[str, Verdict], say: Say) -> None:
    """Raises InputError where the gate refused all."""
    for name, verdict in verdicts.items():
        say(f"{name} {'passed' if verdict.passed else 'was refused'}: {verdict.reason}")
        if not verdict.passed:
            shutil.rmtree(folder / RANKERS[name])
    if not any(verdict.passed for verdict in verdicts.values()):
        reasons = "; ".join(f"{name}: {verdict.reason}" for name, verdict in verdicts.items())
        raise InputError(f"no ranker passed the gate ({reasons}): {folder / GATE} has the numbers")
