"""The simulation as a picture: regret by day and policy, and the examination curve, estimated and
true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from recsys.ranking.examination import Examination


def plot_simulation(
    path: Path,
    regret_PD: Mapping[str, Sequence[float]],
    estimate: Examination,
    truth_K: Sequence[float],
) -> None:
    """Writes a PNG. `regret_PD` is the mean regret of a request by policy and day, `truth_K` the
    true examination probability of each position."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    days, curve = figure.subplots(1, 2)
    for name, values in regret_PD.items():
        days.plot(range(1, len(values) + 1), values, marker="o", label=name)
    first = next(iter(regret_PD.values()))[0]
    for share, style in ((1 / 2, "--"), (1 / 3, ":")):
        days.axhline(share * first, color="grey", linestyle=style, linewidth=1)
    days.set(xlabel="day", ylabel="regret, clicks a request", ylim=(0, None))
    days.set_title("Regret against the ideal ranking")
    days.legend(frameon=False)
    curve.plot(range(1, len(truth_K) + 1), truth_K, color="black", label="true")
    positions = range(1, len(estimate.curve_K) + 1)
    curve.plot(positions, estimate.curve_K, marker="o", label="estimated from the log")
    curve.fill_between(positions, estimate.low_K, estimate.high_K, alpha=0.2)
    curve.set(xlabel="position", ylabel="examination probability", ylim=(0, 1.05))
    curve.set_title("Examination")
    curve.legend(frameon=False)
    figure.savefig(path, dpi=110)
