import numpy as np
import pyarrow as pa
import pytest

from recsys.users.content import ContentFeatures

AXES = np.eye(4, dtype=np.float32)
#: Forty items of four kinds: a kind has its vector, its word and its price.
KINDS = np.arange(40) % 4
WORDS = ("apple", "bolt", "candle", "dress")


def catalogue(titles=None, prices=None) -> pa.Table:
    count = len(KINDS)
    return pa.table(
        {
            "item_id": [f"i{row}" for row in range(count)],
            "title": titles or [f"{WORDS[kind]} {WORDS[kind]}" for kind in KINDS],
            "price": pa.array(prices or [10.0 ** (1 + kind) for kind in KINDS], pa.float64()),
            **{name: [""] * count for name in ("brand", "category", "description", "attributes")},
        }
    )


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def whole():
    content = ContentFeatures.fit(catalogue(), AXES[KINDS], latent=4)
    return content, content.features(catalogue(), AXES[KINDS])


def test_features_are_centred_and_tell_kinds_apart(whole):
    _, features_IC = whole
    assert features_IC.shape == (40, 4 + 4 + 1)
    np.testing.assert_allclose(features_IC.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(features_IC[0], features_IC[4], atol=1e-5)
    assert cosines(features_IC[:1], features_IC[1:2])[0] < 0.5


@pytest.mark.parametrize("missing", ["vector", "words", "price"])
def test_a_missing_part_is_what_the_others_foretell(whole, missing):
    content, features_IC = whole
    vectors, titles, prices = (
        AXES[KINDS].copy(),
        catalogue()["title"].to_pylist(),
        catalogue()["price"].to_pylist(),
    )
    if missing == "vector":
        vectors[:8] = 0
    if missing == "words":
        titles[:8] = [""] * 8
    if missing == "price":
        prices[:8] = [None] * 8
    completed_IC = content.features(catalogue(titles, prices), vectors)
    assert cosines(completed_IC[:8], features_IC[:8]).min() > 0.97
    np.testing.assert_allclose(completed_IC[8:], features_IC[8:], atol=1e-6)


def test_an_item_without_anything_is_the_mean(whole):
    content, _ = whole
    nothing = content.features(catalogue([""] * 40, [None] * 40), np.zeros((40, 4), np.float32))
    assert not nothing.any()


def test_a_catalogue_without_prices_or_texts_has_features():
    bare = catalogue([""] * 40, [None] * 40)
    content = ContentFeatures.fit(bare, AXES[KINDS])
    assert np.isfinite(content.features(bare, AXES[KINDS])).all()


def test_a_negative_price_is_none(whole):
    content, _ = whole
    prices = catalogue()["price"].to_pylist()
    none, negative = (
        content.features(catalogue(None, [bad, *prices[1:]]), AXES[KINDS]) for bad in (None, -1.0)
    )
    np.testing.assert_array_equal(none, negative)


def test_attributes_are_words_of_their_own():
    table = catalogue().set_column(1, "title", pa.array(["7"] * 20 + ["8"] * 20))
    table = table.set_column(
        table.schema.get_field_index("attributes"), "attributes", pa.array(["7"] * 40)
    )
    content = ContentFeatures.fit(table, np.zeros((40, 4), np.float32), latent=4)
    assert len(np.flatnonzero(np.abs(content.latent_WK).max(axis=1) > 1e-6)) == 3


def test_comes_back_as_saved(whole, tmp_path):
    content, features_IC = whole
    content.save(tmp_path / "c")
    np.testing.assert_array_equal(
        ContentFeatures.load(tmp_path / "c").features(catalogue(), AXES[KINDS]), features_IC
    )
