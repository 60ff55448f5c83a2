"""Next-basket recommendation beside baselines: python -m jobs.evaluate_retail --dataset
uci_online_retail"""

from __future__ import annotations

import argparse
import time

from recsys.datasets.completejourney import CompleteJourney
from recsys.datasets.uci_online_retail import UciOnlineRetail
from recsys.encoders import minilm
from recsys.evaluation import retail, retail_split
from recsys.evaluation.results import Column, say, summary_line, text_table

DATASETS = {adapter.name: adapter for adapter in (CompleteJourney, UciOnlineRetail)}
METRICS = ("hits@10/all", "hits@10/new", "ndcg@10/all", "ndcg@10/new", "coverage")
COLUMNS = [Column(metric, ".4f") for metric in METRICS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=sorted(DATASETS), required=True)
    parser.add_argument(
        "--validation",
        type=int,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="score the N-th period before the test instead (1 without a number): tune here",
    )
    arguments = parser.parse_args()
    started = time.perf_counter()
    start, stop = retail_split.TEST[arguments.dataset]
    length = stop - start
    start, stop = start - arguments.validation * length, stop - arguments.validation * length
    adapter = DATASETS[arguments.dataset]()
    log = retail_split.usable_purchases(adapter)
    split = retail_split.split_at(log, start, stop)
    items = retail_split.retail_items(adapter, log, minilm())
    period = f"{start:%Y-%m-%d} to {stop:%Y-%m-%d}"
    say(f"{arguments.dataset}, truth from {period}: {len(split.users):,} users")
    mixer = retail.train_retail_mixer(log, start, stop, items)
    rows = []
    for name, system in retail.retail_systems(split, items, mixer).items():
        rows.append({"name": name, **retail.basket_scores(split, system)})
        say(f"{name:15} hits@10 {rows[-1]['hits@10/all']:.4f}")
    say(text_table(rows, COLUMNS))
    validation = bool(arguments.validation)
    say(summary_line("evaluate_retail", arguments.dataset, started, rows, validation=validation))


if __name__ == "__main__":
    main()
