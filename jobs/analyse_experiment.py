"""What an experiment's log says: python -m jobs.analyse_experiment NAME --setup
my_shop.setups:winter

With --candidate FOLDER also what the rankers in it would earn, from the lists that were shown,
before they go live."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import Setup, load
from recsys.errors import InputError, NotFoundError, RecsysError
from recsys.events.joins import label_examples
from recsys.events.log_checks import count_anomalies
from recsys.experiments.analysis import METRICS, Row, analyse
from recsys.experiments.estimators import estimate_clicks
from recsys.interfaces import Ranker
from recsys.learning.ranking_log import read_ranking_log
from recsys.ranking.examination import Examination, from_swaps
from recsys.ranking.logged_rankings import LoggedRankings
from recsys.ranking.trees import TreeRanker
from recsys.storage.version import code_commit
from recsys.training import EXAMINATION, NET, TREES
from recsys.types import Impression


def main() -> int:
    arguments = parsed()
    begun = time.perf_counter()
    try:
        setup = load(arguments.setup)
        impressions, events = log_of(setup)
        now = datetime.now(UTC)
        sanity = count_anomalies(impressions, events, now)
        for name, count in sanity.items():
            print(f"{name:24}{count:>10,}")
        examples = label_examples(impressions, events, now)
        rows, notes = analyse(
            arguments.name, impressions, examples, setup.experiments, arguments.arm
        )
        if arguments.candidate:
            foretold, more = off_policy(setup, examples, arguments.candidate)
            rows, notes = [*rows, *foretold], [*notes, *more]
    except RecsysError as error:
        print(error, file=sys.stderr)
        return 1
    for line in [*table(rows), *(f"note: {note}" for note in notes)]:
        print(line)
    summary = {
        "job": "analyse_experiment",
        "experiment": arguments.name,
        "dataset": setup.name,
        "commit": code_commit(),
    }
    seconds = round(time.perf_counter() - begun, 1)
    told = {
        "seconds": seconds,
        "sanity": sanity,
        "notes": notes,
        "rows": [plain(row) for row in rows],
    }
    print(json.dumps({**summary, **told}))
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="the experiment, as the log names it")
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    parser.add_argument(
        "--arm", help="the arm that the others are compared with (default: the experiment's first)"
    )
    parser.add_argument(
        "--candidate", type=Path, help="a folder of jobs.train_models: estimate its rankers too"
    )
    return parser.parse_args()


def log_of(setup: Setup) -> tuple[list[Impression], list[pa.RecordBatch]]:
    """What was shown and what was done, up to now."""
    store = setup.event_store()
    try:
        return list(store.impressions()), list(store.interactions(store.end().interactions))
    finally:
        store.close()


def off_policy(setup: Setup, examples: pa.Table, folder: Path) -> tuple[list[Row], list[str]]:
    """Clicks a request of each ranker in the folder, by surface: `estimators.estimate_clicks`. Shared
    lists are left out."""
    rankers, rows, notes = rankers_in(folder), list[Row](), list[str]()
    shared = set(examples.filter(pc.not_equal(examples["team"], ""))["request_id"].to_pylist())
    lists = read_ranking_log(setup).lists
    lists = lists.where(np.array([request not in shared for request in lists.request_ids_B], bool))
    for surface in sorted(set(lists.surfaces_B.tolist())):
        try:
            rows += foretold(
                setup, lists.where(lists.surfaces_B == surface), surface, folder, rankers
            )
        except InputError as error:
            notes.append(f"{surface}: {error}")
    return rows, notes


def foretold(
    setup: Setup,
    lists: LoggedRankings,
    surface: str,
    folder: Path,
    rankers: Sequence[tuple[str, Ranker]],
) -> list[Row]:
    """One row a ranker and estimator."""
    examination, rows = examination_of(folder, lists), []
    for name, ranker in rankers:
        scores_BK = ranker.score(lists.named(ranker.feature_names).features_BKF)
        for found in estimate_clicks(lists, scores_BK, examination, setup.day.explore):
            row: Row = {
                "kind": "estimate",
                "name": f"{name}/{found.name}",
                "slice": surface,
                "clicks": found.value,
            }
            row |= {"clicks/low": found.low, "clicks/high": found.high, "requests": found.requests}
            rows.append({**row, "weight": found.weight})
    return rows


def rankers_in(folder: Path) -> list[tuple[str, Ranker]]:
    """The rankers that the folder holds, by the names of its parts. Raises NotFoundError where
    there is none."""
    found: list[tuple[str, Ranker]] = []
    if (folder / TREES).exists():
        found.append((TREES, TreeRanker(folder / TREES)))
    if (folder / NET).exists():
        from recsys.ranking.network import NetRanker

        found.append((NET, NetRanker(folder / NET)))
    if not found:
        raise NotFoundError(
            f"{folder} holds no ranker: name a folder that jobs.train_models trained one into"
        )
    return found


def examination_of(folder: Path, lists: LoggedRankings) -> Examination:
    """The candidate's curve, else the one that the log's exchanges tell."""
    path = folder / EXAMINATION
    return Examination.load(path) if path.exists() else from_swaps(lists)


def table(rows: Sequence[Row]) -> list[str]:
    """For people."""
    arms = [row for row in rows if row["kind"] == "arm"]
    lines = [line for metric in METRICS for line in arm_lines(metric, arms)] if arms else []
    for row in rows:
        if row["kind"] == "ratio":
            lines.append(
                f"sample ratio: chi2 {row['chi2']:.2f}, p {row['p']:.4f}{', MISMATCH' * row['mismatch']}"
            )
        if row["kind"] == "preference":
            told = f"{row['wins']:,} wins, {row['losses']:,} losses, {row['ties']:,} ties"
            told = f"{told}, preference {within(row, 'preference')}, p {row['p']:.4f}, by sign {row['p/sign']:.4f}"
            lines.append(f"{row['name']}: {told}")
        if row["kind"] == "estimate":
            lines.append(
                f"{row['name']:24}{row['slice']:12}{row['requests']:>10,}{within(row, 'clicks'):>36}"
            )
    return lines


def arm_lines(metric: str, arms: Sequence[Row]) -> list[str]:
    lines = [
        f"{'arm':24}{'slice':12}{'requests':>10}{'users':>8}{metric:>28}{'difference':>30}{'p':>8}"
    ]
    for row in arms:
        told = f"{within(row, metric):>28}{within(row, f'{metric}/difference'):>30}{cell(row, f'{metric}/p'):>8}"
        lines.append(
            f"{row['name']:24}{row['slice']:12}{row['requests']:>10,}{row['users']:>8,}{told}"
        )
    return lines


def within(row: Row, name: str) -> str:
    """A value and its interval."""
    return (
        f"{row[name]:.4f} [{row[f'{name}/low']:.4f}, {row[f'{name}/high']:.4f}]"
        if name in row
        else ""
    )


def cell(row: Row, name: str) -> str:
    return f"{row[name]:.4f}" if name in row else ""


def plain(row: Row) -> Row:
    """As JSON has it: what is no number is null."""
    return {
        name: None
        if isinstance(value, float) and math.isnan(value)
        else round(value, 6)
        if isinstance(value, float)
        else value
        for name, value in row.items()
    }


if __name__ == "__main__":
    sys.exit(main())
