"""One vector an item: each medium alone, together, missing; what may not leak."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.encoders.fusion import Fusion, ItemMedia, NamedClasses, unit_length
from recsys.encoders.fusion_weights import choose_weights, reciprocal_ranks, split_titles
from recsys.types import Floats

KINDS, OF_KIND, DIM, DEPTH = 6, 20, 24, 40
KIND_N = np.arange(KINDS * OF_KIND) // OF_KIND


def media(seed: int = 0, noise: float = 0.7) -> ItemMedia:
    """Items of a few kinds, which title, description and picture each say with noise of their own;
    all texts near one direction, as those of encoders are."""
    rng = np.random.default_rng(seed)

    def of_kind(dim: int, cone: float) -> Floats:
        kinds = unit_length(rng.normal(size=(KINDS, dim)))[KIND_N]
        own = unit_length(rng.normal(size=(len(KIND_N), dim)))
        return unit_length(kinds + noise * own + cone * np.ones(dim) / np.sqrt(dim))

    ids = [f"i{row:03d}" for row in range(len(KIND_N))]
    titles_ND = of_kind(DIM, 1.0)
    descriptions_ND = unit_length(titles_ND + 0.8 * unit_length(rng.normal(size=titles_ND.shape)))
    return ItemMedia(ids, titles_ND, descriptions_ND, of_kind(DEPTH, 2.0))


def without(items: ItemMedia, words: bool, pictures: bool, rows: slice = slice(None)) -> ItemMedia:
    arrays = [np.array(each) for each in (items.titles_ND, items.descriptions_ND)]
    pictures_NE = np.array(items.pictures_NE)
    for array in arrays * words + [pictures_NE] * pictures:
        array[rows] = 0
    return ItemMedia(items.item_ids, arrays[0], arrays[1], pictures_NE)


def neighbour_share(vectors_ND: Floats, kinds: Floats = KIND_N) -> float:
    """How often the nearest other item is of the same kind."""
    scores_NN = vectors_ND @ vectors_ND.T
    np.fill_diagonal(scores_NN, -np.inf)
    return float((kinds[scores_NN.argmax(axis=1)] == kinds).mean())


def test_all_media_find_more_than_each() -> None:
    items = media(noise=1.6)
    fusion = Fusion.fit(items)
    fused = neighbour_share(fusion.fuse(items))
    assert fused > neighbour_share(items.titles_ND) + 0.05
    assert fused > neighbour_share(items.pictures_NE) + 0.05


def test_vectors_have_length_one_and_none_without_media() -> None:
    items = without(media(), words=True, pictures=True, rows=slice(0, 3))
    lengths = np.linalg.norm(Fusion.fit(items).fuse(items), axis=1)
    np.testing.assert_array_equal(lengths[:3], 0)
    np.testing.assert_allclose(lengths[3:], 1, atol=1e-5)


def test_an_item_without_words_is_near_the_words_of_its_kind() -> None:
    items = media()
    fusion = Fusion.fit(without(items, words=True, pictures=False, rows=slice(0, None, 2)))
    vectors = fusion.fuse(without(items, words=True, pictures=False))
    titles = np.stack([items.titles_ND[kind == KIND_N].mean(axis=0) for kind in range(KINDS)])
    assert (np.argmax(vectors[::2] @ titles.T, axis=1) == KIND_N[::2]).mean() > 0.9


def test_a_missing_medium_changes_no_other_item() -> None:
    items = media()
    fusion = Fusion.fit(items)
    before = fusion.fuse(items)
    for words, pictures in ((True, False), (False, True)):
        after = fusion.fuse(without(items, words, pictures, slice(0, 5)))
        np.testing.assert_allclose(after[5:], before[5:], atol=1e-6)
        assert (np.abs(after[:5] - before[:5]).max(axis=1) > 0.01).all()
        assert neighbour_share(np.vstack([after[:5], before[5:]])) > 0.9


def test_own_words_do_not_come_back_by_the_picture() -> None:
    """The words of an anchor's picture are those of a fit without it, to rounding."""
    items = media()
    others = [row for row in range(len(KIND_N)) if row != 7]
    whole = Fusion.fit(items)
    apart = Fusion.fit(items.take(others))
    own = whole.picture_words(items.take([7]))
    np.testing.assert_allclose(own @ apart.picture_words(items.take([7])).T, 1, atol=0.02)
    stranger = ItemMedia(["x"], *(each[7:8] for each in arrays(items)))
    leaked = whole.picture_words(stranger) @ items.titles_ND[7]
    assert leaked[0] > (own @ items.titles_ND[7])[0] + 0.02


