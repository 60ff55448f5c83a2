"""The classifier on a language of eight words, its checks, and banking77's nearest centroids."""

import json
import sys
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs import train_classifier as train_job
from recsys.datasets import data_folder
from recsys.datasets.labelled_texts import read_labelled_texts
from recsys.encoders import minilm
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError, NotFoundError
from recsys.training import classifier
from recsys.training.calibration import softmax
from recsys.training.classifier import (
    ClassifierRecipe,
    classifier_choices,
    evaluate_classifier,
    supervised_contrastive,
    train_classifier,
)
from recsys.training.labelled import (
    check_labelled,
    hold_out_classes,
    split_by_class,
    stratified_split,
)
from recsys.training.pooled import Pooled, Tokens
from recsys.training.schedule import Schedule
from recsys.understanding.intent import IntentClassifier
from tests.test_encoders import needs_minilm, tiny  # noqa: F401

NOUNS = {"saw": "tool", "drill": "tool", "table": "furniture", "lamp": "light"}
TEXTS = [
    f"{adjective} {noun} {letter}"
    for adjective, noun, letter in product(("red", "blue"), NOUNS, "abcdef")
]
LABELS = [NOUNS[text.split()[1]] for text in TEXTS]
TEST = [f"green {noun} {letter}" for noun, letter in product(NOUNS, "gh")]
SCHEDULE = Schedule(epochs=10, batch_size=8, learning_rate=0.01, head_rate=10)


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("intent")
    metrics = train_classifier(TEXTS, LABELS, TransformerEncoder(str(tiny)), folder, SCHEDULE)
    return folder, metrics


def test_learns_the_noun(trained):
    folder, metrics = trained
    found = evaluate_classifier(
        IntentClassifier(folder), TEST, [NOUNS[text.split()[1]] for text in TEST]
    )
    assert found["accuracy"] == found["macro_f1"] == 1
    assert metrics["accuracy"] == 1 > metrics["best"] > 0.99 > metrics["start"]
    assert (metrics["train"], metrics["valid"]) == (44, 4)


def test_what_is_saved(trained):
    folder, metrics = trained
    about = json.loads((folder / "labels.json").read_text())
    assert about["classes"] == ["furniture", "light", "tool"]
    assert about["metrics"] == metrics
    assert (about["seed"], about["recipe"]["label_smoothing"]) == (0, 0.1)
    assert not [
        file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pkl", ".pickle")
    ]


class Fake:
    """Knows four texts: right and sure, right and unsure, wrong and sure, and one from outside as
    unsure."""

    classes, temperature, threshold = ("x", "y"), 2.0, 0.7

    def logits(self, texts):
        known = {
            "sure": (2.0, 0.0),
            "unsure": (0.0, 1.0),
            "wrong": (0.0, 4.0),
            "outside": (0.0, 1.5),
            "far": (9.0, 0.0),
        }
        return np.array([known[text] for text in texts])

    def probabilities(self, texts):
        return softmax(self.logits(texts) / self.temperature)


