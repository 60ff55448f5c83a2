"""A night reads pictures: known colours in the items' order, carried over, broken ones named."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from recsys.errors import RefusedError, SpaceMismatchError
from recsys.pictures.choices import PictureChoices
from recsys.pictures.fetch import FetchFailure, PictureFetcher
from recsys.release import files
from recsys.release.arrow import read_arrow
from recsys.release.manifest import Manifest
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Floats
from tests.file_shop import ITEMS, FileShop, file_shop, item
from tests.toy_pictures import COLOURS, ColourEncoder, write_picture

__all__ = ["file_shop"]


@dataclass
class PictureShop:
    """The file shop, whose items 0 to 5 have a picture of their number's colour."""

    shop: FileShop
    space: str = "colours"
    thumbnails: bool = True
    unsafe: type | None = None

    def __post_init__(self) -> None:
        self.log.touch()
        for number, colour in enumerate(COLOURS):
            self.put(number, colour)
        self.write()

    @property
    def log(self) -> Path:
        return self.shop.folder / "log"

    def put(self, number: int | str, colour: tuple[int, int, int]) -> str:
        return write_picture(self.path(number), colour)

    def path(self, number: int | str) -> Path:
        return self.shop.folder / "pictures" / f"{number}.png"

    def write(self, **images: object) -> None:
        """The catalogue, with other cells for these items."""
        cells = {f"i{number}": str(self.path(number)) for number in range(len(COLOURS))} | images
        rows = [item(number, image=cells.get(f"i{number}", "")) for number in range(len(ITEMS))]
        self.shop.write(rows)

    def night(self, days: float = 0, allow: Iterable[str] = ()) -> Manifest:
        encoder = partial(ColourEncoder, self.space, str(self.log))
        choices = PictureChoices(encoder=encoder, thumbnails=self.thumbnails, unsafe=self.unsafe)
        self.shop.choices["pictures"] = choices
        return self.shop.night(days, allow, items_per_shard=8, pictures_per_shard=2)

    def encoded(self) -> int:
        """How many pictures were encoded since it was last asked."""
        count = len(self.log.read_text())
        self.log.write_text("")
        return count

    def release(self) -> Release:
        return Release.open(ArtifactStore(str(self.shop.folder / "home")))


@pytest.fixture
def shop(file_shop: FileShop) -> PictureShop:
    return PictureShop(file_shop)


def colour_of(release: Release, item_id: str, place: int = 0) -> list[int]:
    """What its picture's vector says."""
    row = release.item_ids.row(item_id)
    assert row is not None
    vector_E = release.picture_vectors_GE[release.pictures_of(row)[place]].astype(np.float32)
    return np.round(vector_E[:3] / vector_E[:3].max(), 2).tolist()


def brightest(colour: tuple[int, int, int]) -> list[float]:
    return np.round(np.array(colour) / max(colour), 2).tolist()


def quarantined(release: Release) -> list[str]:
    table = pq.read_table(release.folder / "quarantine.parquet").to_pylist()
    return [row["reason"] for row in table if row["table"] == "pictures"]


def test_each_item_has_the_vector_of_its_picture(shop: PictureShop) -> None:
    manifest, release = shop.night(), shop.release()
    assert manifest.picture_space == "colours"
    assert manifest.counts["pictures"] == manifest.counts["items_with_pictures"] == len(COLOURS)
    for number, colour in enumerate(COLOURS):
        assert colour_of(release, f"i{number}") == pytest.approx(brightest(colour), abs=0.01)
    assert len(release.pictures_of(release.item_ids.row("i9") or 0)) == 0
    row = release.pictures.slice(0, 1).to_pylist()[0]
    assert (row["width"], row["height"], row["place"]) == (40, 30, 0)
    assert shop.encoded() == len(COLOURS)


def test_only_new_content_is_encoded(shop: PictureShop) -> None:
    shop.night()
    before = shop.release().picture_vectors_GE.tobytes()
    shop.encoded()
    manifest = shop.night(days=1)
    assert shop.encoded() == 0
    assert manifest.counts["pictures_carried"] == len(COLOURS)
    assert shop.release().picture_vectors_GE.tobytes() == before
    shop.put(2, (10, 200, 10))
    shop.put("moved", COLOURS[3])
    shop.write(i3=str(shop.path("moved")))
    shop.night(days=2)
    assert shop.encoded() == 1  # what moved has the content that it had
    assert colour_of(shop.release(), "i2") == pytest.approx(brightest((10, 200, 10)), abs=0.01)
    assert colour_of(shop.release(), "i3") == pytest.approx(brightest(COLOURS[3]), abs=0.01)


