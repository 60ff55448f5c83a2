"""Search beside baselines and its own parts: python -m jobs.evaluate_search --dataset home_depot"""

from __future__ import annotations

import argparse
import sys
import time
from hashlib import blake2b
from pathlib import Path

from recsys.datasets import data_folder
from recsys.errors import RecsysError
from recsys.evaluation import boundary, intents, languages, search, titles
from recsys.evaluation.results import (
    Column,
    Criterion,
    Row,
    criteria_table,
    say,
    summary_line,
    text_table,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--dataset",
        choices=("home_depot", "home_depot_boundary", "banking77", "taobao_types", "languages"),
        help="home_depot_boundary: of home_depot only what counts as found, for four encoders",
    )
    source.add_argument(
        "--data", type=Path, help="a folder with items.parquet and judgments.parquet"
    )
    parser.add_argument(
        "--models",
        type=Path,
        help="a folder for the models; existing ones are not trained again",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--validation", action="store_true", help="the boundary on queries to choose it by"
    )
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        rows, criteria = evaluate_dataset(arguments)
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    if rows:
        say(text_table(rows, columns(rows)))
    if criteria:
        say(f"\n{criteria_table(criteria)}")
    rows += [criterion.as_row() for criterion in criteria]
    name = arguments.dataset or arguments.data.resolve().name
    say(summary_line("evaluate_search", name, started, rows))
    return 0


def evaluate_dataset(arguments: argparse.Namespace) -> tuple[list[Row], list[Criterion]]:
    folder = arguments.data.resolve() if arguments.data else None
    name = content_name(folder) if folder else arguments.dataset
    models = arguments.models or Path.home() / ".cache" / "nightshelf" / "evaluate" / name
    if arguments.dataset == "banking77":
        data = data_folder("cs_banking77")
        return intents.evaluate_intents(data, models, arguments.seed, say), []
    if arguments.dataset == "taobao_types":
        return titles.evaluate_titles(say), []
    if arguments.dataset == "languages":
        return languages.evaluate_languages(models, say=say)
    if arguments.dataset == "home_depot_boundary":
        return [], boundary_criteria(arguments)
    folder = folder or data_folder(arguments.dataset)
    rows = search.evaluate_search(folder, models, arguments.seed, say)
    if arguments.dataset != "home_depot":
        return rows, []
    return rows, [search.code_criterion(rows[-1]), *boundary_criteria(arguments)]


def boundary_criteria(arguments: argparse.Namespace) -> list[Criterion]:
    models = arguments.models or Path.home() / ".cache" / "nightshelf" / "evaluate" / "boundary"
    split = "valid" if arguments.validation else "test"
    folder = data_folder("home_depot")
    return boundary.evaluate_boundary(folder, models, arguments.seed, say, split=split)


def content_name(folder: Path) -> str:
    """The folder's name and a digest of its judgments, so that models of other data are not
    reused."""
    file = folder / "judgments.parquet"
    digest = blake2b(file.read_bytes() if file.is_file() else b"", digest_size=6).hexdigest()
    return f"{folder.name}-{digest}"


def columns(rows: list[Row]) -> list[Column]:
    """A column a metric; intervals are in the cell of theirs."""
    metrics = [name for name in rows[0] if name != "name" and not name.endswith(("/low", "/high"))]
    return [Column(name, ".1f" if name.endswith("_ms") else ".4f") for name in metrics]


if __name__ == "__main__":
    sys.exit(main())
