"""The query intent classifier: which category a query asks for, learned from its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recsys.datasets.judgments import JudgedPairs
from recsys.encoders.transformer import TransformerEncoder
from recsys.learning.options import Say
from recsys.training import INTENT
from recsys.training.classifier import SCHEDULE, train_classifier


def train_intents(
    categories: Sequence[str],
    pairs: JudgedPairs,
    base: TransformerEncoder,
    folder: Path,
    *,
    seed: int = 0,
    say: Say = print,
    resume: bool = False,
) -> dict[str, float]:
    """Trains the classifier on each query's majority category and writes INTENT into `folder`.

    Returns {} and writes nothing where fewer than two categories have two queries each: such a shop
    has no intents."""
    label_of = majority_categories(categories, pairs)
    classes = {label for label, count in Counter(label_of.values()).items() if count > 1}
    if len(classes) < 2:
        say("no intents: the answers of the queries lie in fewer than two categories")
        return {}
    labelled = {text: label for text, label in label_of.items() if label in classes}
    say(f"training intents: {len(labelled):,} queries of {len(classes):,} categories")
    metrics = train_classifier(
        list(labelled),
        list(labelled.values()),
        base,
        folder / INTENT,
        replace(SCHEDULE, seed=seed, log_dir=folder / "logs" / INTENT),
        known_labels=categories,
        say=say,
        resume=resume,
    )
    return {"intent/accuracy": metrics["accuracy"], "intent/macro_f1": metrics["macro_f1"]}


def majority_categories(categories: Sequence[str], pairs: JudgedPairs) -> dict[str, str]:
    """Of each query the category that most of its answers have, ties broken by the alphabet; a
    query whose answers have none is left out."""
    offsets, rows = pairs.relevant()
    majority = {}
    for text, low, high in zip(pairs.queries, offsets[:-1], offsets[1:], strict=True):
        counts = Counter(categories[row] for row in rows[low:high] if categories[row])
        if counts:
            majority[text] = min(counts, key=lambda label: (-counts[label], label))
    return majority
