"""A shop's files to a setup: what is said of them, and the file that is written."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from jobs import serve_local
from recsys.config import Setup, tiny
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.inspection import inspect_events, inspect_items, rule_of, variant_names
from recsys.datasets.recognition import recognise
from recsys.datasets.setup_file import ShopFile, dataset_code, setup_code, write_setup
from recsys.datasets.shop_report import catalogue_lines, log_lines, table_lines
from recsys.encoders.english import is_mostly_english
from recsys.errors import InputError
from tests.test_platforms import export

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def sources(*names: str):
    return [recognise(export(name)) for name in names]


def load_setup(folder: Path, monkeypatch, shop: ShopFile) -> Setup:
    write_setup(folder, shop)
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(f"{shop.name}.setups").shop()


def test_the_file_that_is_written_is_a_setup(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    shop = ShopFile(
        name="shop_of_shirts",
        sources=sources("shopify_products.csv", "shopify_orders.csv"),
        variant_names=["Color", "Size"],
        attributes=True,
    )
    setup = load_setup(tmp_path, monkeypatch, shop)
    assert setup.name == "shop_of_shirts"
    assert setup.home == f"{tmp_path}/home/shop_of_shirts"
    assert [(each.name, each.variant) for each in setup.catalogue.attributes] == [
        ("Color", True),
        ("Size", True),
    ]
    assert setup.catalogue.infer_attributes
    assert setup.dataset(NOW).item_chunks()[0].rows == 5


def test_a_setup_of_two_adapters_and_another_encoder(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    names = ("merchant_feed.xml", "ga4_events.jsonl")
    shop = ShopFile(name="shop_of_mugs", sources=sources(*names), english=False)
    setup = load_setup(tmp_path, monkeypatch, shop)
    assert setup.encoder.__name__ == "multilingual_e5"
    assert setup.dataset(NOW).event_chunks()


def test_a_mapping_stands_in_the_file(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('sku,"the ""name"""\na1,Desk lamp\n')
    source = recognise(str(path))
    assert source.columns["title"] == 'the "name"'
    code = dataset_code([source])
    assert '"title": "the \\"name\\"",' in code
    assert eval(code, {"FilesAdapter": source.form.adapter}).item_columns == source.columns


def test_code_is_formatted_as_ours_is(tmp_path):
    shop = ShopFile(
        name="my_shop",
        sources=sources("merchant_feed.xml", "ga4_events.jsonl"),
        variant_names=["Color"],
        attributes=True,
        english=False,
    )
    path = tmp_path / "setups.py"
    path.write_text(setup_code(shop))
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,I", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_file_is_not_written_over(tmp_path):
    shop = ShopFile(name="my_shop", sources=sources("merchant_feed.xml"))
    path = write_setup(tmp_path, shop)
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write_setup(tmp_path, shop)
    assert path.read_text() == "mine"
    write_setup(tmp_path, shop, force=True)
    assert "def shop()" in path.read_text()


class Rows:
    """A data set of one chunk by hand."""

    name = "rows"

    def __init__(self, path: Path, items: pa.Table, events: pa.Table) -> None:
        from recsys.interfaces import Chunk

        self.items, self.events = items, events
        self.item_chunks = lambda: [Chunk(str(path), 0, len(items))]
        self.event_chunks = lambda: [Chunk(str(path), 0, len(events))]
        self.read_items = lambda chunk: items
        self.read_events = lambda chunk: events


ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c"],
        "title": ["Mug", "Lamp", "Vase"],
        "price": ["12", "ask us", "ask them"],
    }
)
EVENTS = pa.table(
    {
        "event_id": ["1", "2", "3"],
        "user_id": ["u", "u", "v"],
        "item_id": ["a", "x", "a"],
        "type": ["purchase"] * 3,
        "time": ["2026-10-01T10:00:00+02:00", "2026-10-02 10:00", "2036-10-02"],
    }
)


def test_refusals_are_counted_by_rule(tmp_path):
    items = inspect_items(Rows(tmp_path, ITEMS, EVENTS), CatalogueChoices())
    (rule,) = items.refusals
    assert rule.startswith("price: ")
    assert items.refusals[rule].rows == 2
    assert "'ask us'" in items.refusals[rule].example
    text = "\n".join(catalogue_lines(items, {"drafts": 4}))
    assert "1 items of 3 rows" in text
    assert "left out: 4 drafts" in text
    assert "refused: 2 rows (66.7%)" in text


def test_a_log_says_its_zones_and_strangers(tmp_path):
    events = inspect_events(Rows(tmp_path, ITEMS, EVENTS), CatalogueChoices(), NOW)
    text = "\n".join(log_lines(events, {}, {"a"}))
    assert "2 events of 3 rows: 2 purchase" in text
    assert "2026-10-01 08:00 to 2026-10-02 10:00 UTC, of which 2 say no zone" in text
    assert "1 of 2 items of the events are not in the catalogue, such as 'x'" in text


