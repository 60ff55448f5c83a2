"""Next-item recommendation beside baselines: python -m jobs.evaluate_histories --dataset
amazon2014_beauty"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from recsys.datasets import data_folder, sequences
from recsys.encoders import minilm
from recsys.errors import InputError, RecsysError
from recsys.evaluation import baselines, item_vectors, leave_one_out
from recsys.evaluation.next_item import SESSIONS, system_scores
from recsys.evaluation.results import Column, Row, say, summary_line, text_table
from recsys.evaluation.systems import VARIANTS, next_item_systems

#: Systems that depend on the seed are in SEEDED. VARIANTS run only when they are named.
NAMES = (*baselines.BASELINES, "user_vector", "nightshelf")
SEEDED = {*baselines.SEEDED, "user_vector", "nightshelf", *VARIANTS}
ONLY = f"these of {', '.join(NAMES)}; and {', '.join(VARIANTS)}, which are left out by default"
TABLES = (
    ("recall@10", "ndcg@10", "recall@5", "recall@20", "mrr"),
    ("tail_recall@10", "tail_share@10", "coverage", "gini@10", "novelty", "cold_recall@10"),
    ("recall@10/1-4", "recall@10/5-9", "recall@10/10-19", "recall@10/20+"),
    tuple(f"recall@10/session-{events}" for events in SESSIONS),
)


def flag_parser() -> argparse.ArgumentParser:
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
        "--seeds", type=int, default=3, metavar="N", help="for systems that depend on one (3)"
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
    parser.add_argument("--only", nargs="+", choices=(*NAMES, *VARIANTS), metavar="NAME", help=ONLY)
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where trained user models are written"
    )
    return parser


def main() -> int:
    arguments = flag_parser().parse_args()
    started = time.perf_counter()
    try:
        rows = list(evaluate_systems(arguments))
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    for metrics in TABLES:
        say(f"\n{text_table(rows, [Column(metric, '.4f') for metric in metrics])}")
    line = summary_line(
        "evaluate_histories",
        arguments.dataset or arguments.data.resolve().name,
        started,
        rows,
        part="valid" if arguments.valid else "test",
        cold=arguments.cold,
        ties=arguments.ties,
        drop=arguments.drop,
        users=arguments.users,
    )
    say(line)
    return 0


def evaluate_systems(arguments: argparse.Namespace) -> Iterator[Row]:
    """A row for each system that can be fitted, with the seconds it took."""
    dataset = sequences.read_histories(arguments.data or data_folder(arguments.dataset))
    counts = (
        f"{count:,} {key.replace('_', ' ')}" for key, count in dataset.counts.items() if count
    )
    say(", ".join(counts))
    split = split_by(arguments, dataset)
    say(f"{len(split.users):,} users with a {split.part} item")
    say(f"vectors of {dataset.items.num_rows:,} items, cached in {item_vectors.cache_folder()}")
    items, items_ID = dataset.items, item_vectors.encoded_items(dataset.items, encoder := minilm())
    if arguments.drop is not None:
        items, items_ID = item_vectors.with_dropped_fields(items, encoder, arguments.drop)
    first = arguments.first_seed
    with tempfile.TemporaryDirectory(prefix="nightshelf-") as folder:
        systems = {**baselines.BASELINES, **next_item_systems(arguments.folder or Path(folder))}
        for name in arguments.only or NAMES:
            started = time.perf_counter()
            seeds = range(first, first + arguments.seeds) if name in SEEDED else range(1)
            try:
                row = system_scores(systems[name], split, items, items_ID, seeds=seeds, say=say)
            except InputError as error:
                say(f"{name} is left out: {error}")
                continue
            seconds = round(time.perf_counter() - started, 1)
            scores = f"recall@10 {row['recall@10']:.4f}  ndcg@10 {row['ndcg@10']:.4f}"
            say(f"{name:22} {scores}  {seconds} s")
            yield {"name": name, "seeds": len(seeds), "seconds": seconds, **row}


def split_by(
    arguments: argparse.Namespace, dataset: sequences.HistoryDataset
) -> leave_one_out.LeaveOneOutSplit:
    """The split that the flags ask for."""
    histories, count = dataset.histories, dataset.items.num_rows
    if arguments.seeds < 1:
        raise InputError(f"{arguments.seeds} seeds measure nothing: give 1 or more")
    if arguments.cold is not None and arguments.valid:
        raise InputError("cold items are nobody's validation item: leave --valid or --cold away")
    histories = leave_one_out.sample_users(histories, arguments.users, seed=0)
    if arguments.ties:
        ends = leave_one_out.ascending_ends(histories)
        say(
            f"{ends:,} of {len(histories):,} histories end in two items that may be of one day: "
            "these are shuffled"
        )
        ids = dataset.items["item_id"].to_pylist()
        histories = leave_one_out.shuffle_ties(histories, ids, seed=0)
    if arguments.cold is not None:
        return leave_one_out.cold_start_split(histories, count, arguments.cold, seed=0)
    part = "valid" if arguments.valid else "test"
    return leave_one_out.leave_one_out(histories, count, part)


if __name__ == "__main__":
    sys.exit(main())
