"""Trees of one feature alone, and what they say of a score."""

import lightgbm
import numpy as np
import pytest

from recsys.errors import NotFoundError
from recsys.interfaces import ExplainableRanker
from recsys.ranking.trees import TreeRanker, save_trees
from tests.contracts import ExplainedContract

NAMES = ("good", "bad", "idle")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Trees that learned good - bad."""
    features_NF = np.random.default_rng(0).normal(size=(2000, 3))
    data = lightgbm.Dataset(features_NF, features_NF[:, 0] - features_NF[:, 1])
    folder = tmp_path_factory.mktemp("trees")
    save_trees(
        lightgbm.train({"verbose": -1, "num_threads": 1, "num_leaves": 8}, data, 40), NAMES, folder
    )
    return folder


class TestTrees(ExplainedContract):
    @pytest.fixture(autouse=True)
    def _opened(self, folder):
        self.folder = folder

    def make(self) -> ExplainableRanker:
        return TreeRanker(self.folder)


def test_what_is_good_comes_first(folder):
    features_BNF = np.array([[[-1, 1, 0], [1, -1, 0], [1, 1, 5]]], np.float32)
    ranker = TreeRanker(folder)
    assert (-ranker.score(features_BNF)).argsort().tolist() == [[1, 2, 0]]
    good, bad, idle, base = ranker.contributions(features_BNF)[0, 1]
    assert good > 0.5
    assert bad > 0.5
    assert abs(idle) < 0.1
    assert abs(base) < 0.1


def test_a_folder_without_trees_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="has no trees"):
        TreeRanker(tmp_path)
    with pytest.raises(NotFoundError, match="has no trees"):
        TreeRanker(tmp_path / "gone")
