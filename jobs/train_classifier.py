"""Labelled texts to an intent classifier: python -m jobs.train_classifier --train A.csv --test
B.csv --out DIR"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys.datasets.labelled_texts import read_labelled_texts
from recsys.encoders import minilm
from recsys.encoders.transformer import TransformerEncoder
from recsys.training.classifier import (
    SCHEDULE,
    ClassifierRecipe,
    evaluate_classifier,
    train_classifier,
)
from recsys.training.schedule import Schedule
from recsys.understanding.intent import IntentClassifier


def main() -> None:
    arguments = parse_arguments()
    begun = time.perf_counter()
    schedule, recipe = _changed(json.loads(arguments.change), arguments.out)
    base = TransformerEncoder(arguments.model, max_tokens=64) if arguments.model else minilm()
    train, test = read_labelled_texts(arguments.train), read_labelled_texts(arguments.test)
    held_out = _held_out(train[1], arguments.outside, schedule.seed)
    inside, outside = (
        _without(test, held_out),
        [text for text, label in zip(*test, strict=True) if label in held_out],
    )
    out = arguments.out / "classifier"
    valid = train_classifier(
        *_without(train, held_out),
        base,
        out,
        schedule,
        recipe=recipe,
        say=print,
        resume=arguments.resume,
    )
    row = {"name": "nightshelf", **evaluate_classifier(IntentClassifier(out), *inside, outside)}
    print(
        f"accuracy {row['accuracy']:.4f}  macro-F1 {row['macro_f1']:.4f}  on {len(inside[0]):,} texts"
    )
    rows = [row, {"name": "validation", **valid}]
    summary = {"job": "train_classifier", "dataset": arguments.test}
    print(json.dumps({**summary, "seconds": round(time.perf_counter() - begun, 1), "rows": rows}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, help="CSV, Parquet or JSONL with text and label")
    parser.add_argument("--test", required=True)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the classifier, its logs and checkpoint"
    )
    parser.add_argument("--model", help="folder or Hugging Face id of the encoder; MiniLM")
    parser.add_argument(
        "--outside", type=float, default=0.0, help="share of classes held out to test none of these"
    )
    parser.add_argument(
        "--change",
        default="{}",
        help='JSON over Schedule and Recipe: {"epochs": 5, "adapters": "lora"}',
    )
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def _changed(changes: dict[str, Any], out: Path) -> tuple[Schedule, ClassifierRecipe]:
    ours = {name: changes.pop(name) for name in list(changes) if hasattr(ClassifierRecipe, name)}
    return replace(SCHEDULE, log_dir=out, **changes), ClassifierRecipe(**ours)


def _held_out(labels: list[str], share: float, seed: int) -> set[str]:
    classes = sorted(set(labels))
    return set(
        np.random.default_rng(seed).permutation(classes)[: round(share * len(classes))].tolist()
    )


def _without(rows: tuple[list[str], list[str]], labels: set[str]) -> tuple[list[str], list[str]]:
    kept = [(text, label) for text, label in zip(*rows, strict=True) if label not in labels]
    return [text for text, _ in kept], [label for _, label in kept]


if __name__ == "__main__":
    main()
