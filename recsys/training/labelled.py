"""Labelled texts: validation, stratified and class-wise splits, class indices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from recsys.errors import InputError
from recsys.types import Ints

#: Longer texts, in characters, are refused.
MAX_CHARS = 10_000
#: Texts and their labels.
Labelled = tuple[Sequence[str], Sequence[str]]


def check_labelled(
    texts: Sequence[str], labels: Sequence[str], known_labels: Sequence[str] | None = None
) -> None:
    """Raises InputError with the first thing that is wrong, and where."""
    if len(texts) != len(labels):
        raise InputError(
            f"there are {len(texts)} texts and {len(labels)} labels: give each text one label"
        )
    if not len(texts):
        raise InputError("there are no labelled texts: the file is empty")
    for place, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        if not text.strip():
            raise InputError(f"text {place} (label {label!r}) is empty: fill it or remove the row")
        if len(text) > MAX_CHARS:
            raise InputError(
                f"text {place} has {len(text):,} characters: "
                f"cut it to {MAX_CHARS:,} or remove the row"
            )
        if not label.strip():
            raise InputError(
                f"text {place} ({text[:40]!r}) has no label: fill it or remove the row"
            )
    unknown = sorted(set(labels) - set(labels if known_labels is None else known_labels))
    if unknown:
        examples = ", ".join(unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        raise InputError(
            f"{len(unknown)} labels are unknown: {examples}; correct them or remove their rows"
        )


def stratified_split(
    texts: Sequence[str], labels: Sequence[str], share: float, seed: int
) -> tuple[Labelled, Labelled]:
    """(A stratified `share`, the rest): of each class its rounded part, so none of a class of few;
    where that is nothing at all, one of each class of two or more. Raises InputError where every
    class has one text."""
    order = np.random.default_rng(seed).permutation(len(labels))
    sizes = Counter(labels)
    quota = {label: round(size * share) for label, size in sizes.items()}
    if not any(quota.values()):
        quota = {label: min(1, size - 1) for label, size in sizes.items()}
    if not any(quota.values()):
        raise InputError(
            f"each of {len(sizes)} classes has one text: add texts, or give some to validate on"
        )
    parts: tuple[list[int], list[int]] = ([], [])
    for place in order:
        in_share = quota[labels[place]] > 0
        quota[labels[place]] -= in_share
        parts[not in_share].append(place)
    first, rest = (
        ([texts[at] for at in sorted(part)], [labels[at] for at in sorted(part)]) for part in parts
    )
    return first, rest


def class_rows(labels: Sequence[str], classes: Sequence[str]) -> Ints:
    """[N] each label's index in `classes`."""
    place = {name: at for at, name in enumerate(classes)}
    return np.array([place[label] for label in labels], np.int64)


def hold_out_classes(labels: Sequence[str], share: float, seed: int) -> set[str]:
    """A random `share` of the classes, to be kept out of training."""
    classes = sorted(set(labels))
    order = np.random.default_rng(seed).permutation(classes)
    return set(order[: round(share * len(classes))].tolist())


def split_by_class(rows: Labelled, classes: Collection[str]) -> tuple[Labelled, Labelled]:
    """(The texts of all other classes, those of `classes`), in their order."""
    parts: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for text, label in zip(*rows, strict=True):
        parts[label in classes].append((text, label))
    first, second = (([text for text, _ in part], [label for _, label in part]) for part in parts)
    return first, second
