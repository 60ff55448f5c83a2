"""Pictures beside texts and simple bars: python -m jobs.evaluate_pictures --dataset flipkart"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from recsys.datasets import data_folder
from recsys.errors import NotFoundError, RecsysError
from recsys.evaluation.pictures.compatibility import evaluate_compatibility
from recsys.evaluation.pictures.data import metric_columns
from recsys.evaluation.pictures.media import evaluate_media
from recsys.evaluation.pictures.photos import evaluate_photos
from recsys.evaluation.results import (
    Row,
    criteria_table,
    say,
    summary_line,
    text_table,
)

#: Each is given the folder, a folder to keep vectors in and `say`, and makes rows and criteria;
#: none where the folder lacks its files.
PARTS = (evaluate_media, evaluate_compatibility, evaluate_photos)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", choices=("grocery", "flipkart", "ikea"))
    source.add_argument(
        "--data",
        type=Path,
        help="a folder with items.parquet (image: bytes; category2 or product_type), "
        "photos.parquet, scenes.parquet, or some of them",
    )
    parser.add_argument("--cache", type=Path, help="a folder to keep vectors in")
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        folder = arguments.data or data_folder(f"img_{arguments.dataset}")
        rows = evaluate_folder(folder, arguments.cache)
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    name = arguments.dataset or folder.resolve().name
    say(summary_line("evaluate_pictures", name, started, rows))
    return 0


def evaluate_folder(folder: Path, cache: Path | None) -> list[Row]:
    """By every part that finds its files in the folder."""
    cache = cache or Path.home() / ".cache" / "nightshelf" / "evaluate" / "pictures"
    every: list[Row] = []
    for part in PARTS:
        rows, criteria = part(folder, cache, say)
        if rows:
            say(text_table(rows, metric_columns(rows)))
        if criteria:
            say(f"\n{criteria_table(criteria)}\n")
        every += [*rows, *(criterion.as_row() for criterion in criteria)]
    if not every:
        raise NotFoundError(
            f"{folder} has nothing that is measured: give a folder with photos.parquet, "
            "scenes.parquet, or items.parquet with a column category2 or product_type"
        )
    return every


if __name__ == "__main__":
    sys.exit(main())
