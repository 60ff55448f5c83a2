"""Hits of next baskets beside floors and rivals: python -m jobs.evaluate_retail --dataset
uci_online_retail"""

from __future__ import annotations

import argparse
import json
import time

from recsys.datasets.completejourney import CompleteJourney
from recsys.datasets.uci_online_retail import UciOnlineRetail
from recsys.encoders import minilm
from recsys.evaluation import retail
from recsys.storage.version import code_commit

DATASETS = {adapter.name: adapter for adapter in (CompleteJourney, UciOnlineRetail)}
COLUMNS = ("hits@10/all", "hits@10/new", "ndcg@10/all", "ndcg@10/new", "coverage")


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
    begun = time.perf_counter()
    start, stop = retail.TEST[arguments.dataset]
    length = stop - start
    start, stop = start - arguments.validation * length, stop - arguments.validation * length
    adapter = DATASETS[arguments.dataset]()
    log = retail.purchases(adapter)
    shop = retail.split(log, start, stop)
    shelf = retail.shelf(adapter, log, minilm())
    print(
        f"{arguments.dataset}, truth from {start:%Y-%m-%d} to {stop:%Y-%m-%d}: {len(shop.asked):,} users"
    )
    print(f"{'':15}" + "".join(f"{column:>28}" for column in COLUMNS))
    rows = []
    mixer = retail.learned(log, start, stop, shelf)
    for name, contender in retail.contenders(shop, shelf, mixer).items():
        rows.append({"name": name, **retail.evaluate(shop, contender)})
        print(
            f"{name:15}" + "".join(f"{_cell(rows[-1], column):>28}" for column in COLUMNS),
            flush=True,
        )
    seconds = round(time.perf_counter() - begun, 1)
    summary = {
        "job": "evaluate_retail",
        "dataset": arguments.dataset,
        "commit": code_commit(),
        "seconds": seconds,
    }
    print(json.dumps({**summary, "validation": bool(arguments.validation), "rows": rows}))


def _cell(row: dict, column: str) -> str:
    low_high = row.get(f"{column}/interval")
    return f"{row[column]:.4f}" + (f" [{low_high[0]:.4f}, {low_high[1]:.4f}]" if low_high else "")


if __name__ == "__main__":
    main()
