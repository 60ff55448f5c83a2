"""A release on one page: what went in, what came out, and what a shopper would see. Plain values
in, HTML out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from recsys.release.checks import Check
from recsys.release.plots import bar_shares, log_histogram, rank_curve, score_ridges, svg
from recsys.release.price_moves import PriceMoves

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """A stage of the night; `skipped` when an earlier start of the night had finished it."""

    name: str
    rows: int
    seconds: float
    workers: int
    skipped: bool = False

    @property
    def rows_per_second(self) -> float | None:
        return None if self.skipped or self.seconds <= 0 else self.rows / self.seconds


@dataclass(frozen=True)
class ExampleItem:
    """One item of an answer, as a shopper sees it, and the sources that brought it."""

    title: str
    note: str = ""
    price: float | None = None
    sources: Sequence[str] = ()


@dataclass(frozen=True)
class ExampleAnswer:
    """A request (its text, or the titles of a user's latest items, newest first) and the items of
    its answer, best first."""

    request: Sequence[str]
    items: Sequence[ExampleItem]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that the page says. Empty parts are left out of it.

    counts: items, events, users and so on; quarantined: reason -> rows; intake: sentences.
    quality: rows as the evaluations print them, `{"name": "nightshelf", "recall@10": 0.41}`; floors
    and rivals are rows with names of their own. Arrays: prices [items], events_per_user [users],
    list_scores source -> any number of scores, source_share source -> candidates it brought,
    item_events [items] in any order."""

    version: str
    previous: str | None
    setup: str
    space: str
    commit: str
    counts: Mapping[str, int]
    quarantined: Mapping[str, int] = field(default_factory=dict)
    intake: Sequence[str] = ()
    price_moves: Sequence[PriceMoves] = ()
    stages: Sequence[StageRow] = ()
    quality: Sequence[Mapping[str, Any]] = ()
    checks: Sequence[Check] = ()
    prices: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    events_per_user: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    item_events: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    list_scores: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    source_share: Mapping[str, float] = field(default_factory=dict)
    searches: Sequence[ExampleAnswer] = ()
    recommendations: Sequence[ExampleAnswer] = ()


def render(report: ReportData) -> str:
    """One HTML page that needs nothing else: no script, no font, no picture from elsewhere."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        (files("recsys.release") / "report.html.j2").read_text("utf-8")
    )
    metrics = list(dict.fromkeys(key for row in report.quality for key in row if key != "name"))
    failed = sum(not check.passed for check in report.checks)
    return template.render(report=report, metrics=metrics, failed=failed, plots=_plots(report))


def _plots(report: ReportData) -> list[tuple[str, str]]:
    """(caption, SVG) of everything there are numbers for."""
    prices, users, items = (
        _positive(values) for values in (report.prices, report.events_per_user, report.item_events)
    )
    plots: list[tuple[str, int, Callable[[Figure], None]]] = [
        (
            "Prices",
            prices.size,
            lambda figure: log_histogram(figure.subplots(), prices, "price", "items"),
        ),
        (
            "Events a user",
            users.size,
            lambda figure: log_histogram(figure.subplots(), users, "events", "users"),
        ),
        ("Popularity", items.size, lambda figure: rank_curve(figure.subplots(), items)),
        (
            "Who brings the candidates",
            len(report.source_share),
            lambda figure: bar_shares(figure, report.source_share),
        ),
        (
            "Scores in the lists",
            len(report.list_scores),
            lambda figure: score_ridges(figure, report.list_scores),
        ),
    ]
    return [(caption, svg(draw)) for caption, size, draw in plots if size]


def _positive(values: NDArray[Any]) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    return numbers[np.isfinite(numbers) & (numbers > 0)]
