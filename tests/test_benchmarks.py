"""The benchmarks of encoding and of top-k, small: their rows, and that they detect a wrong
answer."""

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
from recsys.batch.benchmarks import embedding
from recsys.batch.benchmarks.encoder import synthetic_texts
from recsys.config import tiny as tiny_setup
from recsys.encoders.transformer import TransformerEncoder
from recsys.retrieval.vectors import exact
from tests.test_encoders import needs_minilm, tiny  # noqa: F401

TOP_K = "--cpu --users 64 --items 600 --dim 16 --k 1 10 --excluded 0 50"


def run_job(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> Any:
    """The exit code, and the rows of the last line."""
    monkeypatch.setattr(sys, "argv", ["job", *words])
    code = job.main()
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]


def test_top_k_is_compared_with_a_reference_whatever_is_excluded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rows = run_job(benchmark_topk, monkeypatch, capsys, *TOP_K.split())
    assert code == 0
    assert [(row["k"], row["excluded"], row["exact"]) for row in rows] == [
        (k, excluded, True) for k in (1, 10) for excluded in (0, 50)
    ]
    assert all(row["of_ceiling"] > 0 for row in rows)


def test_a_wrong_top_k_is_detected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = exact.top_k
    # nothing is ever excluded
    monkeypatch.setattr(exact, "top_k", lambda *operands, exclude=None: right(*operands))
    code, rows = run_job(benchmark_topk, monkeypatch, capsys, *TOP_K.split())
    assert code == 1
    assert [row["exact"] for row in rows] == [True, False, True, False]


@needs_minilm
@pytest.mark.realdata
def test_the_model_alone_is_measured_beside_its_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "titles").write_text("red drill\noak table\nblue saw")
    words = ["--without-ray", "--alone", "20", "--titles", str(tmp_path / "titles")]
    code, rows = run_job(benchmark_encode, monkeypatch, capsys, *words)
    assert code == 0
    assert {
        "padded",
        "nightshelf, texts to vectors, float32",
        "nightshelf, texts to vectors, bfloat16",
    } <= {row["name"] for row in rows}
    assert all(row["texts_per_s"] > 0 for row in rows)
    wrong = [*np.eye(2, 384, dtype=np.float32), *np.eye(18, 384, dtype=np.float32)]
    monkeypatch.setattr(TransformerEncoder, "encode_items", lambda *_: np.array(wrong))
    assert run_job(benchmark_encode, monkeypatch, capsys, *words)[0] == 1


@pytest.mark.ray
def test_the_night_s_stages_write_the_model_s_vectors(
    ray_session: None,
    tiny: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    make = partial(TransformerEncoder, str(tiny), device="cpu")
    titles = ["red drill", "oak table", "blue saw"]
    for start in (0, 100):
        embedding.write_file(str(tmp_path), titles, start, start + 100)
    setup = replace(
        tiny_setup(),
        home=str(tmp_path / "home"),
        dataset=partial(embedding.catalogue, str(tmp_path)),
    )
    setup = replace(setup, encoder=make, night=replace(setup.night, texts_per_shard=64))
    run = embedding.run_embedding_stages(setup, time.perf_counter())
    sample = synthetic_texts(titles, 0, 100)
    assert embedding.check_vectors(run.night, make(), sample) > 0.99999
    assert 0 < run.first_shard_s <= run.seconds["embed items"]
