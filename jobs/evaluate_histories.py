"""The next item of a history beside floors and rivals: python -m jobs.evaluate_histories --dataset
amazon2014_beauty"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.datasets import data_folder, sequences
from recsys.encoders import minilm
from recsys.errors import InputError, RecsysError
from recsys.evaluation import catalogue, histories, learned, rivals
from recsys.metrics import mean, recall_at_k
from recsys.storage.version import code_commit
from recsys.types import Floats

#: A contender whose answers depend on the seed is in SEEDED. `learned.DIALS` run only when they are
#: named.
NAMES = (*rivals.RIVALS, "user_vector", "nightshelf")
SEEDED = {*rivals.SEEDED, "user_vector", "nightshelf", *learned.DIALS}
ONLY = f"these of {', '.join(NAMES)}; and {', '.join(learned.DIALS)}, which are left out by default"
#: Events of an anonymous session that contenders are asked with.
SESSIONS = (0, 1, 3)
COLUMNS = (
    "recall@10",
    "ndcg@10",
    "recall@5",
    "recall@20",
    "mrr",
    "tail_recall@10",
    "tail_share@10",
    "coverage",
)
MORE = (
    "gini@10",
    "novelty",
    "recall@10/1-4",
    "recall@10/5-9",
    "recall@10/10-19",
    "recall@10/20+",
    "cold_recall@10",
)
STRANGERS = tuple(f"recall@10/session-{events}" for events in SESSIONS)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", choices=sequences.DATASETS)
    source.add_argument(
        "--data", type=Path, metavar="DIR", help="a folder with user_sequences.txt and items.csv"
    )
    parser.add_argument(
        "--valid", action="store_true", help="score the last item but one instead: tune here"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="for contenders that have any (3)"
    )
    parser.add_argument(
        "--first-seed", type=int, default=0, metavar="N", help="seeds count from here (0)"
    )
    parser.add_argument(
        "--users", type=float, default=1.0, metavar="SHARE", help="a random share of the users"
    )
    parser.add_argument(
        "--cold", type=float, metavar="SHARE", help="this share of the items loses all its events"
    )
    parser.add_argument(
        "--drop",
        type=float,
        metavar="SHARE",
        help="this share of the items loses one of its fields",
    )
    parser.add_argument(
        "--ties", action="store_true", help="items that may be of one day in random order"
    )
    parser.add_argument(
        "--only", nargs="+", choices=(*NAMES, *learned.DIALS), metavar="NAME", help=ONLY
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="keep the trained user models there"
    )
    return parser


def main() -> int:
    arguments = parser().parse_args()
    begun = time.perf_counter()
    name = arguments.dataset or arguments.data.resolve().name
    try:
        rows = list(measured(arguments))
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    table(rows, COLUMNS)
    table(rows, MORE)
    table(rows, STRANGERS)
    seconds = round(time.perf_counter() - begun, 1)
    summary = {
        "job": "evaluate_histories",
        "dataset": name,
        "commit": code_commit(),
        "seconds": seconds,
    }
    asked = {
        "part": "valid" if arguments.valid else "test",
        "cold": arguments.cold,
        "ties": arguments.ties,
    }
    asked["drop"] = arguments.drop
    print(
        json.dumps(
            {**summary, **asked, "users": arguments.users, "rows": [as_json(row) for row in rows]}
        )
    )
    return 0


def measured(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each contender that can be, with the seconds it took."""
    log = sequences.read_histories(arguments.data or data_folder(arguments.dataset))
    say(
        ", ".join(
            f"{count:,} {name.replace('_', ' ')}" for name, count in log.counts.items() if count
        )
    )
    split = cut(log, arguments)
    say(f"{len(split.asked):,} users are asked for their {split.part} item")
    say(
        f"vectors of {log.items.num_rows:,} items: encoded the first time, then kept in {catalogue.kept_at()}"
    )
    items, items_ID = log.items, catalogue.vectors(log.items, encoder := minilm())
    if arguments.drop is not None:
        items, items_ID = catalogue.with_gaps(log.items, encoder, arguments.drop)
    first = arguments.first_seed
    with tempfile.TemporaryDirectory(prefix="nightshelf-") as folder:
        contenders = {**rivals.RIVALS, **learned.contenders(arguments.folder or Path(folder))}
        for name in arguments.only or NAMES:
            begun = time.perf_counter()
            seeds = range(first, first + arguments.seeds) if name in SEEDED else range(1)
            try:
                row = scored(contenders[name], split, items, items_ID, seeds)
            except InputError as error:
                say(f"{name} is left out: {error}")
                continue
            seconds = round(time.perf_counter() - begun, 1)
            say(
                f"{name:22} recall@10 {row['recall@10']:.4f}  ndcg@10 {row['ndcg@10']:.4f}  {seconds} s"
            )
            yield {"name": name, "seeds": len(seeds), "seconds": seconds, **row}


def scored(
    contender: rivals.Factory,
    split: histories.Split,
    items: pa.Table,
    items_ID: Floats,
    seeds: Sequence[int],
) -> histories.Row:
    """All the numbers of one contender: with whole histories, and with sessions of strangers."""
    fitted = [contender(split, items, items_ID, seed, say) for seed in seeds]
    answers = [recommend(split.asked.histories, histories.K) for recommend in fitted]
    row = histories.evaluate(answers, split.asked, split.counts_I)
    for events in SESSIONS:
        strangers = histories.session(split.asked, events)
        found = [
            recall_at_k(fit(strangers.histories, 10), *histories.truth(strangers), 10)
            for fit in fitted
        ]
        row[f"recall@10/session-{events}"] = float(np.mean([mean(values_U) for values_U in found]))
    return row


def cut(log: sequences.HistoryDataset, arguments: argparse.Namespace) -> histories.Split:
    """The log as the flags want it, split."""
    past, count, part = log.histories, log.items.num_rows, "valid" if arguments.valid else "test"
    if arguments.seeds < 1:
        raise InputError(f"{arguments.seeds} seeds measure nothing: give 1 or more")
    if arguments.cold is not None and arguments.valid:
        raise InputError("cold items are nobody's validation item: leave --valid or --cold away")
    past = histories.sample(past, arguments.users, seed=0)
    if arguments.ties:
        ends = histories.ascending_ends(past)
        say(
            f"{ends:,} of {len(past):,} histories end in two items that may be of one day: these are shuffled"
        )
        past = histories.ties_shuffled(past, log.items["item_id"].to_pylist(), seed=0)
    if arguments.cold is not None:
        return histories.without_items(past, count, arguments.cold, seed=0)
    return histories.leave_one_out(past, count, part)


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """NaN as null: a number that there is not, such as the recall of cold items where there are
    none."""
    return {name: None if value != value else value for name, value in row.items()}


def say(line: str) -> None:
    print(line, flush=True)


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    print(
        f"\n{'':22}"
        + "".join(f"{column.replace('recall', 'R'):>{width(column)}}" for column in columns)
    )
    for row in rows:
        print(
            f"{row['name']:22}"
            + "".join(f"{cell(row, column):>{width(column)}}" for column in columns)
        )


def width(column: str) -> int:
    return 24 if column in ("recall@10", "ndcg@10") else 16


def cell(row: dict[str, Any], column: str) -> str:
    low_high = row.get(f"{column}/interval")
    return f"{row[column]:.4f}" + (f" [{low_high[0]:.4f}, {low_high[1]:.4f}]" if low_high else "")


if __name__ == "__main__":
    sys.exit(main())
