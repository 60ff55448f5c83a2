"""What evaluations measure, on catalogues where the right answers are known."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import evaluate_search
from recsys.config import tiny
from recsys.datasets import taobao_types
from recsys.datasets.judgments import JudgedPairs
from recsys.encoders.hashing import HashingEncoder
from recsys.encoders.transformer import TransformerEncoder
from recsys.evaluation import intents, search, titles
from recsys.evaluation.results import text_table
from recsys.evaluation.search import (
    identifier_hits,
    part_hits,
    sample_code_parts,
    sample_codes,
    search_scores,
)
from recsys.evaluation.search_systems import SearchCatalogue, SearchSystem, search_systems
from recsys.learning.search import SearchRecipe
from recsys.tables import ITEMS_IN
from recsys.training.schedule import Schedule
from recsys.types import Floats, Rows
from tests.toy_kinds import TEXTS, VERBS, bert_folder, judged

COLOURS, THINGS = (
    ["red", "blue", "green", "white", "black"],
    ["chair", "table", "lantern", "shelf", "clock", "mirror"],
)
TITLES = [
    f"{colour} {thing} {thing[:2]}{colour[:2]}{7 * at + 10}"
    for at, (colour, thing) in enumerate((colour, thing) for thing in THINGS for colour in COLOURS)
]
ENCODER = HashingEncoder(512)
#: A query for each thing and colour of it; its answer is that item, and the thing in another colour
#: is half right.
TEST = JudgedPairs.from_unsorted(
    [" ".join(title.split()[:2]) for title in TITLES],
    np.arange(len(TITLES)).repeat(3),
    np.array(
        [
            row
            for at in range(len(TITLES))
            for row in (at, at // 5 * 5 + (at + 1) % 5, (at + 7) % len(TITLES))
        ]
    ),
    np.tile([1.0, 0.5, 0.0], len(TITLES)),
)


def items(of: Sequence[str]) -> pa.Table:
    columns = {"item_id": [f"item{row:03d}" for row in range(len(of))], "title": list(of)}
    return pa.table({f.name: columns.get(f.name, pa.nulls(len(of), f.type)) for f in ITEMS_IN})


class Reader:
    """Prefers texts that share words with the query, as a cross-encoder would."""

    def scores(self, queries: Sequence[str], texts: Sequence[str]) -> Floats:
        shared = [
            len(set(query.split()) & set(text.split())) / 3
            for query, text in zip(queries, texts, strict=True)
        ]
        return np.array(shared, np.float32)


@pytest.fixture(scope="module")
def shelf() -> SearchCatalogue:
    return SearchCatalogue.of(items(TITLES))


@pytest.fixture(scope="module")
def every(shelf: SearchCatalogue) -> dict[str, SearchSystem]:
    encoded = (ENCODER, ENCODER.encode_items(shelf.texts))
    setup = replace(tiny(), encoder=lambda: ENCODER, cross_encoder=Reader)  # type: ignore[arg-type]
    return search_systems(shelf, encoded, encoded, setup, {"lexical": 1.0, "dense": 0.5})


@pytest.fixture(scope="module")
def measured(shelf: SearchCatalogue, every: dict[str, SearchSystem]) -> dict[str, dict[str, float]]:
    codes = sample_codes(shelf, 20)
    return {name: search_scores(contender, shelf, TEST, codes) for name, contender in every.items()}


def test_the_contenders_are_floors_parts_and_the_whole(every: dict[str, SearchSystem]) -> None:
    assert list(every) == [
        "random",
        "bm25",
        "dense_zero_shot",
        "dense_tuned",
        "hybrid",
        "nightshelf",
    ]


WITH_INTERVAL = [
    "recall@10",
    "recall@100",
    "ndcg@10",
    "mrr",
    "recall@10/typo",
    "identifier@1",
    "code_part@10",
]


def test_every_contender_has_every_column(measured: dict[str, dict[str, float]]) -> None:
    columns = {f"{name}{end}" for name in WITH_INTERVAL for end in ("", "/low", "/high")}
    for row in measured.values():
        assert row.keys() == columns | {"recall@10/lost_to_typo", "p50_ms", "p95_ms"}
        assert all(row[f"{name}/low"] <= row[name] <= row[f"{name}/high"] for name in WITH_INTERVAL)
        assert all(0 <= row[name] <= 1 for name in WITH_INTERVAL)
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["recall@10/lost_to_typo"] == pytest.approx(
            1 - row["recall@10/typo"] / row["recall@10"]
        )


def test_random_is_worst_and_the_whole_finds_everything(
    measured: dict[str, dict[str, float]],
) -> None:
    for column in ("recall@10", "ndcg@10", "mrr"):
        others = [row[column] for name, row in measured.items() if name != "random"]
        assert measured["random"][column] < min(others)
    for name in ("bm25", "hybrid", "nightshelf"):
        assert measured[name]["recall@10"] == 1
        assert measured[name]["mrr"] == 1
        assert measured[name]["ndcg@10"] > 0.95
    assert measured["random"]["recall@10"] == pytest.approx(1 / 3, abs=0.25)
    assert measured["random"]["recall@100"] == 1, "there are only 30 items"


def test_codes_come_first_and_typos_are_mended(measured: dict[str, dict[str, float]]) -> None:
    assert measured["nightshelf"]["identifier@1"] == 1
    assert measured["random"]["identifier@1"] < 0.5
    assert measured["nightshelf"]["recall@10/typo"] > 0.95
    assert measured["nightshelf"]["mrr"] >= measured["hybrid"]["mrr"]


def test_measure_of_an_order_that_is_written_down(shelf: SearchCatalogue) -> None:
    """The answer always second, behind the half right one."""

    class Written:
        def rank(self, text: str) -> Rows:
            at = TEST.queries.index(text) if text in TEST.queries else 0
            return np.array([at // 5 * 5 + (at + 1) % 5, at], np.int32)

        def score(self, text: str, rows: Rows) -> Floats:
            return -np.arange(len(rows), dtype=np.float32)

    row = search_scores(Written(), shelf, TEST, sample_codes(shelf, 4))
    assert (row["recall@10"], row["recall@100"], row["mrr"]) == (1, 1, 0.5)
    assert row["ndcg@10"] == 1, "what was judged is ranked by `judge` alone"
    assert (row["mrr/low"], row["mrr/high"]) == (0.5, 0.5)


def test_without_codes_or_hits_there_is_no_number() -> None:
    class Nothing:
        def rank(self, text: str) -> Rows:
            return np.empty(0, np.int32)

        def score(self, text: str, rows: Rows) -> Floats:
            return np.zeros(len(rows), np.float32)

    plain = SearchCatalogue.of(items(["red chair", "blue table"]))
    row = search_scores(
        Nothing(),
        plain,
        JudgedPairs.from_unsorted(["chair"], [0], [0], [1.0]),
        sample_codes(plain, 5),
    )
    assert (row["recall@10"], row["mrr"]) == (0, 0)
    assert np.isnan([row["identifier@1"], row["recall@10/lost_to_typo"]]).all()


def test_sampled_codes_are_tokens_with_letters_and_digits() -> None:
    shelf = SearchCatalogue.of(
        items(["Saw AB123 18v 10-inch", "drill ab123 XY-99000 12345 x2y3z4", "lamp AAAAA 9q8w7e"])
    )
    assert sorted(sample_codes(shelf, 10)) == ["9q8w7e", "ab123", "x2y3z4"]


def test_sampled_codes_repeat(shelf: SearchCatalogue) -> None:
    first = sample_codes(shelf, 12)
    assert first == sample_codes(SearchCatalogue.of(items(TITLES[::-1])), 12), (
        "whatever the order of the catalogue"
    )
    assert (len(first), len(set(first))) == (12, 12)
    assert first != sample_codes(shelf, 12, seed=1)
    assert set(first) <= {title.split()[-1] for title in TITLES}
    assert len(sample_codes(shelf, 1000)) == len(TITLES)


def test_the_first_item_must_have_the_code(shelf: SearchCatalogue) -> None:
    class First:
        def __init__(self, *rows: int) -> None:
            self.rows = np.array(rows, np.int32)

        def rank(self, text: str) -> Rows:
            return self.rows

        def score(self, text: str, rows: Rows) -> Floats:
            return np.zeros(len(rows), np.float32)

    codes = [TITLES[0].split()[-1], TITLES[1].split()[-1], "item001"]
    assert identifier_hits(First(0, 1), shelf, codes).tolist() == [1, 0, 0]
    assert identifier_hits(First(1, 0), shelf, codes).tolist() == [0, 1, 1]
    assert identifier_hits(First(), shelf, codes).tolist() == [0, 0, 0]
    assert part_hits(First(0, 1), shelf, [("x", code) for code in codes]).tolist() == [1, 1, 1]
    assert part_hits(First(0), shelf, [("x", code) for code in codes]).tolist() == [1, 0, 0]


def test_parts_of_codes_are_cut_from_them() -> None:
    titles = ["Pump AB123456", "Lamp KVX9TN450", "Cord 1500mah", "Tap WX10193"]
    shelf = SearchCatalogue.of(items(titles))
    parts = sample_code_parts(shelf, 10)
    assert {code for _, code in parts} <= {"ab123456", "kvx9tn450", "wx10193"}
    assert parts
    for part, code in parts:
        assert part in code
        assert 5 <= len(part) < len(code)


@pytest.mark.parametrize("name", ["bm25", "dense_tuned", "hybrid", "nightshelf"])
def test_a_contender_judges_as_it_ranks(every: dict[str, SearchSystem], name: str) -> None:
    ranked = every[name].rank("green lantern")[:6]
    assert TITLES[ranked[0]].startswith("green lantern")
    judged_N = every[name].score("green lantern", ranked)
    assert (np.diff(judged_N) <= 1e-6).all()
    assert judged_N[0] > judged_N[-1]


def test_words_bring_only_what_has_one(every: dict[str, SearchSystem]) -> None:
    assert {TITLES[row].split()[1] for row in every["bm25"].rank("mirror")} == {"mirror"}
    assert every["bm25"].rank("xyzzy").tolist() == []
    assert len(every["dense_tuned"].rank("xyzzy")) == len(TITLES)
    assert len(set(every["random"].rank("mirror").tolist())) == len(TITLES)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy search as a folder of two tables."""
    folder = tmp_path_factory.mktemp("toy")
    pq.write_table(items(TEXTS), folder / "items.parquet")
    splits = {
        "train": judged(VERBS[:2]),
        "valid": judged(VERBS[2:3], 1),
        "test": judged(VERBS[3:], 2),
    }
    rows = [
        {
            "query": pairs.queries[q],
            "item_id": f"item{row:03d}",
            "relevance": 1 + 2 * grade,
            "split": split,
        }
        for split, pairs in splits.items()
        for q, row, grade in zip(pairs.query_P, pairs.rows_P, pairs.grades_P.tolist(), strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "judgments.parquet")
    return folder


def tiny_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TransformerEncoder(str(bert_folder(folder)), max_tokens=16)
    short = SearchRecipe(
        encoder=Schedule(epochs=10, batch_size=32, learning_rate=2e-3, patience=0),
        teacher=None,
        student=Schedule(epochs=1, batch_size=64, learning_rate=1e-3, patience=0),
    )
    monkeypatch.setattr(search, "minilm", lambda: encoder)
    monkeypatch.setattr(search, "bert_tiny", lambda: folder)
    monkeypatch.setattr(SearchRecipe, "for_machine", lambda seed: short)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["evaluate_search", *words])
    return evaluate_search.main()


