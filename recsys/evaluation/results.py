"""Results of a job: aligned text tables for people, acceptance criteria, and the line of JSON that
ends the output for programs.

A result is a row: its name, and a value by metric. Intervals stand beside their metric, as
`recall@10/low` and `recall@10/high`, or as `recall@10/interval`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.storage.version import code_commit

Row = dict[str, Any]


def say(line: str = "") -> None:
    """Prints at once, into a pipe too: the progress of a job, which hands it to the library."""
    print(line, flush=True)  # noqa: T201


@dataclass(frozen=True)
class Column:
    """A column of a text table: the rows' key, the format of its values, and its heading, the key
    by default."""

    key: str
    format: str = ""
    heading: str | None = None

    def cell(self, row: Mapping[str, Any]) -> str:
        """The value with its interval; empty where the row has none, "-" for None and NaN."""
        if self.key not in row:
            return ""
        low_high = row.get(f"{self.key}/interval")
        if f"{self.key}/low" in row:
            low_high = row[f"{self.key}/low"], row[f"{self.key}/high"]
        cell = self._number(row[self.key])
        return f"{cell} [{', '.join(map(self._number, low_high))}]" if low_high else cell

    def _number(self, value: Any) -> str:
        return "-" if value is None or value != value else format(value, self.format)


def text_table(rows: Sequence[Mapping[str, Any]], columns: Iterable[Column | str]) -> str:
    """A line for each row: its name, then the columns, as wide as their widest cell. Text is
    aligned to the left, numbers to the right."""
    every = [Column("name", heading=""), *(_column(each) for each in columns)]
    headings = [each.key if each.heading is None else each.heading for each in every]
    cells = [headings, *([each.cell(row) for each in every] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    signs = [
        "<" if any(isinstance(row.get(each.key), str) for row in rows) else ">" for each in every
    ]
    return "\n".join(
        "  ".join(
            f"{cell:{sign}{width}}" for cell, sign, width in zip(line, signs, widths, strict=True)
        ).rstrip()
        for line in cells
    )


def _column(column: Column | str) -> Column:
    return column if isinstance(column, Column) else Column(column)


def summary_line(
    job: str, dataset: str, started: float, rows: Iterable[Mapping[str, Any]], **fields: Any
) -> str:
    """The last line of a job's output: JSON that names the job, its data and the code's commit, the
    seconds since `started` (`time.perf_counter`), further fields, and the rows. What is not finite
    is null: JSON has no NaN."""
    seconds = round(time.perf_counter() - started, 1)
    head = {"job": job, "dataset": dataset, "commit": code_commit(), "seconds": seconds}
    return json.dumps(_finite({**head, **fields, "rows": list(rows)}), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """An acceptance criterion: a measured value with its 95 % interval, the floor that it must
    reach and the goal beyond; None where there is none.

    `at_most`: less is better. `by_interval`: the whole interval must be clear of the floor."""

    name: str
    value: float
    interval: tuple[float, float]
    floor: float | None = None
    goal: float | None = None
    at_most: bool = False
    by_interval: bool = False

    @property
    def reached_floor(self) -> bool:
        if self.floor is None or not self.by_interval:
            return self._reached(self.floor)
        low, high = self.interval
        return high < self.floor if self.at_most else low > self.floor

    @property
    def reached_goal(self) -> bool:
        return self._reached(self.goal)

    @property
    def verdict(self) -> str:
        if not self.reached_floor:
            return "MISSED"
        return "goal" if self.reached_goal else "floor"

    def _reached(self, bound: float | None) -> bool:
        if bound is None:
            return True
        return self.value <= bound if self.at_most else self.value >= bound

    def as_row(self) -> Row:
        """As the summary line has it: numbers of four decimals."""
        low, high = self.interval
        bounds = {"floor": self.floor, "goal": self.goal}
        numbers = {**bounds, "value": self.value, "low": low, "high": high}
        rounded = {key: None if n is None else round(n, 4) for key, n in numbers.items()}
        reached = {"reached_floor": self.reached_floor, "reached_goal": self.reached_goal}
        return {"name": self.name, **rounded, **reached}


def criteria_table(criteria: Sequence[Criterion]) -> str:
    """Floors, goals, values with their intervals, and whether each was reached."""
    rows = [
        {
            **each.as_row(),
            "95 % interval": f"{each.interval[0]:.3f} to {each.interval[1]:.3f}",
            "reached": each.verdict,
        }
        for each in criteria
    ]
    bounds = Column("floor", ".3g"), Column("goal", ".3g")
    return text_table(rows, (*bounds, Column("value", ".3f"), "95 % interval", "reached"))
