"""Changes many items by day: python -m jobs.update_items FILE --setup my_shop.setups:shop

The file is read as the setup reads its catalogue, or as what it is recognised to be; its columns
are the fields that change, of items that there are. With --whole each row is a whole item.
What is refused goes to FILE.refused.jsonl here, with its reason; the exit code is 1 where that is
more than the setup's night allows."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from recsys.catalogue.bulk import (
    ChangeWriter,
    FileKind,
    FileReading,
    FileRow,
    HttpWriter,
    LogWriter,
    ReleasedItems,
    update_items,
)
from recsys.catalogue.client import CatalogueClient
from recsys.config import Setup, load
from recsys.datasets.platforms.adapter import read_as
from recsys.datasets.recognition import make_dataset, recognise
from recsys.datasets.shop_report import source_lines
from recsys.errors import InputError, RecsysError
from recsys.evaluation.results import say
from recsys.interfaces import DatasetAdapter


def main() -> int:
    arguments, started = _parse_arguments(), time.perf_counter()
    refused = Path(f"{PurePosixPath(arguments.file).name}.refused.jsonl")
    counts = Counter[str]()
    try:
        setup = load(arguments.setup)
        dataset = items_of(setup, arguments.file)
        with _open_writer(arguments, setup) as (writer, setup):
            counts = _update(dataset, writer, setup, arguments, refused)
    except (RecsysError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    bad = counts["invalid"] + counts["missing"]
    if bad:
        say(f"{bad:,} rows were refused: see {refused}")
    summary = {
        "job": "update_items",
        "setup": setup.name,
        "rows": counts.total(),
        **{name: counts[name] for name in _STATUSES},
        "seconds": round(time.perf_counter() - started, 1),
    }
    say(json.dumps(summary))
    return int(bad > setup.night.max_bad_share * max(counts.total(), 1))


_STATUSES = ("accepted", "unchanged", "stale", "missing", "invalid")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="a table of items, a platform's export, or a folder of them")
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    parser.add_argument("--whole", action="store_true", help="each row is all that its item has")
    parser.add_argument("--url", help="of a running application; else straight into the log")
    parser.add_argument("--key-file", type=Path, help="a file with a key of the role catalogue")
    return parser.parse_args()


def items_of(setup: Setup, path: str) -> DatasetAdapter:
    """The file read as the setup's items are; where it reads none, as what it looks like."""
    try:
        return read_as(setup.dataset(datetime.now(UTC)), path)
    except InputError:
        source = recognise(path)
        say("\n".join(source_lines([source])))
        return make_dataset([source])


@contextmanager
def _open_writer(
    arguments: argparse.Namespace, setup: Setup
) -> Iterator[tuple[ChangeWriter, Setup]]:
    """And the setup with the currency of its release, where it names none."""
    if arguments.url:
        key = arguments.key_file.read_text().strip() if arguments.key_file else None
        with closing(CatalogueClient(arguments.url, key)) as client:
            yield HttpWriter(client, setup.catalogue), setup
        return
    released = ReleasedItems.of(setup.home)
    currency = setup.catalogue.currency or released.currency
    setup = replace(setup, catalogue=replace(setup.catalogue, currency=currency))
    with closing(setup.catalogue_log()) as log:
        yield LogWriter(log, released), setup


def _update(
    dataset: DatasetAdapter,
    writer: ChangeWriter,
    setup: Setup,
    arguments: argparse.Namespace,
    refused: Path,
) -> Counter[str]:
    """How many rows had each outcome."""
    counts = Counter[str]()
    refused.unlink(missing_ok=True)
    kind: FileKind = "put" if arguments.whole else "patch"
    reading = FileReading(kind, setup.catalogue, datetime.now(UTC))
    total = sum(chunk.rows for chunk in dataset.item_chunks())
    with tqdm(total=total, unit=" rows", disable=None, leave=False) as bar:
        for row in update_items(dataset, writer, reading, bar.update):
            counts[row.outcome.status] += 1
            if row.outcome.status in ("invalid", "missing"):
                _add_refused(refused, row)
    return counts


def _add_refused(path: Path, row: FileRow) -> None:
    line = {
        "path": row.path,
        "row": row.row,
        "item_id": row.item_id,
        "status": row.outcome.status,
        "reason": row.outcome.reason,
    }
    with path.open("a") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