def test_evaluation_of_known_answers():
    """Divided by 2 the confidences are .73, .62, .88, .68 and .99: two of five stand below .7."""
    found = evaluate_classifier(
        Fake(), ["sure", "unsure", "wrong"], ["x", "y", "x"], outside=["outside", "far"]
    )
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["kept"] == 0.5
    assert found["refused"] == 0.5
    assert found["accuracy/all"] == pytest.approx(2 / 5)
    assert found["auroc"] == pytest.approx(2 / 6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_module_gives_the_encoders_vectors(tiny, pooling):  # noqa: F811
    """Also where a batch is run in pieces, and of the folder that it saves."""
    base = TransformerEncoder(str(tiny), query_prefix="a ", pooling=pooling)
    texts = [
        "red saw",
        "blue drill oak table",
        "",
        "lamp",
        "red " * 9,
        "a b",
        "c d e",
        "saw saw",
        "f",
        "g h",
    ]
    tokens = Tokens(base, texts, "a ")
    with torch.no_grad():
        vectors_ND = Pooled(base).eval()(*tokens.batch(np.arange(len(texts)), "cpu"))
    np.testing.assert_allclose(vectors_ND, base.encode_queries(texts), atol=1e-5)
    assert sorted(np.concatenate(tokens.blocks(3)).tolist()) == list(range(10))


@pytest.mark.parametrize(
    "recipe",
    [
        ClassifierRecipe(adapters="lora", rank=4),
        ClassifierRecipe(rdrop=1.0),
        ClassifierRecipe(supcon=0.5),
        ClassifierRecipe(label_smoothing=0),
    ],
)
def test_variants_learn_too(tiny, tmp_path, recipe):  # noqa: F811
    if recipe.adapters:
        pytest.importorskip("peft")
    base = TransformerEncoder(str(tiny), query_prefix="a ")
    metrics = train_classifier(
        TEXTS, LABELS, base, tmp_path, SCHEDULE, recipe=recipe, valid=(TEXTS, LABELS)
    )
    assert metrics["best"] > 0.9
    assert metrics["accuracy"] == pytest.approx(
        metrics["best"], abs=0.03
    )  # the folder answers as the module did
    assert IntentClassifier(tmp_path).encoder.query_prefix == "a "


def test_same_seed_same_classifier(tiny, tmp_path):  # noqa: F811
    schedule = Schedule(epochs=1, batch_size=8, learning_rate=0.01)
    probabilities = []
    for name in ("first", "second"):
        train_classifier(TEXTS, LABELS, TransformerEncoder(str(tiny)), tmp_path / name, schedule)
        probabilities.append(IntentClassifier(tmp_path / name).probabilities(TEST))
    np.testing.assert_array_equal(*probabilities)


@pytest.mark.parametrize(
    ("texts", "labels", "said"),
    [
        ([], [], "the file is empty"),
        (["a", "b"], ["x"], "2 texts and 1 labels"),
        (["a", "b"], ["x", "x"], "all 2 texts have the label 'x'"),
        (["a", " \t"], ["x", "y"], r"text 2 \(label 'y'\) is empty"),
        (["a" * 10_001, "b"], ["x", "y"], "text 1 has 10,001 characters"),
        (["a", "b"], ["x", ""], r"text 2 \('b'\) has no label"),
        (["a", "b"], ["x", "y"], "each of 2 classes has one text"),
    ],
)
def test_bad_input_is_a_sentence(tiny, tmp_path, texts, labels, said):  # noqa: F811
    base = TransformerEncoder(str(tiny))
    with pytest.raises(InputError, match=said):
        train_classifier(texts, labels, base, tmp_path / "out", SCHEDULE, known_labels=["x", "y"])
    assert not (tmp_path / "out").exists()


def test_labels_unknown_to_the_catalogue():
    check_labelled(["a", "b"], ["x", "y"], ["x", "y", "z"])
    with pytest.raises(InputError, match=r"6 labels are unknown: a, b, c, d, e \.\.\.; correct"):
        check_labelled(list("abcdefx"), list("abcdefx"), ["x"])
    with pytest.raises(InputError, match="1 labels are unknown: y; correct"):
        check_labelled(["a", "b"], ["x", "y"], ["x"])


def test_validation_labels_must_be_trained(tiny, tmp_path):  # noqa: F811
    base = TransformerEncoder(str(tiny))
    with pytest.raises(InputError, match="1 labels are unknown: toys"):
        train_classifier(TEXTS, LABELS, base, tmp_path, SCHEDULE, valid=(["red"], ["toys"]))


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=200), st.integers(0, 9))
def test_a_split_is_stratified(labels, seed):
    texts = [f"{label}{place}" for place, label in enumerate(labels)]
    sizes = Counter(labels)
    if max(sizes.values()) < 2:
        with pytest.raises(InputError):
            stratified_split(texts, labels, 0.1, seed)
        return
    (valid, valid_labels), (train, train_labels) = stratified_split(texts, labels, 0.1, seed)
    assert sorted(valid + train) == sorted(texts)
    assert [text[0] for text in valid + train] == valid_labels + train_labels
    assert set(train_labels) == set(labels)
    assert all(abs(Counter(valid_labels)[label] - size / 10) <= 1 for label, size in sizes.items())


def test_classes_kept_out_of_training_have_all_their_texts_on_one_side():
    labels = [label for label in "abcde" for _ in range(3)]
    texts = [f"{label}{place}" for place, label in enumerate(labels)]
    classes = hold_out_classes(labels, 0.4, seed=1)
    assert len(classes) == 2
    assert classes == hold_out_classes(labels, 0.4, seed=1)
    (train, train_labels), (outside, outside_labels) = split_by_class((texts, labels), classes)
    assert set(outside_labels) == classes
    assert train == [text for text in texts if text[0] not in classes]
    assert [text[0] for text in train + outside] == train_labels + outside_labels
    assert hold_out_classes(labels, 0.0, seed=1) == set()


