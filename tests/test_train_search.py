"""Search trained by two workers of Ray Train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys.batch.train import run_distributed
from recsys.encoders.transformer import TransformerEncoder
from recsys.learning.search import BaseModels, SearchRecipe, train_search
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.training.schedule import Schedule
from tests.toy_kinds import TEXTS, VERBS, bert_folder, judged


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_train_search(ray_session: Any, tmp_path: Path) -> None:
    """Both mine and list alike, share every step, and the first alone writes."""
    encoder = TransformerEncoder(str(bert_folder(tmp_path)), max_tokens=16)
    short = Schedule(epochs=1, batch_size=32, learning_rate=2e-3, patience=0)
    known = {
        "texts": TEXTS,
        "lexical": LexicalIndex.build({"title": TEXTS}, {}),
        "pairs": {"train": judged(VERBS[:3]), "valid": judged(VERBS[3:], 1)},
        "bases": BaseModels(encoder, encoder.folder, encoder.folder),
        "recipe": SearchRecipe(encoder=short, teacher=short, student=short, distilled=20),
        "folder": tmp_path / "trained",
        "say": print,
    }
    measured = run_distributed(train_search, known, workers=2, cpus=0.5)
    assert 0 <= measured["recall@10"] <= 1
    assert {path.name for path in (tmp_path / "trained").iterdir()} >= {
        "encoder",
        "cross_encoder",
        "fusion.json",
    }
