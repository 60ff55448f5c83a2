"""The benchmarks of encoding and of top-k, small: their rows, and that they see a wrong answer."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import benchmark_encode, benchmark_topk
from recsys.config import tiny as tiny_setup
from recsys.encoders.transformer import TransformerEncoder
from recsys.retrieval.vectors import exact
from tests.test_encoders import needs_minilm, tiny  # noqa: F401


def called(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> Any:
    """The exit code, and the rows of the last line."""
    monkeypatch.setattr(sys, "argv", ["job", *words])
    code = job.main()
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]


TOP_K = [
    "--cpu",
    "--users",
    "64",
    "--items",
    "600",
    "--dim",
    "16",
    "--k",
    "1",
    "10",
    "--excluded",
    "0",
    "50",
]


def test_top_k_is_held_against_a_reference_whatever_is_excluded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rows = called(benchmark_topk, monkeypatch, capsys, *TOP_K)
    assert code == 0
    assert [(row["k"], row["excluded"], row["exact"]) for row in rows] == [
        (k, excluded, True) for k in (1, 10) for excluded in (0, 50)
    ]
    assert all(row["of_ceiling"] > 0 for row in rows)


def test_a_wrong_top_k_is_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = exact.top_k
    monkeypatch.setattr(
        exact, "top_k", lambda *given, exclude=None: right(*given)
    )  # nothing is ever left out
    code, rows = called(benchmark_topk, monkeypatch, capsys, *TOP_K)
    assert code == 1
    assert [row["exact"] for row in rows] == [True, False, True, False]


@needs_minilm
@pytest.mark.realdata
def test_the_model_alone_is_measured_beside_its_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "titles").write_text("red drill\noak table\nblue saw")
    words = ["--without-ray", "--alone", "20", "--titles", str(tmp_path / "titles")]
    code, rows = called(benchmark_encode, monkeypatch, capsys, *words)
    assert code == 0
    named = {row["name"]: row for row in rows}
    assert {
        "padded",
        "nightshelf, texts to vectors, float32",
        "nightshelf, texts to vectors, bfloat16",
    } <= set(named)
    assert all(row["texts_per_s"] > 0 for row in rows)
    wrong = [*np.eye(2, 384, dtype=np.float32), *np.eye(18, 384, dtype=np.float32)]
    monkeypatch.setattr(TransformerEncoder, "encode_items", lambda *_: np.array(wrong))
    assert called(benchmark_encode, monkeypatch, capsys, *words)[0] == 1


@pytest.mark.ray
def test_the_night_s_stages_write_what_the_model_makes_of_the_texts(
    ray_session: None,
    tiny: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    make = partial(TransformerEncoder, str(tiny), device="cpu")
    titles = ["red drill", "oak table", "blue saw"]
    for start in (0, 100):
        benchmark_encode._write_piece(str(tmp_path), titles, start, start + 100)
    setup = replace(
        tiny_setup(),
        home=str(tmp_path / "home"),
        dataset=partial(benchmark_encode._catalogue, str(tmp_path)),
    )
    setup = replace(setup, encoder=make, night=replace(setup.night, texts_per_shard=64))
    place, seconds, first = benchmark_encode._embedded(setup, time.perf_counter())
    assert benchmark_encode._checked(place, make(), benchmark_encode.made(titles, 0, 100)) > 0.99999
    assert 0 < first <= seconds["embed items"]
