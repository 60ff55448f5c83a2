"""What a release knows for features: made by nights in one process, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.arrays import utc_days
from recsys.batch import night, planning
from recsys.config import Setup
from recsys.encoders.hashing import HashingEncoder
from recsys.events.item_clicks import dcg_examination
from recsys.interfaces import Chunk
from recsys.models.store import publish_models
from recsys.ranking.examination import Examination
from recsys.ranking.features import FEATURES, column_names, feature_table
from recsys.ranking.item_features import Context
from recsys.ranking.projection import P, fit_projection
from recsys.release import files
from recsys.release.arrow import histories_of
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.training import EXAMINATION
from recsys.types import PURCHASE, Impression, Interaction
from tests.checkerboard import ITEMS, UNTIL, USERS, Checkerboard, setup
from tests.in_process import in_this_process

SEEN = UNTIL + timedelta(hours=1)


@dataclass(frozen=True)
class Repainted(Checkerboard):
    """Every thing is green a day later, and costs a coin less than what was paid."""

    def read_items(self, chunk: Chunk) -> pa.Table:
        feature_table = super().read_items(chunk)
        if chunk.path == "bad items":
            return feature_table
        titles = pa.array(
            [
                f"green {title.split()[1]} {at}"
                for at, title in enumerate(feature_table["title"].to_pylist())
            ]
        )
        return feature_table.set_column(
            feature_table.schema.get_field_index("title"), "title", titles
        )

    def read_events(self, chunk: Chunk) -> pa.Table:
        events = super().read_events(chunk)
        paid = [float(11 + int(item[1:])) for item in events["item_id"].to_pylist()]
        return events.append_column("price", pa.array(paid))


def impression(request_id: str, item_ids: tuple[str, ...], user_id: str) -> Impression:
    return Impression(
        request_id=request_id,
        time=SEEN,
        release="one",
        surface="search",
        item_ids=item_ids,
        user_id=user_id,
    )


def in_the_log(shop: Setup) -> None:
    """Between the nights two answers, and a click in the third place of one."""
    store = shop.event_store()
    store.append_impressions(
        [
            impression("r1", ("i04", "gone", "i06"), "u00"),
            impression("r2", ("i01",), "stranger"),
        ]
    )
    store.append(
        [
            Interaction(
                event_id="e1",
                user_id="u00",
                item_id="i06",
                type="click",
                time=SEEN + timedelta(minutes=1),
                request_id="r1",
                price=3.5,
            )
        ]
    )
    store.close()


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Release]]:
    """`one`; `two`, a day later, of the repainted shop with a log; `three` after training, with
    another encoder."""
    root = tmp_path_factory.mktemp("item_features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHELF_HOME", str(root / "home"))
        patch.setenv("NIGHTSHELF_COMMIT", "test")
        patch.setattr(night, "run_stages", in_this_process)
        shop = setup()
        night.run_night(planning.begin(shop, UNTIL, "one"), print)
        in_the_log(shop)
        shop = replace(shop, dataset=Repainted)
        night.run_night(planning.begin(shop, UNTIL + timedelta(days=1), "two"), print)
        measured(shop, root / "trained")
        shop = replace(shop, encoder=partial(HashingEncoder, 32))
        night.run_night(planning.begin(shop, UNTIL + timedelta(days=2), "three"), print)
        store = ArtifactStore(shop.home)
        yield {version: Release.open(store, version) for version in store.versions()}


def measured(shop: Setup, folder: Path) -> None:
    """A curve, published as training does it."""
    folder.mkdir()
    curve_K = np.array([1, 0.5, 0.25], np.float32)
    Examination(curve_K, curve_K, curve_K).save(folder / EXAMINATION)
    publish_models(shop, "m1", folder, {})


def row(release: Release, item: str) -> int:
    at = release.item_ids.row(item)
    assert at is not None
    return at


def test_the_shelf_is_that_of_the_release(nights: dict[str, Release]) -> None:
    release, item_features = nights["one"], nights["one"].item_features
    assert len(item_features) == ITEMS
    assert item_features.touches_TI.sum(axis=1).tolist() == [0, 0, 0, 7 * USERS]
    np.testing.assert_array_equal(
        item_features.touches_TI[PURCHASE], release.array(files.TOUCHES).sum(axis=0)
    )
    assert item_features.prices_I[row(release, "i03")] == 13
    assert not item_features.exposure_I.any()
    assert len(set(item_features.categories_I.tolist())) == ITEMS // 2, "the two colours of a thing"
    below = release.labels["category"].below(["HOME"])
    assert below[item_features.categories_I].all()
    chairs = np.flatnonzero(
        release.labels["category"].below(["home / chair"])[item_features.categories_I]
    )
    assert [release.item_ids[int(at)] for at in chairs] == ["i00", "i01"]


def test_an_item_without_a_label_has_none(nights: dict[str, Release]) -> None:
    release = Release(nights["one"].folder, nights["one"].manifest)
    brands = pa.array(["  ", None, *["acme"] * (ITEMS - 2)], pa.string())
    release.items = release.items.set_column(
        release.items.schema.get_field_index("brand"), "brand", brands
    )
    assert (release.item_features.brands_I < 0).tolist() == [True, True, *[False] * (ITEMS - 2)]


def test_the_log_between_two_nights_is_what_attracts(nights: dict[str, Release]) -> None:
    """The stranger never clicked; what is gone from the catalogue is left out."""
    release, exposure_I = nights["two"], np.zeros(ITEMS, np.float32)
    exposure_I[[row(release, "i04"), row(release, "i06")]] = dcg_examination(np.array([1, 3]))
    np.testing.assert_allclose(release.item_features.exposure_I, exposure_I)
    assert np.flatnonzero(release.item_features.clicks_I).tolist() == [row(release, "i06")]
    assert release.item_features.touches_TI.sum(axis=1).tolist() == [0, 1, 0, 7 * USERS]


def test_the_measured_examination_is_taken_where_there_is_one(nights: dict[str, Release]) -> None:
    assert nights["three"].manifest.models == "m1"
    assert nights["three"].item_features.exposure_I[row(nights["three"], "i06")] == 0.25


def test_prices_paid_are_kept_from_the_log_to_the_features(nights: dict[str, Release]) -> None:
    """All paid a coin more than the thing costs now; the click said a price of its own; night one
    knew of none."""
    release = nights["two"]
    user = release.user_ids.row("u02")
    assert user is not None
    history = release.history(user)
    assert history.prices is not None
    np.testing.assert_allclose(history.prices, release.item_features.prices_I[history.items] + 1)
    context = Context.of("recommend", utc_days(UNTIL), history)
    change = FEATURES["price_change"](release.item_features, context, history.items[None])
    np.testing.assert_allclose(
        change[0], np.log(release.item_features.prices_I[history.items] / history.prices), rtol=1e-5
    )
    assert np.isnan(nights["one"].history(user).prices_E).all()
    live = release.user_ids.row("u00")
    assert live is not None
    assert 3.5 in release.history(live).prices_E.tolist()


def test_a_projection_is_carried_while_the_space_is_the_same(nights: dict[str, Release]) -> None:
    one, two, three = (nights[version] for version in ("one", "two", "three"))
    for name in ("projection.npy", "taste_projection.npy"):
        assert (two.folder / name).read_bytes() == (one.folder / name).read_bytes()
        assert np.load(three.folder / name).shape == (32, P), "another encoder"
    assert not np.array_equal(
        fit_projection(np.asarray(two.item_vectors_ID)), two.array(files.PROJECTION)
    ), "items changed"
    for release in (one, two, three):
        expected = release.item_vectors_ID @ release.array(files.PROJECTION)
        np.testing.assert_allclose(release.item_features.item_projected_IP, expected, atol=1e-6)
        np.testing.assert_allclose(release.item_features.taste_projected_IP, expected, atol=1e-6)


def test_day_and_night_make_the_same_table(nights: dict[str, Release]) -> None:
    """A block of users at night, one by day."""
    release = nights["two"]
    users = np.arange(5)
    histories = histories_of(release.users).users(users)
    rows_BN = np.tile(np.arange(ITEMS, dtype=np.int32), (len(users), 1))
    night_BNF = feature_table(
        column_names(()),
        release.item_features,
        Context.of("recommend", 20_000.0, histories),
        rows_BN,
        {},
    )
    for user in users:
        day = Context.of("recommend", 20_000.0, release.history(int(user)))
        np.testing.assert_array_equal(
            feature_table(column_names(()), release.item_features, day, rows_BN[:1], {})[0],
            night_BNF[user],
        )
