"""From a night that reads pictures to an answer: photos find the items of their colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.catalogue.snapshot import CatalogueSnapshot
from recsys.config import search_ranker
from recsys.errors import NotFoundError
from recsys.pictures.decode import decode_picture
from recsys.pictures.descriptors import describe_photos
from recsys.pipeline.photo_search import NO_SUCH_WORDS
from recsys.pipeline.recommender import Recommender
from recsys.release.release import Release
from recsys.types import Filters, Floats, Query, Ranking
from recsys.users.recency import RecencyMean
from tests.file_shop import FileShop, file_shop
from tests.test_night_pictures import PictureShop
from tests.toy_pictures import COLOURS, ColourEncoder, picture

__all__ = ["file_shop"]


def photo(number: int) -> Floats:
    return describe_photos(ColourEncoder(), [decode_picture(picture(COLOURS[number]))])[0]


def ask(recommender: Recommender, number: int, weight: float = 0.5, **fields: object) -> Ranking:
    query = Query(request_id="r", **fields)  # type: ignore[arg-type]
    vector_D = np.zeros(recommender.release.item_vectors_ID.shape[1], np.float32)
    parsed = recommender.understand(query.text or "")
    return recommender.search_photo(query, (photo(number), weight), vector_D, parsed)


def ids(ranking: Ranking) -> list[str]:
    return [each.item.item_id for each in ranking.items]


def recommender_of(release: Release) -> Recommender:
    from recsys.config import retail_ranker

    return Recommender.over(release, RecencyMean(), search_ranker(), retail_ranker())


def test_a_photo_finds_the_items_of_its_colour(file_shop: FileShop) -> None:
    shop = PictureShop(file_shop)
    shop.night()
    for release in (shop.release(), CatalogueSnapshot.of(shop.release())):
        recommender = recommender_of(release)
        for number in range(len(COLOURS)):
            ranking = ask(recommender, number)
            assert ids(ranking)[0] == f"i{number}"
            assert set(ids(ranking)) == {f"i{each}" for each in range(len(COLOURS))}
            assert ranking.total == len(COLOURS)
        page = ask(recommender, 2, k=2, offset=2)
        assert ids(page) == ids(ask(recommender, 2))[2:4]


def test_filters_and_words_narrow_what_looks_like_it(file_shop: FileShop) -> None:
    shop = PictureShop(file_shop)
    shop.night()
    recommender = recommender_of(shop.release())
    assert not ids(ask(recommender, 2, filters=Filters(min_price=1e9)))
    title = recommender.release.item(recommender.release.item_ids.row("i4") or 0).title
    for weight in (0.0, 1.0):
        ranking = ask(recommender, 2, weight, text=title)
        assert "i4" in ids(ranking)
    nothing = ask(recommender, 2, text="xyzzyq")
    assert NO_SUCH_WORDS in nothing.relaxed
    assert ids(nothing)[0] == "i2"


def test_a_release_without_pictures_says_so(file_shop: FileShop, tmp_path: Path) -> None:
    file_shop.night()
    shop = PictureShop(file_shop)
    with pytest.raises(NotFoundError, match="no pictures to compare"):
        ask(recommender_of(shop.release()), 0)
