import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.training import calibration

seeds = st.integers(0, 1000)


def drawn(seed, temperature=1.0, rows=4000, classes=5):
    """Logits and labels drawn from their own softmax; then the logits are sharpened by
    `temperature`."""
    rng = np.random.default_rng(seed)
    logits_NC = rng.normal(scale=2, size=(rows, classes))
    chances_NC = calibration.softmax(logits_NC)
    truth_N = (rng.random((rows, 1)) > chances_NC.cumsum(axis=1)).sum(axis=1)
    return logits_NC * temperature, truth_N


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_is_found(true):
    logits_NC, truth_N = drawn(0, true)
    assert calibration.temperature(logits_NC, truth_N) == pytest.approx(true, rel=0.07)


@given(seeds)
def test_the_temperature_does_not_harm_the_loss(seed):
    logits_NC, truth_N = drawn(seed, 2.0, rows=50)
    divisor = calibration.temperature(logits_NC, truth_N)
    assert (
        calibration.log_loss(logits_NC / divisor, truth_N)
        <= calibration.log_loss(logits_NC, truth_N) + 1e-4
    )


def test_log_loss_of_known_odds():
    assert calibration.log_loss(
        np.log([[3.0, 1.0], [1.0, 1.0]]), np.array([0, 1])
    ) == pytest.approx((np.log(4 / 3) + np.log(2)) / 2)


def test_calibration_error():
    """Ten answers at .8 of which six are right; a sharpened model is too sure."""
    sure_NC = np.tile([0.8, 0.2], (10, 1))
    assert calibration.calibration_error(sure_NC, np.array([0] * 6 + [1] * 4)) == pytest.approx(0.2)
    logits_NC, truth_N = drawn(1)
    assert calibration.calibration_error(calibration.softmax(logits_NC), truth_N) < 0.02
    assert calibration.calibration_error(calibration.softmax(4 * logits_NC), truth_N) > 0.1


def test_the_threshold_keeps_right_answers():
    sure_N = np.arange(50, 100) / 100
    scores_NC = np.stack([sure_N, 1 - sure_N], axis=1)
    truth_N = np.zeros(50, int)
    assert calibration.threshold(scores_NC, truth_N, coverage=0.9) == pytest.approx(0.54)
    assert calibration.threshold(scores_NC, 1 - truth_N) == 0


@given(seeds, st.floats(0.5, 1))
def test_at_least_the_asked_share_is_kept(seed, kept):
    logits_NC, truth_N = drawn(seed, rows=60)
    scores_NC = calibration.softmax(logits_NC)
    right_N = scores_NC.argmax(axis=1) == truth_N
    assert (
        scores_NC.max(axis=1)[right_N] >= calibration.threshold(scores_NC, truth_N, kept)
    ).mean() >= kept - 1e-9


def test_auroc():
    assert calibration.auroc(np.array([0.9, 0.8]), np.array([0.1, 0.85])) == 0.75
    assert calibration.auroc(np.ones(3), np.ones(4)) == 0.5
    assert calibration.auroc(np.array([2.0]), np.array([1.0])) == 1


def test_macro_f1():
    """Class 0: 2 of 2 given, 2 of 3 found, F1 .8; class 1: 1 of 2, 1 of 1, F1 2/3; class 2 occurs
    nowhere."""
    assert calibration.macro_f1(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 3) == pytest.approx(
        (0.8 + 2 / 3) / 2
    )
    assert calibration.macro_f1(np.array([0, 1]), np.array([0, -1]), 2) == 0.5
