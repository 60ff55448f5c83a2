"""A file of changes: its columns are what changes, whole items are put; straight into the log, and
through the HTTP routes of a shop."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from jobs import update_items as job
from recsys.attributes.cells import CARRIED
from recsys.attributes.declaration import Attribute
from recsys.catalogue import client as catalogue_client
from recsys.catalogue.bulk import (
    FileReading,
    HttpWriter,
    LogWriter,
    ReleasedItems,
    update_items,
    wire_row,
)
from recsys.catalogue.changes import ItemChange, version_of_time
from recsys.catalogue.client import CatalogueClient
from recsys.catalogue.sqlite import SqliteCatalogueLog
from recsys.catalogue.validation import read_changes
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.files import FilesAdapter
from recsys.datasets.platforms.adapter import read_as
from recsys.errors import InputError, StoreDownError
from serve.routes.api import build_api
from tests.fake_shop import FakeShop
from tests.file_shop import FileShop, file_shop, write_rows  # noqa: F401

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
GERMAN = CatalogueChoices(currency="EUR")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteCatalogueLog]:
    log = SqliteCatalogueLog(tmp_path / "catalogue.sqlite")
    yield log
    log.close()


def table(tmp_path: Path, *rows: dict[str, object]) -> FilesAdapter:
    write_rows(tmp_path / "items.csv", rows)
    return FilesAdapter(str(tmp_path / "items.csv"))


def put(log: SqliteCatalogueLog, *item_ids: str) -> None:
    changes = [ItemChange(item_id=each, kind="put", fields={"title": "old"}) for each in item_ids]
    log.append(changes, lambda _: False)


def outcomes(
    dataset: Any, writer: Any, kind: Any = "patch", choices: CatalogueChoices = GERMAN
) -> list[tuple[str, str]]:
    reading = FileReading(kind, choices, NOON)
    rows = list(update_items(dataset, writer, reading, lambda _: None))
    return [(row.item_id, row.outcome.status) for row in rows]


def test_the_columns_of_a_file_are_what_changes(log: SqliteCatalogueLog, tmp_path: Path) -> None:
    put(log, "a", "b")
    dataset = table(
        tmp_path,
        {"item_id": "a", "price": "12,50", "in_stock": "no"},
        {"item_id": "b", "price": "1.299", "in_stock": "yes"},
        {"item_id": "ghost", "price": "1", "in_stock": ""},
        {"item_id": "a", "price": "cheap", "in_stock": ""},
    )
    writer = LogWriter(log, ReleasedItems())
    assert sorted(outcomes(dataset, writer)) == [
        ("a", "accepted"),
        ("a", "invalid"),
        ("b", "accepted"),
        ("ghost", "missing"),
    ]
    common = {"title": "old", "currency": "EUR"}
    assert {state.item_id: state.values() for state in log.states()} == {
        "a": {**common, "price": 12.5, "in_stock": False},
        # as a night reads it, by the column's other prices
        "b": {**common, "price": 1299.0, "in_stock": True},
    }
    assert outcomes(dataset, writer).count(("a", "unchanged")) == 1


def test_whole_rows_are_items_also_new_ones(log: SqliteCatalogueLog, tmp_path: Path) -> None:
    dataset = table(tmp_path, {"item_id": "a", "title": "Mug"}, {"item_id": "", "title": "x"})
    assert sorted(outcomes(dataset, LogWriter(log, ReleasedItems()), "put")) == [
        ("", "invalid"),
        ("a", "accepted"),
    ]
    [state] = log.states()
    assert (state.whole, state.values()["title"], state.values()["price"]) == (True, "Mug", None)


def test_the_time_of_a_row_is_its_version(log: SqliteCatalogueLog, tmp_path: Path) -> None:
    put(log, "a", "b")
    rows = [("a", 2, "2026-03-01T11:00:00Z"), ("a", 3, "2026-03-01T10:00:00Z")]
    future = ("b", 1, "2026-03-02T10:00:00Z")
    dataset = table(
        tmp_path, *({"item_id": i, "price": p, "updated_at": t} for i, p, t in (*rows, future))
    )
    assert outcomes(dataset, LogWriter(log, ReleasedItems())) == [
        ("a", "accepted"),
        ("a", "stale"),
        ("b", "invalid"),
    ]
    state = log.state("a")
    assert state is not None
    assert state.version == version_of_time(datetime(2026, 3, 1, 11, tzinfo=UTC))


def test_a_sale_for_a_time_is_refused(log: SqliteCatalogueLog, tmp_path: Path) -> None:
    put(log, "a", "b")
    row = {"item_id": "a", "price": "9", "sale_price": "5", "sale_ends": "2027-01-01"}
    dataset = table(tmp_path, row, row | {"item_id": "b", "sale_ends": ""})
    assert outcomes(dataset, LogWriter(log, ReleasedItems())) == [
        ("a", "invalid"),
        ("b", "accepted"),
    ]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"sale_price": "5"}, "add the regular one"),
        ({"width": "5"}, "put whole items, or give them as one column"),
        ({"updated_at": "2026-03-01"}, "has no column that changes an item"),
    ],
)
def test_columns_that_say_too_little_are_refused(
    log: SqliteCatalogueLog, tmp_path: Path, columns: dict[str, object], sentence: str
) -> None:
    choices = CatalogueChoices(attributes=(Attribute("width", "number"),))
    write_rows(tmp_path / "items.csv", [{"item_id": "a", **columns}])
    dataset = FilesAdapter(
        str(tmp_path / "items.csv"), attribute_columns=["width"][: "width" in columns]
    )
    with pytest.raises(InputError, match=sentence):
        outcomes(dataset, LogWriter(log, ReleasedItems()), choices=choices)


def test_a_valid_change_is_the_same_after_the_wire() -> None:
    attributes = (Attribute("width", "number"), Attribute("colour"))
    for choices in (
        CatalogueChoices(currency="EUR", attributes=attributes, price_unit="minor"),
        CatalogueChoices(currency="JPY", rates={"EUR": 160.0}, category_separator="|"),
    ):
        row = {
            "item_id": "a",
            "title": "Mug",
            "category": ["Home > Kitchen", "Gifts"],
            "price": 1999,
            "sale_price": 1499,
            "added": "2026-02-01T00:00:00Z",
            "attributes": {"width": "6 cm", "colour": ["red", "blue"]},
            "if_version": 7,
        }
        for kind in ("put", "patch"):
            [change] = read_changes([{**row, "op": kind}], choices, NOON)
            assert isinstance(change, ItemChange), change
            wire = json.loads(json.dumps(wire_row(change, choices)))
            [again] = read_changes([wire], choices, NOON)
            assert isinstance(again, ItemChange), again
            assert again == change
            assert (CARRIED in change.fields) == bool(choices.attributes)


def test_a_file_goes_through_the_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = FakeShop()
    monkeypatch.setattr(catalogue_client, "CALL_ROWS", 2)
    with TestClient(build_api(shop)) as served:

        def answer(request: httpx.Request) -> httpx.Response:
            headers = {"Content-Type": request.headers["Content-Type"]}
            response = served.post(request.url.path, content=request.content, headers=headers)
            return httpx.Response(response.status_code, content=response.content)

        client = CatalogueClient("http://shop", transport=httpx.MockTransport(answer))
        rows = [{"item_id": i, "price": 3} for i in ("i1", "ghost", "a/b")]
        dataset = table(tmp_path, *rows, {"item_id": "i1", "price": "cheap"})
        writer = HttpWriter(client, CatalogueChoices())
        assert sorted(outcomes(dataset, writer, choices=CatalogueChoices())) == [
            ("a/b", "accepted"),
            ("ghost", "missing"),
            ("i1", "accepted"),
            ("i1", "invalid"),
        ]
    assert shop.states["a/b"].values() == {"price": 3.0}


def test_rows_are_sent_again_until_the_shop_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, bodies = list[float](), list[bytes]()
    answers = iter(
        [
            httpx.ConnectError("refused"),
            httpx.Response(503, headers={"Retry-After": "7"}),
            httpx.Response(429),
            httpx.Response(200, json={"items": [{"index": 0, "status": "accepted"}]}),
        ]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        assert request.headers["Authorization"] == "Bearer secret"
        if isinstance(each := next(answers), Exception):
            raise each
        return each

    monkeypatch.setattr(catalogue_client.time, "sleep", waits.append)
    client = CatalogueClient("http://shop/", "secret", httpx.MockTransport(answer))
    assert [row["status"] for row in client.send([{"item_id": "ü"}])] == ["accepted"]
    assert waits == [0.5, 7.0, 14.0]
    assert set(bodies) == {'{"item_id": "ü"}'.encode()}


def test_a_shop_that_never_answers_or_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_client.time, "sleep", lambda _: None)
    for status, error, sentence in (
        (503, StoreDownError, "took no changes 10 times"),
        (403, InputError, "refuses changes: this key has no role"),
    ):
        body = {"error": {"message": "this key has no role"}}
        transport = httpx.MockTransport(
            partial(lambda s, b, _: httpx.Response(s, json=b), status, body)
        )
        with pytest.raises(error, match=sentence):
            list(CatalogueClient("http://shop", transport=transport).send([{}]))


def test_another_file_is_read_as_the_setup_s_own(tmp_path: Path) -> None:
    write_rows(tmp_path / "all.csv", [{"sku": "a", "Name": "Mug", "cost": 1}])
    write_rows(tmp_path / "some.csv", [{"sku": "a", "cost": 2}])
    columns = {"item_id": "sku", "title": "Name", "price": "cost"}
    own = FilesAdapter(str(tmp_path / "all.csv"), item_columns=columns)
    other = read_as(own, str(tmp_path / "some.csv"))
    [chunk] = other.item_chunks()
    assert other.read_items(chunk).to_pylist() == [{"item_id": "a", "price": "2"}]


SHOPS: list[FileShop] = []


def shop_setup() -> Any:
    return SHOPS[-1].setup()


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    name = "tests.test_update_items:shop_setup"
    monkeypatch.setattr(sys, "argv", ["job", "--setup", name, *words])
    return job.main()


def test_the_job_sends_whole_items_with_the_key_of_a_file(
    file_shop: FileShop,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    module = importlib.import_module("tests.test_update_items")
    monkeypatch.setattr(module, "SHOPS", [file_shop])
    monkeypatch.chdir(tmp_path)
    requests = list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        rows = [{"index": n, "status": "accepted", "reason": None} for n in range(2)]
        return httpx.Response(200, json={"items": rows})

    monkeypatch.setattr(
        job, "CatalogueClient", partial(CatalogueClient, transport=httpx.MockTransport(answer))
    )
    write_rows(tmp_path / "new.csv", [{"item_id": f"n{n}", "title": "Mug"} for n in range(2)])
    (tmp_path / "key").write_text("secret\n")
    words = ("new.csv", "--whole", "--url", "http://shop", "--key-file", "key")
    assert call(monkeypatch, *words) == 0
    [request] = requests
    assert (request.url, request.headers["Authorization"]) == (
        "http://shop/items",
        "Bearer secret",
    )
    lines = [json.loads(line) for line in request.content.splitlines()]
    assert [(line["op"], line["item_id"], line["title"], line["price"]) for line in lines] == [
        ("put", "n0", "Mug", None),
        ("put", "n1", "Mug", None),
    ]


def test_the_job_writes_what_is_good_and_says_what_is_not(
    file_shop: FileShop,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Of a shop with a release: its items exist, and what is none of them does not."""
    module = importlib.import_module("tests.test_update_items")  # as `load` will
    monkeypatch.setattr(module, "SHOPS", [file_shop])
    file_shop.night()
    monkeypatch.chdir(tmp_path)
    rows: list[dict[str, object]] = [{"item_id": f"i{n}", "price": n + 0.5} for n in range(20)]
    write_rows(tmp_path / "prices.csv", rows)
    assert call(monkeypatch, "prices.csv") == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["rows"], summary["accepted"]) == (20, 20)
    assert not (tmp_path / "prices.csv.refused.jsonl").exists()
    write_rows(
        tmp_path / "prices.csv",
        [*rows, {"item_id": "ghost", "price": 1}, {"item_id": "i1", "price": "x"}],
    )
    assert call(monkeypatch, "prices.csv") == 1, "2 of 22 are more than 5 %"
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [summary[name] for name in ("unchanged", "missing", "invalid")] == [20, 1, 1]
    refused = (tmp_path / "prices.csv.refused.jsonl").read_text().splitlines()
    reasons = {line["item_id"]: line["reason"] for line in map(json.loads, refused)}
    assert reasons["i1"] == "price is 'x': it must be a number"
    assert "put whole ones" in reasons["ghost"]
    assert call(monkeypatch, "nothing.csv") == 1
    assert "nothing" in capsys.readouterr().err
