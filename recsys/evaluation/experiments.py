"""Text tables of the analysis of an experiment (`experiments.analysis`)."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.evaluation.results import Column, Row, text_table
from recsys.experiments.analysis import METRICS


def experiment_tables(rows: Sequence[Row]) -> str:
    """A table of the arms for each metric, a line for each check, and a table of estimates."""
    of_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in _KINDS}
    parts = []
    if of_kind["arm"]:
        parts += [text_table(of_kind["arm"], _arm_columns(metric)) for metric in METRICS]
    parts += [_ratio_line(row) for row in of_kind["ratio"]]
    parts += [_preference_line(row) for row in of_kind["preference"]]
    if of_kind["estimate"]:
        columns = (Column("slice"), Column("requests", ","), Column("clicks", ".4f"))
        parts.append(text_table(of_kind["estimate"], columns))
    return "\n".join(parts)


_KINDS = ("arm", "ratio", "preference", "estimate")


def _arm_columns(metric: str) -> list[Column | str]:
    return [
        "slice",
        Column("requests", ","),
        Column("users", ","),
        Column(metric, ".4f"),
        Column(f"{metric}/difference", ".4f", "difference"),
        Column(f"{metric}/p", ".4f", "p"),
    ]


def _ratio_line(row: Row) -> str:
    mismatch = ", MISMATCH" if row["mismatch"] else ""
    return f"sample ratio: chi2 {row['chi2']:.2f}, p {row['p']:.4f}{mismatch}"


def _preference_line(row: Row) -> str:
    return (
        f"{row['name']}: {row['wins']:,} wins, {row['losses']:,} losses, {row['ties']:,} ties, "
        f"preference {Column('preference', '.4f').cell(row)}, p {row['p']:.4f}, "
        f"by sign {row['p/sign']:.4f}"
    )
