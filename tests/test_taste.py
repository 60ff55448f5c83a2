"""A user model on its way from training through a night to an answer, in one process: what it
learned is what is shown.

It learned from a ring: after item i comes i + 1, which is of the other colour and so in nobody's
basket. Only a release with its places for the items can say so."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs import train_models
from recsys.arrays import Histories
from recsys.batch import night, planning
from recsys.config import Setup
from recsys.datasets.repeats import deduplicate
from recsys.datasets.validate import check_items
from recsys.encoders.text import item_texts
from recsys.interfaces import Ranker
from recsys.models.composition import build_recommender, with_models
from recsys.models.store import publish_models
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.sources import SOURCES
from recsys.ranking.linear import RETAIL_WEIGHTS, LinearRanker
from recsys.ranking.mixer import Mixer
from recsys.ranking.projection import P
from recsys.release import files
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.training import USER_MODEL
from recsys.training.schedule import Schedule
from recsys.training.splits import NextItemTargets
from recsys.training.user_recipe import UserModelRecipe
from recsys.training.users import train_user_model
from recsys.types import PURCHASE, Interaction, Query
from recsys.users.sequence import SequenceModel
from tests.checkerboard import ITEMS, UNTIL, Checkerboard, setup
from tests.in_process import in_this_process

DIM = 16
#: The night's sources, of which only the one by taste counts.
BY_TASTE = LinearRanker(dict.fromkeys(RETAIL_WEIGHTS, 0.0) | {"discovery": 1.0})


def ring(starts: range, length: int) -> Histories:
    items = [[(start + place) % ITEMS for place in range(length)] for start in starts]
    days = np.tile(np.arange(length, dtype=np.float64), len(items))
    types = np.full(len(days), PURCHASE, np.int8)
    return Histories(
        offsets=np.arange(len(items) + 1) * length,
        items=np.array(items, np.int32).ravel(),
        types=types,
        days=days,
    )


def catalogue() -> pa.Table:
    shop = Checkerboard(UNTIL)
    judged = [
        check_items(shop.read_items(chunk), chunk.path, chunk.start).good
        for chunk in shop.item_chunks()
    ]
    return deduplicate(pa.concat_tables(judged), "item_id").good


def train(folder: Path) -> None:
    items = catalogue()
    vectors_ID = setup().encoder().encode_items(item_texts(items))
    targets = NextItemTargets(
        ring(range(ITEMS), 3), ((np.arange(ITEMS) + 3) % ITEMS).astype(np.int32)
    )
    every = [at for at in range(ITEMS) for _ in range(8)]
    log = ring(range(ITEMS), 5).users(np.array(every))
    recipe = UserModelRecipe(
        schedule=Schedule(epochs=40, batch_size=32, learning_rate=5e-3, patience=0),
        dim=DIM,
        layers=1,
        heads=2,
        length=6,
        dropout=0.0,
    )
    by_residuals = replace(
        recipe, residual_dropout=0.0, shrinkage=0.5
    )  # the two colours of a thing read alike
    train_user_model(
        log, targets, items, vectors_ID, folder=folder / USER_MODEL, recipe=by_residuals
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """Two nights: `plain` before the model was trained, `tasted` after it was published."""
    root = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHELF_HOME", str(root / "home"))
        patch.setenv("NIGHTSHELF_COMMIT", "test")
        patch.setattr(night, "run_stages", in_this_process)
        shop = setup()
        night.run_night(planning.begin(shop, UNTIL, "plain"), print)
        train(root / "trained")
        publish_models(shop, "m1", root / "trained", {"recall@10": 1.0})
        night.run_night(planning.begin(shop, UNTIL, "tasted"), print)
        yield shop


def opened(shop: Setup, version: str, ranker: Ranker = BY_TASTE) -> Recommender:
    """As a replica opens it: with the models that the release names."""
    release = Release.open(ArtifactStore(shop.home), version)
    parts = with_models(shop, release.manifest.models)
    return replace(build_recommender(parts, release), recommend_ranker=ranker)


@pytest.fixture(scope="module")
def tasted(shop: Setup) -> Recommender:
    return opened(shop, "tasted")


def buys(*items: int, user: str = "nobody") -> list[Interaction]:
    """Bought a day apart, as the model saw it in training."""
    times = [UNTIL + timedelta(days=1 + at) for at in range(len(items))]
    pairs = zip(items, times, strict=True)
    return [
        Interaction(
            event_id=f"{user}-{at}", user_id=user, item_id=f"i{item:02d}", type="purchase", time=at
        )
        for item, at in pairs
    ]


def foretold(shop: Recommender, events: int, user: str = "nobody") -> float:
    """Of all pieces of the ring, the share after which the item that follows comes first."""
    pieces = [[(start + at) % ITEMS for at in range(events + 1)] for start in range(ITEMS)]
    return float(np.mean([first(shop, *items, user=user) == follows for *items, follows in pieces]))


def first(shop: Recommender, *items: int, user: str = "nobody") -> int:
    [best] = shop.recommend(Query(request_id="r", k=1, user_id=user), buys(*items, user=user)).items
    return int(best.item.item_id[1:])


def test_the_release_has_the_items_where_the_model_puts_them(tasted: Recommender) -> None:
    release, model = tasted.release, tasted.user_model
    assert (release.manifest.models, isinstance(model, SequenceModel)) == ("m1", True)
    assert "taste_vectors.npy" in release.manifest.files
    assert release.user_space_item_vectors_ID.shape == (ITEMS, DIM) != release.item_vectors_ID.shape
    placed = model.embed_items(release.items, np.asarray(release.item_vectors_ID))
    np.testing.assert_allclose(release.user_space_item_vectors_ID, placed, atol=1e-5)
    history = release.history(3)
    np.testing.assert_allclose(
        release.user_vectors_UD[3], model.encode_history(history, placed)[0], atol=1e-5
    )


def test_the_next_request_after_an_event_knows_it(tasted: Recommender) -> None:
    """A stranger's second event and their fourth: what they are shown is what follows in the
    ring."""
    assert not tasted.recommend(Query(request_id="r", k=1, user_id="nobody")).personalised
    assert foretold(tasted, 2) > 0.7
    assert foretold(tasted, 4) > 0.7


def test_an_event_moves_the_answer_of_one_who_has_a_nightly_list(tasted: Recommender) -> None:
    """u03 bought odd things alone; as soon as they go along the ring they are offered what follows
    there, odd or even."""
    release = tasted.release
    nearest = (
        np.asarray(release.user_space_item_vectors_ID)
        @ release.user_vectors_UD[release.user_ids.row("u03")]
    ).argmax()
    before = first(tasted, user="u03")
    assert f"i{before:02d}" == release.item_ids[int(nearest)], (
        "the night made their list with the same model"
    )
    assert foretold(tasted, 4, "u03") > 0.7


def test_the_night_and_the_day_score_alike(tasted: Recommender) -> None:
    """An event of an item that is not in the catalogue says nothing: the sources are asked again
    for the same."""
    nightly = tasted.recommend(Query(request_id="r", k=5, user_id="u03"))
    again = tasted.recommend(Query(request_id="r", k=5, user_id="u03"), buys(99, user="u03"))
    assert [each.item.item_id for each in nightly.items] == [
        each.item.item_id for each in again.items
    ]
    one_N, other_N = (
        [ranking.features.row(place)["discovery"] for place in range(5)]
        for ranking in (nightly, again)
    )
    assert one_N == pytest.approx(other_N, rel=1e-4)


def test_what_the_projected_columns_mean_changes_with_their_space_alone(shop: Setup) -> None:
    """The texts' space is that of the plain night; the taste is new, and stays for the next
    night."""
    store = ArtifactStore(shop.home)
    plain, tasted = (Release.open(store, version) for version in ("plain", "tasted"))
    assert tasted.array(files.PROJECTION).tobytes() == plain.array(files.PROJECTION).tobytes()
    assert plain.array(files.TASTE_PROJECTION).shape == (tasted.item_vectors_ID.shape[1], P)
    projection_DP = tasted.array(files.TASTE_PROJECTION)
    np.testing.assert_allclose(
        tasted.user_space_item_vectors_ID @ projection_DP,
        tasted.item_features.taste_projected_IP,
        atol=1e-5,
    )
    try:
        assert planning.begin(shop, UNTIL, "next").plan.taste_from == "tasted"
        assert planning.begin(replace(shop, name="another"), UNTIL, "other").plan.taste_from is None
    finally:
        for version in store.unfinished():
            store.delete(f"work/{version}")


def test_a_search_takes_the_taste_of_the_night(shop: Setup) -> None:
    """Of dot products in the model's space, which is not the one that the text is compared in."""
    tasted, text = opened(shop, "tasted"), "vase"
    vector_D = shop.encoder().encode_queries([text])[0]
    ranking = tasted.search(Query(request_id="r", k=2, user_id="u03", text=text), vector_D)
    rows = tasted.release.item_ids.rows(pa.array([each.item.item_id for each in ranking.items]))
    user = tasted.release.user_ids.row("u03")
    assert ranking.personalised
    liked = (
        np.asarray(tasted.release.user_space_item_vectors_ID)[rows]
        @ np.asarray(tasted.release.user_vectors_UD)[user]
    )
    np.testing.assert_allclose(
        [ranking.features.row(place)["personal"] for place in range(2)], liked, atol=1e-5
    )