def test_choices_are_the_schedule_s_or_the_recipe_s(tmp_path):
    schedule, recipe = classifier_choices({"epochs": 3, "rdrop": 0.5}, tmp_path)
    assert (schedule, recipe) == (
        replace(classifier.SCHEDULE, log_dir=tmp_path, epochs=3),
        ClassifierRecipe(rdrop=0.5),
    )


def test_a_class_of_one_is_trained_on():
    labels = ["x"] * 20 + ["y"]
    (_, valid_labels), (_, train_labels) = stratified_split(
        [str(place) for place in range(21)], labels, 0.1, 0
    )
    assert valid_labels == ["x", "x"]
    assert train_labels.count("y") == 1


def test_supervised_contrastive_of_known_vectors():
    """a and b alike and equal, c opposite and alone: -log of e^10 / (e^10 + e^-10), and c is left
    out."""
    vectors_BD = torch.tensor([[1.0, 0], [1, 0], [-1, 0]])
    loss = supervised_contrastive(vectors_BD, torch.tensor([0, 0, 1]))
    assert loss.item() == pytest.approx(np.log1p(np.exp(-20)), abs=1e-7)
    apart = supervised_contrastive(vectors_BD, torch.tensor([0, 1, 0]))
    assert apart.item() == pytest.approx((20 + np.log(2)) / 2, abs=0.4)
    assert supervised_contrastive(vectors_BD, torch.tensor([0, 1, 2])).item() == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,text,category\n1,"red, saw",tool\n2,NA,light\n'),
        ("a.jsonl", '{"text": "red, saw", "label": "tool"}\n{"text": "NA", "label": "light"}\n'),
    ],
)
def test_labelled_files(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_labelled_texts(tmp_path / name) == (["red, saw", "NA"], ["tool", "light"])


def test_labelled_parquet_with_numbers_and_holes(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["saw", None], "label": [3, 4]}), tmp_path / "a.parquet")
    assert read_labelled_texts(tmp_path / "a.parquet") == (["saw", ""], ["3", "4"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "a.csv cannot be read"),
        ("a.csv", "query,label\nsaw,tool\n", "columns query, label: it needs text"),
        ("a.csv", "text\nsaw\n", "it needs label or category"),
        ("a.jsonl", "{", "a.jsonl cannot be read"),
        ("a.txt", "saw", "ends in '.txt'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        read_labelled_texts(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match="there is no file"):
        read_labelled_texts(tmp_path / "a.csv")


@needs_minilm
@pytest.mark.realdata
def test_banking77_begins_at_the_nearest_centroid(tmp_path):
    """Ten texts a class, no training to speak of: .84 is what the pretrained vectors alone give
    with 130 a class."""
    try:
        folder = data_folder("cs_banking77")
    except NotFoundError as error:
        pytest.skip(str(error))
    rng, (texts, labels) = np.random.default_rng(0), read_labelled_texts(folder / "train.csv")
    places = [
        at
        for label in sorted(set(labels))
        for at in rng.choice(np.flatnonzero(np.array(labels) == label), 4)
    ]
    chosen = [texts[at] for at in places], [labels[at] for at in places]
    metrics = train_classifier(
        *chosen,
        minilm(),
        tmp_path,
        Schedule(epochs=0.01, batch_size=8, learning_rate=1e-6),
        valid=chosen,
    )
    assert metrics["start"] > 0.85
    assert len(IntentClassifier(tmp_path).classes) == 77


@pytest.mark.slow
def test_the_job_prints_its_numbers_as_json(tiny, tmp_path, monkeypatch, capsys):  # noqa: F811
    rows = [f"{text},{label}" for text, label in zip(TEXTS, LABELS, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]))
    files = [
        "--train",
        str(tmp_path / "rows.csv"),
        "--test",
        str(tmp_path / "rows.csv"),
        "--out",
        str(tmp_path),
    ]
    change = '{"epochs": 3, "batch_size": 8, "supcon": 0.1, "average": 0.9}'
    words = ["job", *files, "--model", str(tiny), "--outside", "0.34", "--change", change]
    monkeypatch.setattr(sys, "argv", words)
    train_job.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    row, valid = summary["rows"]
    assert (row["name"], valid["name"]) == ("nightshelf", "validation")
    assert {"accuracy", "macro_f1", "auroc", "refused"} <= row.keys()
    assert len(IntentClassifier(tmp_path / "classifier").classes) == 2
    assert (tmp_path / "checkpoint.pt").exists()