def test_a_rule_is_what_the_reason_says_of_any_value():
    assert rule_of("price is 'a: b': it must be a number") == "price: it must be a number"
    assert rule_of("item_id is missing: it must not be empty") == "item_id: it must not be empty"
    assert rule_of("something else") == "something else"


def test_variants_differ_in_some_attributes():
    texts = ['{"size": "S", "fit": "slim"}', '{"size": "M", "fit": "slim"}', "no object", None]
    raw = pa.table({"group_id": ["g", "g", "g", "g"], "attributes": texts})
    assert variant_names(raw) == ["size"]


def test_a_preview_cuts_long_cells():
    lines = list(table_lines({"title": ["x" * 50, None], "price": [12.5, None]}))
    assert lines[1].strip() == f"{'x' * 25}...  12.5"


@pytest.mark.parametrize(
    ("titles", "english"),
    [
        (["Women's linen shirt", "Garden hose, stainless steel", "Ceramic coffee mug"], True),
        (["Damen Leinenhemd", "Gartenschlauch aus Edelstahl", "Kaffeebecher Keramik"], False),
        (["Chemise en lin pour femme", "Tuyau d'arrosage en inox", "Tasse à café"], False),
        (["荣耀手机", "红色口红 保湿"], False),
        ([], True),
    ],
)
def test_the_default_encoder_is_for_english(titles, english):
    assert is_mostly_english(titles) == english


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-m", "jobs.start_shop", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(root), "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_job_writes_a_setup_and_says_what_is_next(tmp_path):
    done = run(tmp_path, export("magento_products.csv"), "--name", "mugs")
    assert done.returncode == 0, done.stderr
    assert "Magento's product export, utf-8, commas" in done.stdout
    assert "python -m jobs.nightly --setup mugs.setups:shop" in done.stdout
    assert (tmp_path / "mugs" / "setups.py").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing.csv"], "there is nothing at nothing.csv"),
        ([export("merchant_feed.xml"), "--name", "my-shop"], "is no name of a Python package"),
        ([export("merchant_feed.xml"), "--name", "recsys"], "is taken"),
    ],
)
def test_an_error_is_a_sentence(tmp_path, arguments, sentence):
    done = run(tmp_path, *arguments)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_was_seen_stands_in_the_choices(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    path = tmp_path / "items.csv"
    path.write_text("sku,name,Width\n" + "".join(f"a{n},Desk lamp,{n % 3} cm\n" for n in range(9)))
    shop = ShopFile(
        name="shop_of_lamps",
        sources=[recognise(str(path))],
        variant_names=["Width"],
        currency="EUR",
        zoneless=True,
        open_choices={"decimal": 3},
    )
    (attribute,) = (catalogue := load_setup(tmp_path, monkeypatch, shop).catalogue).attributes
    assert (attribute.name, attribute.kind, attribute.variant) == ("Width", "number", True)
    assert (catalogue.currency, catalogue.time_zone) == ("EUR", "UTC")
    assert "# decimal=...,  # without it 3 rows are refused" in setup_code(shop)


def test_an_encoder_that_is_not_installed_is_not_chosen(tmp_path, monkeypatch):
    sources_ = sources("merchant_feed.xml")
    shop = ShopFile(name="shop_of_vases", sources=sources_, english=False, multilingual=False)
    setup = load_setup(tmp_path, monkeypatch, shop)
    assert setup.encoder.__name__ == "minilm"
    assert "# pip install 'nightshelf[chinese]'" in setup_code(shop)


def test_refusals_name_the_choices_that_they_wait_for(tmp_path):
    raw = pa.table({"item_id": ["a", "b"], "title": ["Mug", "Lamp"], "price": ["1.299", "2.500"]})
    items = inspect_items(Rows(tmp_path, raw, EVENTS), CatalogueChoices())
    assert items.open_choices() == {"decimal": 2}
    assert "a night would stop" in "\n".join(catalogue_lines(items, {}))


def test_only_a_shop_without_a_release_gets_a_first_night(tmp_path, monkeypatch, capsys):
    setup = replace(tiny(), home=str(tmp_path))
    monkeypatch.setattr(serve_local, "begin", lambda setup: setup.home)
    monkeypatch.setattr(serve_local, "run_night", lambda night, say: SimpleNamespace(version="v1"))
    serve_local.publish_first(setup)
    assert capsys.readouterr().out.split("\n")[1] == "published v1"
    monkeypatch.setattr(serve_local.ArtifactStore, "current", lambda store: "v1")
    serve_local.publish_first(setup)
    assert capsys.readouterr().out == ""
