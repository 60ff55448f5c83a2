import numpy as np
import pytest

from recsys.arrays import Histories
from recsys.users.recency import RecencyMean
from tests.contracts import UserModelContract

AXES = np.eye(3, dtype=np.float32)


def history(*events):
    """One user's events: (item row, type, day), oldest first."""
    items, types, days = zip(*events, strict=True)
    offsets = np.array([0, len(events)])
    return Histories(
        offsets=offsets,
        items=np.array(items, np.int32),
        types=np.array(types, np.int8),
        days=np.array(days, float),
    )


class TestRecencyMean(UserModelContract):
    def make(self):
        return RecencyMean(30.0, (1, 2, 3, 4))


def test_half_as_much_after_a_half_life():
    user = RecencyMean(10.0, (1, 1, 1, 1)).encode_history(history((0, 0, 90), (1, 0, 100)), AXES)[0]
    np.testing.assert_allclose(user, np.array([0.5, 1, 0]) / np.hypot(0.5, 1), rtol=1e-6)


def test_types_weigh():
    user = RecencyMean(10.0, (1, 2, 3, 4)).encode_history(history((0, 0, 5), (1, 3, 5)), AXES)[0]
    np.testing.assert_allclose(user, np.array([1, 4, 0]) / np.hypot(1, 4), rtol=1e-6)


def test_age_counts_from_the_newest_event_of_a_known_item():
    user = RecencyMean(0.01, (1, 1, 1, 1)).encode_history(
        history((2, 0, 1), (-1, 3, 20_000)), AXES
    )[0]
    assert user.tolist() == [0, 0, 1]


def test_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="half_life_days is 0"):
        RecencyMean(0, (1, 1, 1, 1))
    with pytest.raises(ValueError, match="2 type weights"):
        RecencyMean(1.0, (1, 1))
