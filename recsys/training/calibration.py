"""Calibration of class probabilities (temperature scaling, ECE), the rejection threshold, AUROC and
macro-F1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.types import Ints

Array = NDArray[np.floating]


def softmax(logits_NC: Array) -> Array:
    """Along the last axis, in float64."""
    exp_NC = np.exp(logits_NC - logits_NC.max(axis=-1, keepdims=True), dtype=np.float64)
    return exp_NC / exp_NC.sum(axis=-1, keepdims=True)


def log_loss(logits_NC: Array, truth_N: Ints) -> float:
    """Mean negative log-likelihood, in nats."""
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    logs_N = np.log(np.exp(shifted_NC, dtype=np.float64).sum(axis=1))
    return float(np.mean(logs_N - shifted_NC[np.arange(len(truth_N)), truth_N]))


def temperature(logits_NC: Array, truth_N: Ints) -> float:
    """Temperature scaling: the divisor of the logits with the least log loss (Guo et al., ICML
    2017): the best of 0.05 to 20 by 1 % steps.

    Where every answer is right, the loss falls with the temperature without end: then 0.05 says
    "certain"."""
    grid = np.exp(np.arange(np.log(0.05), np.log(20), 0.01))
    return float(min(grid, key=lambda divisor: log_loss(logits_NC / divisor, truth_N)))


def calibration_error(probabilities_NC: Array, truth_N: Ints, bins: int = 15) -> float:
    """Expected calibration error: |accuracy - confidence| over equal bins of confidence, weighted
    by their size."""
    confidence_N, correct_N = (
        probabilities_NC.max(axis=1),
        probabilities_NC.argmax(axis=1) == truth_N,
    )
    bin_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_N, correct_N - confidence_N, bins)
    return float(np.abs(gaps).sum() / len(truth_N))


def threshold(probabilities_NC: Array, truth_N: Ints, coverage: float = 0.95) -> float:
    """The rejection threshold: the confidence that the share `coverage` of the right answers
    reaches; 0 where none is right."""
    correct_N = probabilities_NC.argmax(axis=1) == truth_N
    return (
        float(np.quantile(probabilities_NC.max(axis=1)[correct_N], 1 - coverage, method="lower"))
        if correct_N.any()
        else 0.0
    )


def auroc(inside_N: Array, outside_M: Array) -> float:
    """Area under the ROC curve: the probability that an in-domain score is above an out-of-domain
    one; ties count half."""
    outside_M = np.sort(outside_M)
    below_N = np.searchsorted(outside_M, inside_N, "left") + np.searchsorted(
        outside_M, inside_N, "right"
    )
    return float(below_N.mean() / 2 / len(outside_M))


def macro_f1(truth_N: Ints, predicted_N: Ints, classes: int) -> float:
    """The mean of the classes' F1 over those that occur in `truth_N` or `predicted_N`; a prediction
    of -1 is none."""
    hits_C = np.bincount(truth_N[truth_N == predicted_N], minlength=classes)
    predicted_C = np.bincount(predicted_N[predicted_N >= 0], minlength=classes)
    true_C = np.bincount(truth_N, minlength=classes)
    seen_C = (predicted_C + true_C) > 0
    return float(np.mean(2 * hits_C[seen_C] / (predicted_C + true_C)[seen_C]))
