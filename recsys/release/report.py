"""A release on one page: what went in, what came out, and what a shopper would see. Plain values
in, HTML out."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from recsys.release.checks import Check

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib writes these two; the page turns them into its own colours, which follow light and
# dark.
_INK, _ACCENT = "#010203", "#040506"
_STYLE: dict[Any, Any] = {
    **{
        "svg.fonttype": "none",
        "svg.hashsalt": "nightshelf",
        "font.family": "sans-serif",
        "font.size": 9.0,
    },
    **dict.fromkeys(
        ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], _INK
    ),
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.5},
    **{
        "xtick.major.width": 0.5,
        "ytick.major.width": 0.5,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
    },
}


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

    counts: items, events, users and so on; quarantined: reason -> rows. quality: rows as the
    evaluations print them, `{"name": "nightshelf", "recall@10": 0.41}`; floors and rivals are rows
    with names of their own. Arrays: prices [items], events_per_user [users], list_scores source ->
    any number of scores, source_share source -> candidates it brought, item_events [items] in any
    order."""

    version: str
    previous: str | None
    setup: str
    space: str
    commit: str
    counts: Mapping[str, int]
    quarantined: Mapping[str, int] = field(default_factory=dict)
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
            lambda figure: _log_histogram(figure.subplots(), prices, "price", "items"),
        ),
        (
            "Events a user",
            users.size,
            lambda figure: _log_histogram(figure.subplots(), users, "events", "users"),
        ),
        ("Popularity", items.size, lambda figure: _rank_curve(figure.subplots(), items)),
        (
            "Who brings the candidates",
            len(report.source_share),
            lambda figure: _bars(figure, report.source_share),
        ),
        (
            "Scores in the lists",
            len(report.list_scores),
            lambda figure: _ridges(figure, report.list_scores),
        ),
    ]
    return [(caption, _svg(draw)) for caption, size, draw in plots if size]


def _positive(values: NDArray[Any]) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    return numbers[np.isfinite(numbers) & (numbers > 0)]


def _svg(draw: Callable[[Figure], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 2.7), layout="constrained")
        draw(figure)
        page = io.StringIO()
        figure.savefig(
            page,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(["Date", "Creator", "Format", "Type"]),
        )
    svg = page.getvalue()[page.getvalue().index("<svg") :]
    svg = re.sub(
        r'<metadata>.*?</metadata>| (?:width|height)="[\d.]+pt"| xmlns(?::\w+)?="[^"]*"',
        "",
        svg,
        flags=re.DOTALL,
    )
    return (
        svg.replace("xlink:href", "href")
        .replace(_INK, "currentColor")
        .replace(_ACCENT, "var(--accent)")
    )


def _log_axis(axis: Any) -> None:
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _log_histogram(axes: Axes, values: NDArray[np.float64], unit: str, what: str) -> None:
    low, high = values.min(), values.max()
    axes.hist(values, bins=np.geomspace(low, max(high, low * 1.01), 33).tolist(), color=_ACCENT)
    axes.set(xscale="log", xlabel=f"{unit} (median {np.median(values):,.4g})", ylabel=what)
    _log_axis(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _rank_curve(axes: Axes, events: NDArray[np.float64]) -> None:
    ranked = np.sort(events)[::-1]
    # 300 points on a log scale: a million would draw the same line.
    ranks = np.unique(np.geomspace(1, len(ranked), 300).astype(int))
    axes.plot(ranks, ranked[ranks - 1], color=_ACCENT, linewidth=1.8)
    axes.set(xscale="log", yscale="log", xlabel="rank of the item", ylabel="events")
    _log_axis(axes.xaxis)
    _log_axis(axes.yaxis)


def _bars(figure: Figure, share: Mapping[str, float]) -> None:
    axes, total = figure.subplots(), sum(share.values()) or 1.0
    names = sorted(share, key=lambda name: share[name])
    bars = axes.barh(names, [share[name] / total for name in names], color=_ACCENT, height=0.6)
    axes.bar_label(bars, [f"{share[name] / total:.0%}" for name in names], padding=4)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.margins(x=0.12)
    axes.tick_params(left=False, bottom=False, labelbottom=False)


def _ridges(figure: Figure, scores: Mapping[str, NDArray[Any]]) -> None:
    """One histogram a source, each on its own scale: scores of two sources do not compare."""
    ridges = figure.subplots(len(scores), squeeze=False)[:, 0]
    for axes, (source, values) in zip(ridges, scores.items(), strict=True):
        numbers = np.asarray(values, np.float64)
        axes.hist(numbers[np.isfinite(numbers)], bins=48, color=_ACCENT)
        axes.set_ylabel(source, rotation=0, ha="right", va="center")
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False, labelleft=False, labelsize=7, pad=1, length=2)
        axes.locator_params(axis="x", nbins=5)
