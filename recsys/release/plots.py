"""Plots of the release report as inline SVG. Looked at by people: no test counts their pixels."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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


def svg(draw: Callable[[Figure], None]) -> str:
    """A figure as inline SVG in the colours of the page."""
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


def log_histogram(axes: Axes, values: NDArray[np.float64], unit: str, what: str) -> None:
    """Positive values on a log scale, with their median."""
    low, high = values.min(), values.max()
    axes.hist(values, bins=np.geomspace(low, max(high, low * 1.01), 33).tolist(), color=_ACCENT)
    axes.set(xscale="log", xlabel=f"{unit} (median {np.median(values):,.4g})", ylabel=what)
    _log_axis(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def rank_curve(axes: Axes, events: NDArray[np.float64]) -> None:
    """Events by rank, both on a log scale: Zipf's curve."""
    ranked = np.sort(events)[::-1]
    # 300 points on a log scale: a million would draw the same line.
    ranks = np.unique(np.geomspace(1, len(ranked), 300).astype(int))
    axes.plot(ranks, ranked[ranks - 1], color=_ACCENT, linewidth=1.8)
    axes.set(xscale="log", yscale="log", xlabel="rank of the item", ylabel="events")
    _log_axis(axes.xaxis)
    _log_axis(axes.yaxis)


def bar_shares(figure: Figure, share: Mapping[str, float]) -> None:
    """Each name's share of the sum, as a labelled bar."""
    axes, total = figure.subplots(), sum(share.values()) or 1.0
    names = sorted(share, key=lambda name: share[name])
    bars = axes.barh(names, [share[name] / total for name in names], color=_ACCENT, height=0.6)
    axes.bar_label(bars, [f"{share[name] / total:.0%}" for name in names], padding=4)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.margins(x=0.12)
    axes.tick_params(left=False, bottom=False, labelbottom=False)


def score_ridges(figure: Figure, scores: Mapping[str, NDArray[Any]]) -> None:
    """One histogram a source, each on its own scale: scores of two sources do not compare."""
    ridges = figure.subplots(len(scores), squeeze=False)[:, 0]
    for axes, (source, values) in zip(ridges, scores.items(), strict=True):
        numbers = np.asarray(values, np.float64)
        axes.hist(numbers[np.isfinite(numbers)], bins=48, color=_ACCENT)
        axes.set_ylabel(source, rotation=0, ha="right", va="center")
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False, labelleft=False, labelsize=7, pad=1, length=2)
        axes.locator_params(axis="x", nbins=5)
