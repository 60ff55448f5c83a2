from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.arrays import Histories
from recsys.errors import InputError
from recsys.training.next_item import NextItemLoss, Windows
from recsys.training.schedule import Schedule
from recsys.training.splits import NextItemTargets, leave_last_out
from recsys.training.user_recipe import UserModelRecipe
from recsys.training.users import train_user_model
from recsys.types import PURCHASE
from recsys.users.sasrec import gap_buckets
from recsys.users.sequence import SequenceModel
from tests.contracts import UserModelContract

#: Twelve items in a ring: after item i comes i + 1. Item 12 is a twin of item 3 by its content;
#: nobody has touched it.
RING, TWIN = 12, 3
ITEMS = pa.table(
    {
        "item_id": [f"i{row:02}" for row in range(RING + 1)],
        "title": [f"word{row % RING}" if row < RING else f"word{TWIN}" for row in range(RING + 1)],
        "price": pa.array([None] * (RING + 1), pa.float64()),
        **{name: [""] * (RING + 1) for name in ("brand", "category", "description", "attributes")},
    }
)
VECTORS = np.eye(RING, dtype=np.float32)[[*range(RING), TWIN]]
SCHEDULE = Schedule(epochs=40, batch_size=32, learning_rate=5e-3, patience=0)
RECIPE = UserModelRecipe(schedule=SCHEDULE, dim=16, layers=1, heads=2, length=6, dropout=0.0)


def histories(*users, types=PURCHASE, step=1.0) -> Histories:
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64)
    items = np.array([item for user in users for item in user], np.int32)
    days = np.array([step * place for user in users for place in range(len(user))])
    return Histories(
        offsets=offsets, items=items, types=np.full(len(items), types, np.int8), days=days
    )


def ring(start: int, length: int) -> list[int]:
    return [(start + place) % RING for place in range(length)]


TRAIN = histories(*(ring(start, 5) for start in range(RING) for _ in range(8)))
VALID = NextItemTargets(
    histories(*(ring(start, 3) for start in range(RING))), np.array(ring(3, RING), np.int32)
)


