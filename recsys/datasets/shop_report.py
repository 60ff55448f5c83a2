"""What was seen in a shop's files, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from recsys.datasets.inspection import (
    CatalogueInspection,
    Inspection,
    LogInspection,
    sample_cells,
)
from recsys.datasets.platforms.reading import export_files, text_form
from recsys.datasets.quarantine import Cells
from recsys.datasets.recognition import Source
from recsys.datasets.setup_file import ShopFile
from recsys.types import NEXT_CATEGORY

_ITEM_COLUMNS = ("item_id", "title", "category", "brand", "price", "currency", "in_stock")
_EVENT_COLUMNS = ("time", "user_id", "item_id", "type", "quantity", "price")
_WIDTH = 28
_REFUSALS = 8
_MOST_REFUSED = 0.05  # config.Night.max_bad_share, which lies above this room


def source_lines(sources: Sequence[Source]) -> Iterator[str]:
    """Each file, its form, how its text is written, and which of its columns is which."""
    for source in sources:
        form = text_form(export_files(source.path)[0])
        yield f"{source.path}: {source.form.label}{f', {form}' if form else ''}"
        for canonical, theirs in source.columns.items():
            yield f"    {canonical:<12} from {theirs!r}"
        if source.attributes:
            names = ", ".join(f"{each.name} ({each.kind})" for each in source.attributes)
            yield f"    attributes   {names}"


def catalogue_lines(items: CatalogueInspection, left_out: Mapping[str, int]) -> Iterator[str]:
    """The catalogue: a sample, prices, what is left out and what is refused."""
    yield f"\n{items.good:,} items of {items.rows:,} rows"
    yield from _left_out(left_out)
    yield from table_lines(sample_cells(items.sample, _ITEM_COLUMNS))
    currencies = ", ".join(f"{count:,} in {name}" for name, count in items.currencies.most_common())
    yield f"prices: {items.filled['price']:,}, {currencies or 'without a currency'}"
    if items.variant_names:
        yield f"variants differ in {', '.join(items.variant_names)}"
    yield from _refusals(items)


def log_lines(events: LogInspection, left_out: Mapping[str, int], ids: set[str]) -> Iterator[str]:
    """The log beside a catalogue of `ids`: a sample, times, what is left out and refused."""
    if not events.rows:
        yield "\nno events yet: recommendations begin with similar items and what is new"
        return
    types = ", ".join(f"{count:,} {name}" for name, count in events.types.most_common())
    yield f"\n{events.good:,} events of {events.rows:,} rows: {types}"
    yield from _left_out(left_out)
    yield from table_lines(sample_cells(events.sample, _EVENT_COLUMNS))
    if events.times:
        first, last = events.times
        yield f"times: {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, {events.zones()}"
    strangers = events.item_ids - ids
    if strangers:
        yield (
            f"{len(strangers):,} of {len(events.item_ids):,} items of the events are not in the "
            f"catalogue, such as {min(strangers)!r}: their events count for nothing"
        )
    yield from _refusals(events)


def _left_out(left_out: Mapping[str, int]) -> Iterator[str]:
    if left_out:
        counts = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        yield f"left out: {counts}"


def _refusals(inspection: Inspection) -> Iterator[str]:
    refused = sum(each.rows for each in inspection.refusals.values())
    if not refused:
        yield "refused: none"
        return
    share = refused / max(inspection.rows, 1)
    yield (
        f"refused: {refused:,} rows ({share:.1%})"
        + (", more than night.max_bad_share: a night would stop" if share > _MOST_REFUSED else "")
    )
    ordered = sorted(inspection.refusals.items(), key=lambda pair: -pair[1].rows)
    for rule, refusal in ordered[:_REFUSALS]:
        yield f"    {refusal.rows:>9,}  {rule}"
        yield f"{'':>13}  such as: {refusal.example}"


def table_lines(cells: Cells) -> Iterator[str]:
    """The cells under their names, long ones cut."""
    columns = [[name, *map(_cell, values)] for name, values in cells.items()]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"    {line}".rstrip()


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    text = text.replace(NEXT_CATEGORY, "; ")
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def next_lines(path: Path, shop: ShopFile) -> Iterator[str]:
    """What to do with the setup that was written."""
    setup = f"{shop.name}.setups:shop"
    if not shop.english:
        yield "\nthe titles are mostly not in English: " + (
            "the setup has the encoder multilingual_e5"
            if shop.multilingual
            else "pip install 'nightshelf[chinese]', and choose multilingual_e5 in the setup"
        )
    if shop.open_choices:
        names = ", ".join(shop.open_choices)
        yield f"\nchoose in {path} how rows that are refused are read: {names}"
    yield f"\nwrote {path}: yours to edit. Now a first night, and the shop on this machine:"
    yield f"    python -m jobs.serve_local --setup {setup}"
    yield "\nand each night:"
    yield f"    python -m jobs.nightly --setup {setup}"