def arrays(items: ItemMedia) -> tuple[Floats, Floats, Floats]:
    return items.titles_ND, items.descriptions_ND, items.pictures_NE


def test_texts_keep_their_place_in_the_cone() -> None:
    """Models of users that read texts read fused vectors: the mean stays that of the texts."""
    items = media()
    fused = Fusion.fit(items).fuse(items)
    texts = unit_length(items.titles_ND + items.descriptions_ND)
    np.testing.assert_allclose(fused.mean(axis=0), texts.mean(axis=0), atol=0.05)


def test_names_of_classes_are_words() -> None:
    """Nobody in the shop has words like those of class 1; its picture encoder has."""
    items = media()
    names = unit_length(np.random.default_rng(5).normal(size=(2, DIM)))
    weights = np.stack([-20 * items.pictures_NE[3], 20 * items.pictures_NE[3]])
    classes = NamedClasses(weights, names)
    wordless = without(items, words=True, pictures=False).take([3])
    plain, named = (Fusion.fit(items, each).fuse(wordless)[0] for each in (None, classes))
    assert named @ (names[1] - names[0]) > plain @ (names[1] - names[0])


def test_too_few_pictures_teach_nothing() -> None:
    items = media().take(range(8))
    fusion = Fusion.fit(items)
    assert not fusion.reads_pictures
    pictureless = fusion.fuse(without(items, words=False, pictures=True))
    np.testing.assert_array_equal(fusion.fuse(items), pictureless)


def test_stored_and_read_it_is_the_same() -> None:
    items = media()
    fusion = Fusion.fit(items).weighted(2.0, 0.25)
    again = Fusion.from_npz(fusion.to_npz())
    np.testing.assert_array_equal(again.fuse(items), fusion.fuse(items))
    assert again.to_npz() == fusion.to_npz()


@pytest.mark.parametrize("informative", [True, False])
def test_a_picture_weighs_as_much_as_it_says(informative: bool) -> None:
    """Queries name the kind alone; pictures say it, or nothing."""
    items = media(noise=0.5)
    if not informative:
        noise = np.random.default_rng(9).normal(size=items.pictures_NE.shape)
        items = ItemMedia(*(items.item_ids, *arrays(items)[:2], unit_length(noise)))
    rng = np.random.default_rng(1)
    queries = unit_length(
        items.titles_ND + 0.3 * unit_length(rng.normal(size=items.titles_ND.shape))
    )
    blurred = unit_length(items.titles_ND + 3 * unit_length(rng.normal(size=items.titles_ND.shape)))
    pair_media = ItemMedia(items.item_ids, blurred, items.descriptions_ND * 0, items.pictures_NE)
    choice = choose_weights(Fusion.fit(pair_media), queries, pair_media)
    own = reciprocal_ranks(choice.fusion, queries, pair_media).mean()
    plain = choice.fusion.weighted(choice.fusion.description_weight, 0.0)
    if informative:
        assert choice.fusion.picture_weight >= 0.5
        assert choice.gain > 0
        assert own > reciprocal_ranks(plain, queries, pair_media).mean()
    else:
        assert choice.gain < 0.05


def test_few_pairs_choose_nothing() -> None:
    items = media()
    queries = np.zeros_like(items.titles_ND)
    queries[:10] = items.titles_ND[:10]
    fusion = Fusion.fit(items)
    choice = choose_weights(fusion, queries, items)
    assert choice.fusion is fusion
    assert "too few pairs" in str(choice)


def test_titles_are_split_into_all_of_their_words() -> None:
    titles = ["blue cotton bath towel", "mug", ""]
    queries, rests = split_titles(titles)
    assert sorted(f"{queries[0]} {rests[0]}".split()) == sorted(titles[0].split())
    assert len(queries[0].split()) == 2
    assert (queries[1:], rests[1:]) == (["", ""], ["mug", ""])