def test_equal_pictures_are_encoded_once(shop: PictureShop) -> None:
    same = str(shop.path(0))
    shop.write(**{f"i{number}": same for number in range(6)})
    manifest = shop.night()
    assert shop.encoded() == 1
    assert (manifest.counts["pictures"], manifest.counts["picture_references"]) == (6, 1)


def test_a_broken_picture_leaves_its_item_and_says_why(shop: PictureShop) -> None:
    shop.path(0).write_bytes(b"no picture")
    shop.path(1).unlink()
    shop.put(2, (0, 0, 0))  # the encoder fails on it
    manifest, release = shop.night(), shop.release()
    assert manifest.counts["items"] == len(ITEMS)
    assert (manifest.counts["pictures"], manifest.counts["pictures_broken"]) == (3, 3)
    reasons = quarantined(release)
    assert len(reasons) == 3
    assert any("'i0'" in reason and "no picture" in reason for reason in reasons)
    assert any("'i1'" in reason for reason in reasons)
    assert any("'i2'" in reason and "black" in reason for reason in reasons)
    assert release.item_vectors_ID[release.item_ids.row("i0") or 0].any()


def test_thumbnails_are_of_what_is_there(shop: PictureShop) -> None:
    shop.night()
    shop.night(days=1)  # carried over
    release = shop.release()
    hashes = release.pictures["content_hash"].to_pylist()
    thumbnails = read_arrow(release.path(files.THUMBNAILS))
    assert set(thumbnails["content_hash"].to_pylist()) == set(hashes)
    small = Image.open(io.BytesIO(thumbnails["thumbnail"][0].as_py()))
    assert (small.format, small.size) == ("WEBP", (40, 30))


def test_another_encoder_encodes_all_anew_and_reads_no_vector_of_the_first(
    shop: PictureShop,
) -> None:
    shop.night()
    shop.encoded()
    shop.space = "other"
    assert shop.night(days=1).picture_space == "other"
    assert shop.encoded() == len(COLOURS)
    with pytest.raises(SpaceMismatchError, match="'other' but the encoder of pictures makes 'col"):
        Release.open(ArtifactStore(str(shop.shop.folder / "home")), picture_space="colours")


def test_without_thumbnails_there_is_no_file_of_them(shop: PictureShop) -> None:
    shop.thumbnails = False
    assert "thumbnails.arrow" not in shop.night().files
    shop.encoded()
    shop.thumbnails = True  # all are read again
    assert "thumbnails.arrow" in shop.night(days=1).files


def test_a_shop_without_pictures_has_none(shop: PictureShop) -> None:
    manifest = shop.shop.night()
    assert manifest.picture_space == ""
    assert "pictures.arrow" not in manifest.files
    assert shop.release().pictures.num_rows == 0


def test_a_host_that_does_not_answer_leaves_its_pictures_as_they_were(
    shop: PictureShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.night()
    shop.encoded()
    before = shop.release().picture_vectors_GE.tobytes()
    failure = FetchFailure("its host did not answer", passing=True)
    monkeypatch.setattr(
        PictureFetcher, "fetch_many", lambda self, all: ((each, failure) for each, _ in all)
    )
    manifest = shop.night(days=1)
    assert shop.release().picture_vectors_GE.tobytes() == before
    assert (manifest.counts["pictures_broken"], shop.encoded()) == (0, 0)
    assert manifest.quarantined == {
        "pictures: picture: its host did not answer; it is what it was in release ": 6
    }
    assert f"{len(COLOURS)} kept" in manifest.intake[-1] or "6 kept" in str(manifest.intake)


def test_many_lost_pictures_are_an_accident_unless_they_are_allowed(shop: PictureShop) -> None:
    shop.night()
    for number in range(3):
        shop.path(number).unlink()
    with pytest.raises(
        RefusedError, match=r"3 pictures after 6 .*--allow pictures-since-yesterday"
    ):
        shop.night(days=1)
    assert shop.night(days=2, allow=["pictures-since-yesterday"]).counts["pictures"] == 3


class Bright:
    """Holds pictures with much red for unsafe."""

    def probabilities(self, pictures: Sequence[Image.Image]) -> Floats:
        return np.array([np.asarray(each)[..., 0].mean() / 255 for each in pictures], np.float32)


def test_unsafe_pictures_are_flagged_also_those_of_before(shop: PictureShop) -> None:
    shop.night()
    assert shop.release().pictures["unsafe"].to_pylist() == [None] * len(COLOURS)
    shop.unsafe = Bright
    for days in (1, 2):
        shop.night(days=days)
        pictures = shop.release().pictures.to_pylist()
        flags = {row["item_id"]: row["unsafe"] for row in pictures}
        assert flags == {f"i{n}": red > 204 for n, (red, _, _) in enumerate(COLOURS)}
