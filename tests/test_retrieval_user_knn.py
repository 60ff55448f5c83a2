import numpy as np

from recsys.arrays import Histories, Requests
from recsys.retrieval.behaviour.user_knn import UserKnnRetriever, most_recent_users
from recsys.types import PURCHASE
from tests.contracts import ScorerContract, answers, shoppers


def bought(*users):
    """Histories of users, each a list of (item, day)."""
    events = [event for user in users for event in user]
    items, days = (np.array(column) for column in zip(*events, strict=True))
    types = np.full(len(items), PURCHASE, np.int8)
    return Histories(
        offsets=np.cumsum([0, *map(len, users)]),
        items=items.astype(np.int32),
        types=types,
        days=days.astype(float),
    )


class TestPeers(ScorerContract):
    """One peer bought everything: every item can be found."""

    def make(self):
        random = np.random.default_rng(9)
        some = [
            [(item, day) for day, item in enumerate(random.permutation(60)[:9])] for _ in range(20)
        ]
        return UserKnnRetriever(
            bought([(item, item) for item in range(self.ITEMS)], *some), self.ITEMS, now_days=60.0
        )


def test_likeness_squared_of_a_worked_example():
    """Peer 0 shares item 0 (of 2 peers' three) with the user, peer 1 item 1: ln(3 / 1) each; 2 and
    3 are theirs."""
    source = UserKnnRetriever(
        bought([(0, 0), (2, 7)], [(1, 0), (3, 0)]), 4, now_days=7.0, half_life_days=7.0
    )
    requests = Requests(size=1, histories=bought([(0, 5), (1, 5)]))
    weight = np.log(3) ** 2
    likeness = weight / (1 + 2 * weight)
    expected = [0, 0, likeness**2, likeness**2 / 2]
    np.testing.assert_allclose(
        source.score(requests, np.array([[0, 1, 2, 3]]))[0, 2:], expected[2:], rtol=1e-5
    )
    assert answers(source.retrieve(requests, 4)) == [[2, 3]]


def test_who_shares_more_counts_more_and_a_thing_that_all_have_says_little():
    near, far = [(0, 0), (1, 0), (2, 0), (5, 0)], [(0, 0), (3, 0), (4, 0), (6, 0)]
    source = UserKnnRetriever(bought(near, far), 7, now_days=0.0)
    assert answers(
        source.retrieve(Requests(size=1, histories=bought([(0, 0), (1, 0), (2, 0)])), 1)
    ) == [[5]]


def test_nobody_alike_no_candidates():
    source = UserKnnRetriever(bought([(0, 0), (1, 0)]), 3, now_days=0.0)
    assert answers(source.retrieve(Requests(size=1, histories=bought([(2, 0)])), 3)) == [[]]
    assert source.retrieve(Requests(size=2), 3).rows_BN.shape == (2, 0)
    assert source.score(Requests(size=1), np.array([[1]], np.int32)).tolist() == [[0]]
    nobody = UserKnnRetriever(Histories.empty(0), 3, now_days=0.0)
    assert answers(nobody.retrieve(Requests(size=1, histories=bought([(2, 0)])), 3)) == [[]]


def test_the_latest_users_are_kept_whole_and_in_order():
    known = bought([(0, 1), (1, 9)], [(2, 3)], [(3, 2), (4, 8)], [(5, 7)])
    kept = most_recent_users([known.slice(0, 2), Histories.empty(3), known.slice(2, 4)], limit=2)[0]
    assert (kept.offsets.tolist(), kept.items.tolist()) == ([0, 2, 4], [0, 1, 3, 4])
    assert len(most_recent_users([])[0]) == 0


def test_all_users_of_a_small_shop_are_peers():
    known = shoppers()
    np.testing.assert_array_equal(
        most_recent_users([known.slice(0, 3), known.slice(3, len(known))])[0].items, known.items
    )


def test_what_a_neighbour_did_a_week_ago_counts_half_and_ten_weeks_ago_not_at_all():
    neighbours = bought([(0, 0), (3, 30)], [(1, 0), (4, 37)], [(2, -40), (5, -36)])
    source = UserKnnRetriever(neighbours, 6, now_days=37.0)
    requests = Requests(size=1, histories=bought([(0, 5), (1, 5), (2, 5)]))
    scores = source.score(requests, np.array([[3, 4, 5]]))[0]
    np.testing.assert_allclose(scores[0] / scores[1], 0.5, rtol=1e-6)
    assert scores[2] == 0


def test_one_account_is_one_buyer():
    """Peer 0 bought 1 two hundred times, peers 1 and 2 bought 2 once each; all share 0."""
    till = [(0, 0), *[(1, 0)] * 200]
    source = UserKnnRetriever(bought(till, [(0, 0), (2, 0)], [(0, 0), (2, 0)]), 3, now_days=0.0)
    requests = Requests(size=1, histories=bought([(0, 0)]))
    one, two = source.score(requests, np.array([[1, 2]], np.int32))[0]
    assert answers(source.retrieve(requests, 2)) == [[2, 1]]
    assert one < two
