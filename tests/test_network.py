"""The network before it is taught anything, and what it says of a score."""

import time

import numpy as np
import pytest
import torch

from recsys.errors import InputError, NotFoundError
from recsys.interfaces import ExplainableRanker
from recsys.ranking.network import NetRanker, Network, Shape, load_network, save_network
from tests.contracts import ExplainedContract

NAMES = (
    "price",
    "age",
    *(f"{block}.{at}" for block in ("query", "item", "user", "taste") for at in range(4)),
)


def network(seed=0):
    torch.manual_seed(seed)
    made = Network(NAMES, Shape(hidden=(8, 4), rank=4))
    made.fit_normalisation(np.random.default_rng(0).normal(100, 20, size=(500, len(NAMES))))
    return made


@pytest.fixture
def ranker(tmp_path):
    save_network(network(), tmp_path)
    return NetRanker(tmp_path)


class TestNetwork(ExplainedContract):
    @pytest.fixture(autouse=True)
    def _saved(self, tmp_path):
        save_network(network(), tmp_path)
        self.folder = tmp_path

    def make(self) -> ExplainableRanker:
        return NetRanker(self.folder)


def drawn(size=2, candidates=5):
    return np.random.default_rng(1).normal(size=(size, candidates, len(NAMES))).astype(np.float32)


def test_the_base_is_the_score_of_the_mean_without_vectors(ranker):
    """What the quadrature misses goes there too: it is small."""
    nothing = ranker.network.score_inputs(torch.zeros(1, 1, len(NAMES))).item()
    np.testing.assert_allclose(ranker.contributions(drawn())[..., -1], nothing, atol=1e-4)
    mean_F = np.zeros(len(NAMES), np.float32)
    mean_F[:2] = np.expm1(ranker.network.mean_S.numpy())
    np.testing.assert_allclose(ranker.score(mean_F[None, None]), nothing, atol=1e-5)
    np.testing.assert_allclose(ranker.contributions(mean_F[None, None])[..., :-1], 0, atol=1e-5)


def test_a_vector_that_is_not_there_makes_no_product():
    """A network that sees products alone does not see an item without a query."""
    made = network().eval()
    with torch.no_grad():
        made.out.weight.zero_()
        made.out.weight[0, len(NAMES) : len(NAMES) + 4] = 1  # query x item, as crossed
        for cross in made.crosses:
            cross.up.weight.zero_(), cross.up.bias.zero_()
        features = torch.from_numpy(drawn())
        products = made(features) - made.out.bias
        np.testing.assert_allclose(
            products, 4 * (features[..., 2:6] * features[..., 6:10]).sum(-1), rtol=1e-4
        )
        features[..., 2:6] = 0
        np.testing.assert_allclose(made(features), made.out.bias.expand(2, 5), atol=1e-6)


def test_what_never_varied_and_what_is_far_out_do_not_shout():
    made = Network(("constant", "price"))
    made.fit_normalisation(np.array([[3, 1], [3, 1000]], np.float32))
    entering = made.inputs(torch.tensor([[3.0, 1.0], [4.0, 1e30]]))
    assert entering[0, 0].abs() < 1e-6
    assert entering[1].abs().max() == pytest.approx(8)
    assert entering[1, 0] < 0.3


def test_it_comes_back_as_it_was_saved(tmp_path):
    made = network().eval()
    save_network(made, tmp_path)
    again = load_network(tmp_path)
    assert (again.names, again.shape) == (made.names, made.shape)
    features = torch.from_numpy(drawn())
    np.testing.assert_array_equal(again(features).detach(), made(features).detach())


def test_blocks_of_a_pair_are_equally_long(tmp_path):
    with pytest.raises(InputError, match="2 numbers of query and 1 of item"):
        Network(("query.0", "query.1", "item.0"))
    with pytest.raises(InputError, match="0 numbers of user and 1 of taste"):
        Network(("taste.0",))
    with pytest.raises(NotFoundError, match="has no network"):
        NetRanker(tmp_path)


def test_a_hundred_candidates_are_scored_in_milliseconds(tmp_path):
    """0.4 ms on an idle core; the bound is for a busy one, and by the best of many."""
    names = [f"s{at}" for at in range(16)] + [
        f"{b}.{at}" for b in ("query", "item", "user", "taste") for at in range(16)
    ]
    save_network(Network(names), tmp_path)
    ranker, features_BNF = NetRanker(tmp_path), np.zeros((1, 100, 80), np.float32)
    seconds = []
    for _ in range(50):
        begun = time.perf_counter()
        ranker.score(features_BNF)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 2e-3