@pytest.mark.slow
def test_the_job_trains_measures_and_prints(
    shop: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_models(tmp_path_factory.mktemp("bert"), monkeypatch)
    models = tmp_path_factory.mktemp("models")
    words = ("--data", str(shop), "--models", str(models))
    assert call(monkeypatch, *words) == 0
    first = capsys.readouterr().out.splitlines()
    summary = json.loads(first[-1], parse_constant=not_json)
    assert (summary["job"], summary["dataset"]) == ("evaluate_search", shop.name)
    rows = {row["name"]: row for row in summary["rows"]}
    assert rows["dense_tuned"]["recall@10"] > 0.9 > 0.4 > rows["dense_zero_shot"]["recall@10"]
    assert all(row.keys() == rows["random"].keys() for row in rows.values())
    assert rows["bm25"]["recall@10"] == 0, "no query has a word of its items"
    assert rows["nightshelf"]["identifier@1"] is None, "no title has a code"
    table = first[-1 - 1 - len(rows) : -1]
    assert [line.split()[0] for line in table[1:]] == list(rows)
    assert call(monkeypatch, *words) == 0
    again = capsys.readouterr().out
    assert f"the models in {models} are used as they are" in again
    assert (
        json.loads(again.splitlines()[-1])["rows"][3]["recall@10"]
        == rows["dense_tuned"]["recall@10"]
    )


def not_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_bad_input_is_a_sentence(
    tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--data", str(tmp_path)) == 1
    assert (
        "items.parquet: put items.parquet and judgments.parquet into one folder"
        in capsys.readouterr().err
    )
    (tmp_path / "items.parquet").write_bytes((shop / "items.parquet").read_bytes())
    empty = pq.read_table(shop / "judgments.parquet")[:0]
    pq.write_table(empty, tmp_path / "judgments.parquet")
    assert call(monkeypatch, "--data", str(tmp_path)) == 1
    assert "judgments.parquet has no rows" in capsys.readouterr().err


def test_folders_of_one_name_do_not_share_models(
    tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(
        search,
        "evaluate_search",
        lambda folder, models, *_: seen.append(models) or [{"name": "x", "a": 0.5}],
    )
    for name in ("first", "second"):
        folder = tmp_path / name / "shop"
        folder.mkdir(parents=True)
        for file in ("items.parquet", "judgments.parquet"):
            (folder / file).write_bytes(
                (shop / file).read_bytes() + (name.encode() if file[0] == "j" else b"")
            )
        for _ in range(2):
            assert call(monkeypatch, "--data", str(folder)) == 0
    assert len(seen) == 4
    assert len(set(seen)) == 2


def test_the_table_has_every_metric_once_with_its_interval() -> None:
    first: dict[str, Any] = {
        "recall@10": 0.12345,
        "recall@10/low": 0.1,
        "recall@10/high": 0.2,
        "accuracy": 0.25,
    }
    rows = [
        {"name": "random", **first, "p50_ms": 0.04},
        {"name": "nightshelf", **first, "p50_ms": 12.34},
    ]
    table = text_table(rows, evaluate_search.columns(rows))
    assert [line.split() for line in table.splitlines()] == [
        ["recall@10", "accuracy", "p50_ms"],
        ["random", "0.1235", "[0.1000,", "0.2000]", "0.2500", "0.0"],
        ["nightshelf", "0.1235", "[0.1000,", "0.2000]", "0.2500", "12.3"],
    ]


def test_the_table_has_all_that_is_measured(measured: dict[str, dict[str, float]]) -> None:
    rows = [{"name": name, **row} for name, row in measured.items()]
    header, *lines = text_table(rows, evaluate_search.columns(rows)).splitlines()
    columns = [*WITH_INTERVAL, "recall@10/lost_to_typo", "p50_ms", "p95_ms"]
    assert header.split() == columns
    for line, (name, row) in zip(lines, measured.items(), strict=True):
        assert line.startswith(name)
        for column in columns:
            assert (
                f"{row[column]:.1f}" if column.endswith("_ms") else f"{row[column]:.4f}"
            ) in line


def test_titles_are_measured_beside_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["手机壳", "耳机", "茶杯", "雨伞", "毛巾", "台灯", "书包", "袜子", "风扇", "水壶"]
    texts = [f"新款{name}{at}" for name in names for at in range(5)]
    relevant = {name: list(range(5 * at, 5 * at + 5)) for at, name in enumerate(names)}
    monkeypatch.setattr(taobao_types, "read_tagged_titles", lambda: (texts, relevant))
    monkeypatch.setattr(titles, "multilingual_e5", lambda: ENCODER)
    rows = {row.pop("name"): row for row in titles.evaluate_titles(lambda _: None)}
    assert list(rows) == [
        "random",
        "char_tfidf",
        "char_tfidf_sublinear",
        "bm25",
        "dense_zero_shot",
        "nightshelf",
    ]
    assert all(len({*row}) == 4 for row in rows.values())
    assert (
        rows["char_tfidf"]["recall@10"]
        == rows["bm25"]["recall@10"]
        == rows["nightshelf"]["recall@10"]
        == 1
    )
    assert rows["random"]["recall@10"] < 0.6
    assert rows["nightshelf"]["recall@10/valid"] >= rows["bm25"]["recall@10/valid"]


@pytest.mark.slow
def test_intents_are_measured_beside_a_linear_model(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(name: str, verbs: Sequence[str]) -> None:
        lines = [
            f"{verb} aa{kind} {colour},kind {kind}"
            for verb in verbs
            for kind in range(4)
            for colour in COLOURS
        ]
        (tmp_path / name).write_text("\n".join(["text,category", *lines]) + "\n")

    write("train.csv", VERBS[:3])
    write("test.csv", VERBS[3:])
    encoder = TransformerEncoder(
        str(bert_folder(tmp_path_factory.mktemp("bert"), spread=0.3)), max_tokens=16
    )
    monkeypatch.setattr(intents, "minilm", lambda: encoder)
    models, lines = tmp_path_factory.mktemp("models"), list[str]()
    linear, ours = intents.evaluate_intents(tmp_path, models, say=lines.append)
    assert linear == {"name": "tfidf_linear", "accuracy": 1, "macro_f1": 1}
    assert ours["name"] == "nightshelf"
    assert ours["accuracy"] > 1 / 4
    assert lines[0] == f"{tmp_path.name}: 60 texts to train on, 20 to test, 4 classes"
    assert intents.evaluate_intents(tmp_path, models, say=lines.append) == [linear, ours]
    assert lines[-1] == f"the classifier in {models / 'classifier'} is used as it is"
