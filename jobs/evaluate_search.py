"""Search beside floors and its own parts: python -m jobs.evaluate_search --dataset home_depot"""

from __future__ import annotations

import argparse
import json
import sys
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

from recsys.datasets import data_folder
from recsys.errors import RecsysError
from recsys.evaluation import intents, search, titles
from recsys.storage.version import code_commit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--dataset", choices=("home_depot", "banking77", "taobao_types"))
    what.add_argument("--data", type=Path, help="a folder with items.parquet and judgments.parquet")
    parser.add_argument(
        "--models",
        type=Path,
        help="a folder for the models; those that are there are not trained again",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    name = arguments.dataset or arguments.data.resolve().name
    try:
        rows = measured(arguments)
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    table(rows)
    seconds = round(time.perf_counter() - begun, 1)
    summary = {
        "job": "evaluate_search",
        "dataset": name,
        "commit": code_commit(),
        "seconds": seconds,
    }
    print(json.dumps({**summary, "rows": [as_json(row) for row in rows]}))
    return 0


def measured(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    folder = arguments.data.resolve() if arguments.data else None
    kept = content_name(folder) if folder else arguments.dataset
    models = arguments.models or Path.home() / ".cache" / "nightshelf" / "evaluate" / kept
    if arguments.dataset == "banking77":
        return intents.evaluate(data_folder("cs_banking77"), models, arguments.seed, say)
    if arguments.dataset == "taobao_types":
        return titles.evaluate_titles(say)
    return search.evaluate(folder or data_folder(arguments.dataset), models, arguments.seed, say)


def content_name(folder: Path) -> str:
    """The folder's name and a digest of its judgments: models of other data must not be taken for
    those of this."""
    file = folder / "judgments.parquet"
    digest = blake2b(file.read_bytes() if file.is_file() else b"", digest_size=6).hexdigest()
    return f"{folder.name}-{digest}"


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """NaN as null: a number that there is not, such as the identifiers of a catalogue without
    codes."""
    return {name: None if value != value else value for name, value in row.items()}


def say(line: str) -> None:
    print(line, flush=True)


def table(rows: list[dict[str, Any]]) -> None:
    """One line a contender, with its interval under the numbers that have one."""
    columns = [
        column for column in rows[0] if column != "name" and not column.endswith(("/low", "/high"))
    ]
    print(f"{'':16}" + "".join(f"{column.replace('recall', 'R'):>24}" for column in columns))
    for row in rows:
        print(f"{row['name']:16}" + "".join(f"{cell(row, column):>24}" for column in columns))


def cell(row: dict[str, Any], column: str) -> str:
    if column.endswith("_ms"):
        return f"{row[column]:.1f}"
    between = (
        f" [{row[f'{column}/low']:.3f}, {row[f'{column}/high']:.3f}]"
        if f"{column}/low" in row
        else ""
    )
    return f"{row[column]:.4f}{between}"


if __name__ == "__main__":
    sys.exit(main())
