"""Which item a photo shows: heads fitted on photos of a known kind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from recsys.pictures.descriptors import COLOUR_WEIGHT, COLOURS, colour_histogram, describe
from recsys.retrieval.photos import PhotoHead, unit
from recsys.training.photo_head import fit_photo_head, shrunk_covariance
from recsys.types import Floats, Ints

ITEMS, DIM, PHOTOS = 12, 8, 15
ALL = np.ones(ITEMS, bool)


def shop(seed: int = 0) -> tuple[Floats, Floats, Ints]:
    """Photos differ from their item by a shift that all share, and along one axis by light, ten
    times as much as items differ from each other."""
    rng = np.random.default_rng(seed)
    items_IH = rng.normal(size=(ITEMS, DIM)).astype(np.float32)
    rows_N = np.repeat(np.arange(ITEMS), PHOTOS)
    noise_NH = 0.2 * rng.normal(size=(len(rows_N), DIM))
    noise_NH[:, 0] *= 50
    photos_NH = items_IH[rows_N] + 5 + noise_NH
    return items_IH, photos_NH.astype(np.float32), rows_N


def first(head: PhotoHead, items_IH: Floats, photos_NH: Floats) -> Ints:
    return np.asarray((head.queries(photos_NH) @ items_IH.T).argmax(axis=1))


def test_what_changes_with_the_light_does_not_count() -> None:
    items_IH, photos_NH, rows_N = shop()
    head, means_IH = fit_photo_head(items_IH, ALL, photos_NH, rows_N)
    _, others_NH, _ = shop()
    assert (first(head, means_IH, others_NH) == rows_N).mean() > 0.95
    alone, catalogue_IH = fit_photo_head(items_IH, ALL, photos_NH[:0], rows_N[:0])
    assert (first(alone, catalogue_IH, photos_NH) == rows_N).mean() < 0.5


def test_photos_that_nobody_labelled_take_the_shift_off() -> None:
    items_IH, photos_NH, rows_N = shop()
    photos_NH[:, 0] = 5
    items_IH[:, 0] = 0
    photos_NH[:, 1] += 50
    alone, catalogue_IH = fit_photo_head(items_IH, ALL, photos_NH[:0], rows_N[:0])
    unlabelled, same_IH = fit_photo_head(items_IH, ALL, photos_NH, np.full(len(rows_N), -1))
    assert (first(alone, catalogue_IH, photos_NH) == rows_N).mean() < 0.3
    assert (first(unlabelled, same_IH, photos_NH) == rows_N).mean() > 0.95
    assert unlabelled.min_cosine is None


def test_an_item_without_picture_and_photo_is_nowhere() -> None:
    items_IH, photos_NH, rows_N = shop()
    kept_N, pictured_I = rows_N != 3, np.arange(ITEMS) != 3
    _, means_IH = fit_photo_head(items_IH, pictured_I, photos_NH[kept_N], rows_N[kept_N])
    assert np.flatnonzero(~means_IH.any(axis=1)).tolist() == [3]
    lengths = np.linalg.norm(np.delete(means_IH, 3, axis=0), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_the_bound_keeps_good_photos_and_refuses_what_is_like_no_item() -> None:
    items_IH, photos_NH, rows_N = shop()
    head, means_IH = fit_photo_head(items_IH, ALL, photos_NH, rows_N)
    assert head.min_cosine is not None
    best_N = (head.queries(photos_NH) @ means_IH.T).max(axis=1)
    assert (best_N >= head.min_cosine).mean() > 0.95
    outside = head.mean_H + 1000 * np.eye(DIM, dtype=np.float32)[0]
    assert (head.queries(outside[None]) @ means_IH.T).max() < head.min_cosine


def test_a_head_is_read_as_it_was_written() -> None:
    items_IH, photos_NH, rows_N = shop()
    for count in (0, len(rows_N)):
        head, _ = fit_photo_head(items_IH, ALL, photos_NH[:count], rows_N[:count])
        again = PhotoHead.from_bytes(head.to_bytes())
        assert again.min_cosine == head.min_cosine
        np.testing.assert_array_equal(again.queries(photos_NH), head.queries(photos_NH))


def test_covariances_are_shrunk_as_scikit_learn_does() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    x = np.random.default_rng(1).normal(size=(40, 30)) * np.linspace(0.1, 2, 30)
    expected, _ = covariance.ledoit_wolf(x, assume_centered=True)
    ours = shrunk_covariance(x.astype(np.float32), len(x))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(shrunk_covariance(np.zeros((0, 3), np.float32), 0), np.eye(3))


def test_colours_are_shares_of_pixels() -> None:
    picture = Image.new("RGB", (60, 30), "red")
    picture.paste("blue", (30, 0, 60, 30))
    colours_C = colour_histogram(picture)
    assert colours_C.shape == (COLOURS,)
    np.testing.assert_allclose(np.sort(colours_C**2)[-2:], [0.5, 0.5], atol=0.02)


def test_a_descriptor_is_roots_of_the_vector_beside_the_colours() -> None:
    vectors_NE = np.array([[4.0, -9.0, 0.0]], np.float16)
    colours_NC = np.eye(COLOURS, dtype=np.float32)[:1]
    described_NH = describe(vectors_NE, colours_NC)
    np.testing.assert_allclose(described_NH[0, :3], unit(np.array([[2.0, -3.0, 0.0]]))[0])
    np.testing.assert_allclose(described_NH[0, 3], COLOUR_WEIGHT)