def test_a_release_without_places_serves_as_before(shop: Setup) -> None:
    """The models are published by now: a roll-back takes the user model back too."""
    plain = opened(shop, "plain")
    assert plain.release.manifest.models is None
    assert plain.release.user_space_item_vectors_ID is plain.release.item_vectors_ID
    assert not isinstance(plain.user_model, SequenceModel)
    assert foretold(plain, 4) < 0.4
    own = opened(shop, "plain", LinearRanker(RETAIL_WEIGHTS))
    assert [first(own, item) % 2 for item in range(ITEMS)] == [item % 2 for item in range(ITEMS)]


def test_the_job_trains_user_model_and_mixer_and_the_next_night_takes_them(
    shop: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = UserModelRecipe(
        schedule=Schedule(epochs=2, batch_size=32, learning_rate=5e-3, patience=0),
        dim=DIM,
        layers=1,
        heads=2,
        length=6,
    )
    monkeypatch.setattr(
        UserModelRecipe, "for_machine", staticmethod(lambda seed=0, log_dir=None: short)
    )
    flags = [
        "--setup",
        "tests.checkerboard:setup",
        "--parts",
        "users",
        "mixer",
        "--folder",
        str(tmp_path),
    ]
    monkeypatch.setattr(sys, "argv", ["train_models", *flags])
    assert train_models.main() == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["user_model/ndcg@10"] >= 0
    assert summary["mixer/buyers"] > 0
    manifest = night.run_night(planning.begin(shop, UNTIL, "mixed"), print)
    assert tuple(manifest.sources) == SOURCES
    served = build_recommender(
        with_models(shop, manifest.models), Release.open(ArtifactStore(shop.home), "mixed")
    )
    assert isinstance(served.recommend_ranker, Mixer)
    user_id = str(served.release.users["user_id"][0])
    nightly, live = (
        served.recommend(Query(request_id="r", k=5, user_id=user_id)),
        served.recommend(Query(request_id="r", k=5, user_id=user_id), buys(3, user=user_id)),
    )
    assert len(nightly.items) == len(live.items) == 5
    assert "follows" in {source for item in live.items for source in item.sources}
