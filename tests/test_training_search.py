"""All of a search's training in order, on a shop that tiny models learn in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.config import tiny
from recsys.datasets.judgments import JudgedPairs
from recsys.encoders.hashing import HashingEncoder
from recsys.encoders.transformer import TransformerEncoder
from recsys.learning.intents import majority_categories, train_intents
from recsys.learning.search import BaseModels, SearchRecipe, train_search
from recsys.models.composition import with_parts
from recsys.pipeline.hits import FEATURES
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.vectors.relevance import pseudowords
from recsys.training import CROSS_ENCODER, ENCODER, FUSION, INTENT, USAGE, contrastive
from recsys.training.schedule import Schedule
from recsys.training.vectors import item_vectors
from tests.toy_kinds import EACH, KINDS, TEXTS, VERBS, bert_folder, judged

TRAIN, VALID = judged(VERBS[:3]), judged(VERBS[3:], 1)
#: The teacher learns what the grades say; the student gets one pass over what the teacher thinks.
RECIPE = SearchRecipe(
    encoder=Schedule(epochs=6, batch_size=32, learning_rate=2e-3, patience=0),
    teacher=Schedule(epochs=14, batch_size=32, learning_rate=3e-3, patience=0),
    student=Schedule(epochs=4, batch_size=48, learning_rate=3e-3, patience=0),
    distilled=40,
)
SHORT = replace(
    RECIPE,
    **dict.fromkeys(
        ("encoder", "teacher", "student"),
        Schedule(epochs=1, batch_size=64, learning_rate=2e-3, patience=0),
    ),
    distilled=60,
)
Trained = tuple[Path, dict[str, float], list[str]]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> BaseModels:
    plain, spread = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("spread")
    encoder = TransformerEncoder(str(bert_folder(plain)), max_tokens=16, query_prefix="find ")
    return BaseModels(encoder, bert_folder(spread, spread=0.3), spread)


def run(
    bases: BaseModels,
    recipe: SearchRecipe,
    folder: Path,
    said: Callable[[str], None],
    resume: bool = False,
) -> Any:
    lexical = LexicalIndex.build({"title": TEXTS}, {})
    pairs = {"train": TRAIN, "valid": VALID}
    return train_search(
        TEXTS,
        lexical,
        pairs,
        bases=bases,
        recipe=recipe,
        folder=folder,
        say=said,
        resume=resume,
    )


@pytest.fixture(scope="module")
def trained(bases: BaseModels, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, lines = tmp_path_factory.mktemp("trained"), list[str]()
    return folder, run(bases, RECIPE, folder, lines.append), lines


def test_the_folder_holds_every_part(trained: Trained) -> None:
    folder, _, lines = trained
    assert {path.name for path in folder.iterdir()} == {
        ENCODER,
        CROSS_ENCODER,
        FUSION,
        USAGE,
        "logs",
    }
    chosen = json.loads((folder / FUSION).read_text())
    assert chosen.keys() == {"weights", "without_cross_encoder"}
    assert chosen["weights"].keys() == {"lexical", "dense", "cross_encoder"}
    assert chosen["without_cross_encoder"].keys() == {"lexical", "dense"}
    assert json.loads((folder / USAGE).read_text()) == {
        "query_prefix": "find ",
        "item_prefix": "",
        "max_tokens": 16,
        "pooling": "mean",
    }
    assert any(line.startswith("training the teacher on ") for line in lines)
    assert any(line.startswith("training the re-ranker on ") for line in lines)


def test_what_is_trained_is_good(trained: Trained) -> None:
    """Each query has nine answers among 80 items, none of which has a word of it."""
    measured = trained[1]
    names = {"encoder/recall@10", "cross_encoder/ndcg@10", "recall@10", "recall@100", "ndcg@10"}
    assert measured.keys() == names
    assert measured["encoder/recall@10"] > 0.95
    assert measured["cross_encoder/ndcg@10"] > 0.9
    assert measured["recall@10"] > 0.95
    assert measured["recall@100"] == 1
    assert measured["ndcg@10"] > 0.95


def test_the_models_take_the_place_of_a_setups_own(trained: Trained) -> None:
    folder = trained[0]
    setup = with_parts(replace(tiny(), encoder=HashingEncoder), folder)
    encoder, reader = setup.encoder(), setup.cross_encoder and setup.cross_encoder()
    assert isinstance(encoder, TransformerEncoder)
    assert isinstance(reader, CrossEncoder)
    assert (encoder.folder, encoder.query_prefix, encoder.max_tokens) == (
        folder / ENCODER,
        "find ",
        16,
    )
    assert reader.folder == folder / CROSS_ENCODER
    top = np.argsort(-(encoder.encode_queries(["aa5"]) @ encoder.encode_items(TEXTS).T)[0])[:EACH]
    assert set((top // EACH).tolist()) == {5}
    right, wrong = reader.scores(["buy aa5"] * 2, [TEXTS[5 * EACH], TEXTS[0]])
    assert right > 0.6 > 0.4 > wrong
    assert setup.search == tiny().search
    chosen = json.loads((folder / FUSION).read_text())
    ranker = setup.search_ranker()
    assert ranker.feature_names == FEATURES
    one_each = ranker.score(np.eye(len(FEATURES), dtype=np.float32)[None])[0]
    learned = [FEATURES.index(name) for name in chosen["weights"]]
    np.testing.assert_allclose(one_each[learned], list(chosen["weights"].values()), rtol=1e-6)


def weights(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.safetensors"))
    }


def test_complete_training_is_not_done_again(
    trained: Trained, bases: BaseModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, measured, _ = trained
    before, chosen, lines = weights(folder), (folder / FUSION).read_text(), list[str]()

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a step was made")

    monkeypatch.setattr(contrastive._Contrast, "__call__", never)
    monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", never)
    monkeypatch.setattr(TransformerEncoder, "encode_items", never)
    assert run(bases, RECIPE, folder, lines.append, resume=True) == measured
    assert len([line for line in lines if line.startswith("resumed after step")]) == 3
    assert len(before) == 3
    assert weights(folder) == before
    assert (folder / FUSION).read_text() == chosen


class Killed(Exception):  # noqa: N818
    pass


def test_training_that_was_broken_off_ends_the_same(bases: BaseModels, tmp_path: Path) -> None:
    def until(line: str) -> None:
        if line.startswith("training the re-ranker"):
            raise Killed

    whole = run(bases, SHORT, tmp_path / "whole", lambda _: None)
    with pytest.raises(Killed):
        run(bases, SHORT, tmp_path / "broken", until)
    assert not (tmp_path / "broken" / FUSION).exists()
    assert run(bases, SHORT, tmp_path / "broken", lambda _: None, resume=True) == whole
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")


def test_without_a_teacher_the_grades_are_learned(bases: BaseModels, tmp_path: Path) -> None:
    recipe, lines = (
        replace(
            SHORT,
            teacher=None,
            student=Schedule(epochs=4, batch_size=32, learning_rate=3e-3, patience=0),
        ),
        list[str](),
    )
    run(bases, recipe, tmp_path, lines.append)
    assert not any("teacher" in line for line in lines)
    assert not (tmp_path / "logs" / "teacher").exists()
    #: Each query's negatives beside its twenty judged items.
    pairs = len(TRAIN.queries) * (2 * EACH + recipe.negatives)
    assert f"training the re-ranker on {pairs:,} pairs" in lines
    assert json.loads((tmp_path / FUSION).read_text())["weights"].keys() == {
        "lexical",
        "dense",
        "cross_encoder",
    }


KIND_OF = [f"kind {row // EACH}" for row in range(len(TEXTS))]


def test_intents_are_the_categories_of_the_answers(bases: BaseModels, tmp_path: Path) -> None:
    told = train_intents(KIND_OF, judged(VERBS), bases.encoder, tmp_path, say=lambda _: None)
    assert told["intent/accuracy"] > 2 / KINDS
    assert told.keys() == {"intent/accuracy", "intent/macro_f1"}
    intents = with_parts(tiny(), tmp_path).intent
    assert intents is not None
    label, _ = intents().classify(["buy aa3"])[0]
    assert label in {None, *KIND_OF}


def test_a_shop_of_one_category_has_no_intents(bases: BaseModels, tmp_path: Path) -> None:
    lines: list[str] = []
    for categories in ([""] * len(TEXTS), ["kind"] * len(TEXTS), KIND_OF):
        pairs = judged(VERBS[:1])  # one query a kind: too few to learn from
        assert train_intents(categories, pairs, bases.encoder, tmp_path, say=lines.append) == {}
    assert lines == ["no intents: the answers of the queries lie in fewer than two categories"] * 3
    assert not (tmp_path / INTENT).exists()


def test_a_query_asks_for_what_most_of_its_answers_are() -> None:
    of_P, rows_P = [0, 0, 0, 1, 1, 2, 3], [0, 1, 2, 3, 0, 3, 4]
    pairs = JudgedPairs.from_unsorted(
        ["a", "b", "bad", "bare"], of_P, rows_P, [1, 1, 1, 1, 0.75, 0.5, 1]
    )
    asked = majority_categories(["lamp", "saw", "saw", "axe", ""], pairs)
    assert asked == {"a": "saw", "b": "axe"}, (
        "the grade of bad's is too low, bare's item has no category"
    )


@pytest.mark.parametrize("recipe", [SearchRecipe.on_gpu(5), SearchRecipe.on_cpu(5)])
def test_recipes_pass_their_seed_on(recipe: SearchRecipe) -> None:
    parts = (recipe.encoder, recipe.teacher, recipe.student)
    assert [schedule.seed for schedule in parts if schedule] == [5] * (3 if recipe.teacher else 2)


def test_made_up_words_are_repeatable_and_nobodys() -> None:
    texts = pseudowords(40)
    assert texts == pseudowords(40)
    assert len(set(texts)) == 40
    assert all(
        1 <= len(text.split()) <= 3 and all(5 <= len(word) <= 8 for word in text.split())
        for text in texts
    )
    assert not {word for text in texts for word in text.split()} & {*VERBS, "red"}


class Counted(HashingEncoder):
    asked = 0

    def encode_items(self, texts: Any) -> Any:
        self.asked += 1
        return super().encode_items(texts)


def test_vectors_are_kept_for_the_same_texts_and_encoder_alone(tmp_path: Path) -> None:
    encoder = Counted(16)
    first_ID, again_ID = (item_vectors(encoder, TEXTS[:4], tmp_path) for _ in range(2))
    assert encoder.asked == 1
    np.testing.assert_array_equal(first_ID, again_ID)
    other_ID = item_vectors(encoder, ["another", *TEXTS[1:4]], tmp_path)
    np.testing.assert_array_equal(
        other_ID, HashingEncoder(16).encode_items(["another", *TEXTS[1:4]])
    )
    assert item_vectors(HashingEncoder(8), TEXTS[:4], tmp_path).shape == (4, 8)
    assert (
        item_vectors(encoder, ["ab", "c"], tmp_path)[0]
        @ item_vectors(encoder, ["a", "bc"], tmp_path)[0]
        < 0.999
    )


def test_vectors_broken_off_while_written_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, _: Any) -> None:
        Path(path).write_bytes(b"\x93NUMPY")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", broken)
        with pytest.raises(Killed):
            item_vectors(HashingEncoder(16), TEXTS, tmp_path)
    assert item_vectors(HashingEncoder(16), TEXTS, tmp_path).shape == (KINDS * EACH, 16)
