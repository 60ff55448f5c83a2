"""Follows a stream of catalogue changes, of Kafka or Redis, and writes them to the catalogue.

    python -m jobs.follow_catalogue 'kafka://kafka:9092/shop.public.products' --write put \
        --column item_id=id --column title=name

docs/live-catalogue.md has the recipe for a shop's database."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from recsys.catalogue.brokers import open_stream, stream_name
from recsys.catalogue.bulk import Outcome
from recsys.catalogue.client import CatalogueClient
from recsys.catalogue.follower import Follower, LogRows, Write
from recsys.catalogue.streams import MessageReading
from recsys.config import Setup, load
from recsys.errors import InputError, StoreDownError
from recsys.storage.artifacts import ArtifactStore

#: Messages of one step, and how long it waits for the first.
MOST, WAIT_S = 500, 1.0
PAUSE_S = 2.0
T = TypeVar("T")


def main() -> int:
    arguments, started = _arguments(), time.monotonic()
    try:
        counts = _follow(arguments)
    except InputError as error:
        print(error)
        return 1
    seconds = round(time.monotonic() - started, 1)
    name = stream_name(arguments.stream)
    print(json.dumps({"job": "follow_catalogue", "stream": name, "seconds": seconds, **counts}))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stream", help="kafka://HOST:PORT/TOPIC or redis://HOST:PORT/0?stream=KEY")
    parser.add_argument(
        "--write",
        choices=("put", "patch"),
        required=True,
        help="whether a row is a whole item, or some of an item's fields",
    )
    parser.add_argument("--setup", default="tiny")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="which of the source's columns is a field, where its name is another",
    )
    parser.add_argument("--url", help="of a running application; else straight into the log")
    parser.add_argument("--key-file", type=Path, help="a file with a key of the role catalogue")
    parser.add_argument("--once", action="store_true", help="stop at the end of the stream")
    return parser.parse_args()


def _follow(arguments: argparse.Namespace) -> Counter[str]:
    """What became of the messages, until the end of the stream or an interrupt."""
    setup, name = load(arguments.setup), stream_name(arguments.stream)
    reading = MessageReading(
        write=arguments.write, columns=_columns(arguments.column), choices=setup.catalogue
    )
    counts = Counter[str]()
    with _open_writer(arguments, setup) as write:
        follower = Follower(ArtifactStore(setup.home), name, reading, write)
        with closing(open_stream(arguments.stream, follower.offsets())) as stream:
            try:
                while True:
                    messages = _patiently(lambda: stream.read(MOST, WAIT_S))
                    if not messages and arguments.once and stream.is_at_end:
                        break
                    news = _patiently(partial(follower.take_in, messages))
                    if poison := news["quarantined"]:
                        where = f"{setup.home}/{follower.folder}/quarantine"
                        print(f"{poison:,} messages quarantined: see {where}", flush=True)
                    counts += news
            except KeyboardInterrupt:
                print("stopped: the place is kept")
    return counts


@contextmanager
def _open_writer(arguments: argparse.Namespace, setup: Setup) -> Iterator[Write]:
    if not arguments.url:
        with closing(setup.catalogue_log()) as log:
            yield LogRows(setup.home, log, setup.catalogue)
        return
    key = arguments.key_file.read_text().strip() if arguments.key_file else None
    with closing(CatalogueClient(arguments.url, key)) as client:
        yield lambda rows: [Outcome(row["status"], row["reason"]) for row in client.send(rows)]


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--column {pair} is no FIELD=COLUMN: give item_id=id, for example")
    return {ours: theirs for ours, _, theirs in (pair.partition("=") for pair in pairs)}


def _patiently(attempt: Callable[[], T]) -> T:
    """Again and again while a broker or the catalogue is down: nothing is skipped."""
    while True:
        try:
            return attempt()
        except StoreDownError as error:
            print(f"{error} Again in {PAUSE_S:.0f} s.", flush=True)
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    sys.exit(main())
