"""Analyses an experiment from the event log: python -m jobs.analyse_experiment NAME --setup
my_shop.setups:winter

With --candidate FOLDER also what the rankers in it would earn, from the lists that were shown,
before they go live."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from recsys.config import load
from recsys.errors import RecsysError
from recsys.evaluation.experiments import experiment_tables
from recsys.evaluation.results import say, summary_line
from recsys.events.joins import label_examples
from recsys.events.log_checks import count_anomalies
from recsys.experiments.analysis import analyse
from recsys.learning.off_policy import estimate_candidates


def _parse_arguments() -> argparse.Namespace:
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


def main() -> int:
    arguments, started = _parse_arguments(), time.perf_counter()
    try:
        setup, now = load(arguments.setup), datetime.now(UTC)
        with closing(setup.event_store()) as store:
            impressions = list(store.impressions())
            interactions = list(store.interactions(store.end().interactions))
        sanity = count_anomalies(impressions, interactions, now)
        examples = label_examples(impressions, interactions, now)
        rows, notes = analyse(
            arguments.name, impressions, examples, setup.experiments, arguments.arm
        )
        if arguments.candidate:
            estimates, more = estimate_candidates(setup, examples, arguments.candidate)
            rows, notes = [*rows, *estimates], [*notes, *more]
    except RecsysError as error:
        print(error, file=sys.stderr)
        return 1
    for name, count in sanity.items():
        say(f"{name:24}{count:>10,}")
    say(experiment_tables(rows))
    for note in notes:
        say(f"note: {note}")
    fields = {"experiment": arguments.name, "sanity": sanity, "notes": notes}
    say(summary_line("analyse_experiment", setup.name, started, rows, **fields))
    return 0


if __name__ == "__main__":
    sys.exit(main())
