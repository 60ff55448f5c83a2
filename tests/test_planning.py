"""Which night is continued, and which begins anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from recsys.batch.night_key import choices_digest, inputs_digest
from recsys.batch.plan import NightRun
from recsys.batch.planning import begin
from recsys.batch.refusal import refusals_recorded
from recsys.catalogue.sqlite import SqliteCatalogueLog
from recsys.config import Setup
from recsys.datasets.choices import CatalogueChoices
from recsys.encoders.hashing import HashingEncoder
from recsys.errors import FullError, InputError, RefusedError, ReleaseError, StoreDownError
from recsys.interfaces import Chunk
from recsys.storage.artifacts import ArtifactStore
from tests.checkerboard import Checkerboard, setup
from tests.file_shop import ITEMS, UNTIL, FileShop, file_shop, item

__all__ = ["file_shop"]
TOMORROW = UNTIL + timedelta(days=1)


def refuse(night: NightRun, error: Exception) -> None:
    with pytest.raises(type(error)), refusals_recorded(night):
        raise error


def test_a_killed_night_goes_on_at_any_later_time(file_shop: FileShop) -> None:
    killed = begin(file_shop.setup(), UNTIL)
    again = begin(file_shop.setup())
    assert again.plan == killed.plan
    assert begin(file_shop.setup(), UNTIL).plan == killed.plan


def test_another_time_or_name_is_another_night(file_shop: FileShop) -> None:
    killed = begin(file_shop.setup(), UNTIL, "v")
    assert begin(file_shop.setup(), TOMORROW).plan.now == TOMORROW
    assert begin(file_shop.setup(), UNTIL, "w").plan.version == "w"
    assert begin(file_shop.setup(), version="v").plan == killed.plan


def test_mended_files_and_mended_mappings_are_read(file_shop: FileShop) -> None:
    begin(file_shop.setup(), UNTIL, "v")
    file_shop.write([item(number) for number in range(30)])
    assert begin(file_shop.setup(), version="v").plan.item_chunks[0].rows == 30
    mapped = begin(file_shop.setup(), version="v").plan.inputs
    file_shop.columns = {"description": "title"}
    assert begin(file_shop.setup(), version="v").plan.inputs != mapped


@pytest.mark.parametrize(
    ("change", "continues"),
    [
        ({"night": replace(setup().night, similar=9)}, False),
        ({"encoder": partial(HashingEncoder, 32, 3)}, False),
        ({"night": replace(setup().night, encoder_workers=9, max_bad_share=0.9)}, True),
        ({"experiments": (), "ranker": "trees"}, True),
    ],
)
def test_choices_that_make_other_files_begin_anew(change: dict[str, Any], continues: bool) -> None:
    digest = choices_digest(replace(setup(), **change))
    assert (digest == choices_digest(setup())) is continues


def test_a_digest_knows_no_address_and_no_order() -> None:
    class Plain:
        pass

    def of(value: object) -> str:
        return choices_digest(replace(setup(), dataset=partial(Checkerboard, value)))  # type: ignore[arg-type]

    assert of(Plain()) == of(Plain())
    assert of({"a": 1, "b": 2}) == of({"b": 2, "a": 1}) != of({"a": 1})
    assert of({3, 1, 2}) == of({2, 1, 3})
    assert of(CatalogueChoices()) == of(CatalogueChoices())


def test_files_that_chunks_name_are_looked_at_without_a_fingerprint(tmp_path: Any) -> None:
    path, shop = tmp_path / "a", Checkerboard(UNTIL)
    path.write_text("1")
    before = inputs_digest(shop, [Chunk(str(path), 0, 1), Chunk("live.parquet", 0, 1)])
    assert inputs_digest(shop, [Chunk(str(path), 0, 1)]) == before
    path.write_text("12")
    assert inputs_digest(shop, [Chunk(str(path), 0, 1)]) != before


def test_a_refused_night_begins_anew_and_its_work_goes(file_shop: FileShop) -> None:
    refused = begin(file_shop.setup(), UNTIL)
    refuse(refused, InputError("no"))
    new = begin(file_shop.setup(), TOMORROW)
    assert ArtifactStore(new.setup.home).unfinished() == [new.plan.version]
    refuse(new, InputError("no"))
    same = begin(file_shop.setup(), TOMORROW)
    assert same.plan == new.plan
    assert not same.store.exists(same.work_path("refusal.json"))


@pytest.mark.parametrize("error", [FullError("no room"), StoreDownError("down"), OSError("lost")])
def test_what_went_wrong_around_a_night_does_not_refuse_it(
    file_shop: FileShop, error: Exception
) -> None:
    killed = begin(file_shop.setup(), UNTIL)
    refuse(killed, error)
    assert begin(file_shop.setup()).plan == killed.plan


def test_checks_that_are_allowed_now_go_on_where_they_refused(file_shop: FileShop) -> None:
    refused = begin(file_shop.setup(), UNTIL)
    refuse(refused, RefusedError("no", ("lists", "events")))
    night = begin(file_shop.setup(), allow=("lists", "events", "items"))
    assert night.plan == refused.plan
    assert night.allow == {"lists", "events", "items"}
    assert begin(file_shop.setup(), allow=["lists"]).plan.now > UNTIL


def test_a_published_night_is_refused_at_once(file_shop: FileShop) -> None:
    file_shop.night()
    with pytest.raises(ReleaseError, match="2026-01-10T020000 is published already"):
        begin(file_shop.setup(), UNTIL)


def test_a_bad_export_does_not_block_the_next_night(file_shop: FileShop) -> None:
    file_shop.night()
    file_shop.write(ITEMS[:3])
    with pytest.raises(ReleaseError, match="3 items after 20"):
        file_shop.night(days=1)
    file_shop.write([*ITEMS, item(99)])
    assert file_shop.night(days=2).counts["items"] == 21


def test_the_shop_s_own_code_counts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_shop.py").write_text("def dataset(until):\n    return 1\n")
    import own_shop  # type: ignore[import-not-found]

    def shop() -> Setup:
        return replace(setup(), dataset=own_shop.dataset)

    before = choices_digest(shop())
    assert choices_digest(shop()) == before
    (tmp_path / "own_shop.py").write_text("def dataset(until):\n    return 2\n")
    assert choices_digest(shop()) != before
    del sys.modules["own_shop"]


def test_a_home_in_a_bucket_behaves_the_same(
    file_shop: FileShop, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"endpoint_override={quote(s3)}&scheme=http&region=us-east-1"
    log = partial(SqliteCatalogueLog, file_shop.folder / "catalogue.sqlite")
    home = f"s3://test:test@shop/planning?{address}"
    shop = replace(file_shop.setup(), home=home, catalogue_store=log)
    killed = begin(shop, UNTIL)
    assert begin(shop).plan == killed.plan
    refuse(killed, InputError("no"))
    new = begin(shop, TOMORROW)
    assert new.plan.now == TOMORROW
    assert new.store.unfinished() == [new.plan.version]
