"""The simulated days as a picture: regret by day and policy, and the curve of examination as
estimated and as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from recsys.ranking.examination import Examination


def draw(
    path: Path,
    regret_PD: Mapping[str, Sequence[float]],
    estimated: Examination | None,
    truth_K: Sequence[float],
) -> None:
    """Writes a PNG. `regret_PD`: clicks a request short of the best order's, by policy, a day each;
    `truth_K` is the chance that each place is looked at."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    days, curve = figure.subplots(1, 2)
    for name, values in regret_PD.items():
        days.plot(range(1, len(values) + 1), values, marker="o", label=name)
    first = next(iter(regret_PD.values()))[0]
    for share, style in ((1 / 2, "--"), (1 / 3, ":")):
        days.axhline(share * first, color="grey", linestyle=style, linewidth=1)
    days.set(
        xlabel="day",
        ylabel="regret, clicks a request",
        title="Regret against the true best order",
        ylim=(0, None),
    )
    days.legend(frameon=False)
    places = range(1, len(truth_K) + 1)
    curve.plot(places, truth_K, color="black", label="true")
    if estimated is not None:
        shown = range(1, len(estimated.curve_K) + 1)
        curve.plot(shown, estimated.curve_K, marker="o", label="estimated from the log")
        curve.fill_between(shown, estimated.low_K, estimated.high_K, alpha=0.2)
    curve.set(xlabel="place", ylabel="chance to be looked at", title="Examination", ylim=(0, 1.05))
    curve.legend(frameon=False)
    figure.savefig(path, dpi=110)