def trained(folder, recipe=RECIPE, **kept) -> SequenceModel:
    train_user_model(TRAIN, VALID, ITEMS, VECTORS, folder=folder, recipe=recipe, **kept)
    return SequenceModel(folder, device="cpu", threads=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> SequenceModel:
    return trained(tmp_path_factory.mktemp("user_model"))


def next_items(model: SequenceModel, asked: Histories) -> list[int]:
    places_ID = model.embed_items(ITEMS, VECTORS)
    scores_BI = model.encode_history(asked, places_ID) @ places_ID.T
    scores_BI[asked.owners_E, asked.items] = -np.inf
    return [TWIN if item == RING else item for item in scores_BI.argmax(axis=1).tolist()]


def found(model: SequenceModel) -> float:
    return float(np.mean(np.array(next_items(model, VALID.histories)) == VALID.next_B))


class TestSequenceModel(UserModelContract):
    CATALOGUE, VECTORS = ITEMS, VECTORS

    @pytest.fixture(autouse=True)
    def _model(self, model):
        self.model = model

    def make(self):
        return self.model


def test_foretells_the_next_item(model):
    assert found(model) > 0.9


def test_a_sampled_softmax_learns_it_too(tmp_path):
    recipe = replace(RECIPE, full_below=0, negatives=8, schedule=replace(SCHEDULE, epochs=80))
    sampled = trained(tmp_path, recipe)
    assert found(sampled) > 0.7


def test_an_item_nobody_touched_lies_beside_its_twin(model):
    places_ID = model.embed_items(ITEMS, VECTORS)
    apart_I = np.linalg.norm(places_ID - places_ID[RING], axis=1)
    assert np.argsort(apart_I)[1] == TWIN


def test_a_residual_counts_little_where_there_is_little_data(tmp_path):
    rare = histories(*(ring(0, 4) for _ in range(30)), [0, 7])
    train_user_model(
        rare, VALID, ITEMS, VECTORS, folder=tmp_path, recipe=replace(RECIPE, shrinkage=10.0)
    )
    model = SequenceModel(tmp_path, device="cpu")
    lengths = np.linalg.norm(model.residuals_ID, axis=1)
    assert model.item_ids.to_pylist() == ["i00", "i01", "i02", "i03", "i07"]
    assert 0 < lengths[4] < lengths[:4].min() / 2


def test_an_item_of_another_release_is_found_by_its_id(model):
    backwards = ITEMS.take(pa.array(range(RING, -1, -1)))
    np.testing.assert_allclose(
        model.embed_items(backwards, VECTORS[::-1].copy())[::-1],
        model.embed_items(ITEMS, VECTORS),
        atol=1e-5,
    )


def test_only_the_newest_events_are_read(model):
    long, short = histories([7, 7, 7, *ring(0, 6)]), histories(ring(0, 6))
    places_ID = model.embed_items(ITEMS, VECTORS)
    np.testing.assert_allclose(
        model.encode_history(long, places_ID), model.encode_history(short, places_ID), atol=1e-5
    )


def test_a_history_of_100_000_events_and_events_at_one_instant(model):
    places_ID = model.embed_items(ITEMS, VECTORS)
    vector_BD = model.encode_history(histories(ring(0, 100_000), step=0.0), places_ID)
    np.testing.assert_allclose(np.linalg.norm(vector_BD, axis=1), 1, atol=1e-5)


def test_every_event_follows_another_in_one_window():
    windows = Windows.of(histories(range(12), [5], [3, 4]), 4)
    pairs = [(low, high) for low, high in zip(windows.starts_W, windows.stops_W, strict=True)]
    assert pairs == [(7, 12), (3, 8), (0, 4), (13, 15)]


def test_what_a_user_had_before_is_no_target():
    windows = Windows.of(histories([1, 2, 1, 2, 3]), 50)
    assert (windows.weights_E > 0).tolist() == [True, True, False, False, True]
    assert not len(Windows.of(histories([1, 1, 1]), 50).starts_W)


def test_weak_events_weigh_less():
    windows = Windows.of(histories([1, 2], types=0), 50)
    np.testing.assert_allclose(windows.weights_E, 0.1)


def test_the_sampled_loss_estimates_the_full_one():
    """The mean of its sums over many draws is the sum over all items."""
    events_I = np.arange(1.0, 201.0)
    loss = NextItemLoss(Windows.of(TRAIN, 6), replace(RECIPE, full_below=0, negatives=64), events_I)
    scores_I, sums = np.sin(np.arange(200.0)), []
    np.random.seed(0)
    for _ in range(600):
        rows_N, odds_N = loss._candidates(np.array([0]))
        sums.append(np.exp(scores_I[rows_N] + odds_N).sum())
    assert np.mean(sums) == pytest.approx(np.exp(scores_I).sum(), rel=0.02)


def test_last_held_out_takes_newest_events_that_are_new():
    before, foretold = leave_last_out(histories([1, 2, 3], [1, 2], [4, 5, 4], [6, 7, 8, 9]))
    assert np.diff(before.offsets).tolist() == [2, 2, 3, 3]
    assert (foretold.next_B.tolist(), np.diff(foretold.histories.offsets).tolist()) == (
        [3, 9],
        [2, 3],
    )


def test_gaps_double():
    minutes = torch.tensor([-5.0, 0.0, 1.0, 3.0, 1440.0, 1e9])
    assert gap_buckets(minutes / 1440).tolist() == [0, 0, 1, 2, 10, 23]


@pytest.mark.parametrize("nothing", [Histories.empty(3), histories([1], [2])])
def test_nothing_to_learn_from_is_said(nothing, tmp_path):
    with pytest.raises(InputError, match="no second item"):
        train_user_model(nothing, VALID, ITEMS, VECTORS, folder=tmp_path, recipe=RECIPE)


def test_same_seed_same_model(tmp_path):
    short = replace(RECIPE, schedule=replace(SCHEDULE, epochs=1))
    first, second = (
        trained(tmp_path / name, short).embed_items(ITEMS, VECTORS) for name in ("a", "b")
    )
    np.testing.assert_array_equal(first, second)


def test_resumes(tmp_path):
    recipe = replace(RECIPE, schedule=replace(SCHEDULE, epochs=2, log_dir=tmp_path / "logs"))
    whole, said = trained(tmp_path / "m", recipe).embed_items(ITEMS, VECTORS), []
    again = trained(tmp_path / "n", recipe, say=said.append, resume=True).embed_items(
        ITEMS, VECTORS
    )
    assert any("resumed after step" in line for line in said)
    np.testing.assert_array_equal(whole, again)


@pytest.mark.slow
def test_two_workers_learn_it_too(tmp_path):
    address = f"file://{tmp_path / 'meeting'}"
    torch.multiprocessing.spawn(_work, (address, str(tmp_path / "together")), nprocs=2)
    together = SequenceModel(tmp_path / "together", device="cpu", threads=1)
    assert found(together) > 0.9


def _work(rank: int, address: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    train_user_model(TRAIN, VALID, ITEMS, VECTORS, folder=Path(folder), recipe=RECIPE)
    torch.distributed.destroy_process_group()
