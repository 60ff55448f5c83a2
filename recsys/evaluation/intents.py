"""Evaluation of intent classification: the classifier of search beside a linear SVM over TF-IDF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from recsys.datasets.labelled_texts import read_labelled_texts
from recsys.encoders import minilm
from recsys.understanding.intent import LABELS, IntentClassifier


def evaluate_intents(
    folder: Path, models_folder: Path, seed: int = 0, say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Accuracy and macro-F1 on folder/test.csv, trained on folder/train.csv, chosen on a tenth of
    it.

    The classifier is written to `models_folder`; an existing one is not trained again.
    """
    from recsys.training.classifier import SCHEDULE, evaluate_classifier, train_classifier

    train, test = (read_labelled_texts(folder / f"{split}.csv") for split in ("train", "test"))
    say(
        f"{folder.name}: {len(train[0]):,} texts to train on, {len(test[0]):,} to test, "
        f"{len(set(train[1]))} classes"
    )
    out = models_folder / "classifier"
    if not (out / LABELS).exists():
        schedule = replace(SCHEDULE, seed=seed, log_dir=models_folder)
        train_classifier(*train, minilm(), out, schedule, say=say, resume=True)
    else:
        say(f"the classifier in {out} is used as it is")
    return [
        {"name": "tfidf_linear", **_linear(train, test)},
        {"name": "nightshelf", **evaluate_classifier(IntentClassifier(out), *test)},
    ]


def _linear(
    train: tuple[list[str], list[str]], test: tuple[list[str], list[str]]
) -> dict[str, float]:
    """scikit-learn's LinearSVC over TF-IDF of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LinearSVC())
    answers = model.fit(*train).predict(test[0])
    return {
        "accuracy": float(accuracy_score(test[1], answers)),
        "macro_f1": float(f1_score(test[1], answers, average="macro")),
    }
