"""Fine-tunes an intent classifier on labelled texts: python -m jobs.train_classifier --train A.csv
--test B.csv --out DIR"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from recsys.datasets.labelled_texts import read_labelled_texts
from recsys.encoders import minilm
from recsys.encoders.transformer import TransformerEncoder
from recsys.evaluation.results import say
from recsys.training.classifier import classifier_choices, evaluate_classifier, train_classifier
from recsys.training.labelled import hold_out_classes, split_by_class
from recsys.understanding.intent import IntentClassifier


def main() -> None:
    arguments, started = _parse_arguments(), time.perf_counter()
    schedule, recipe = classifier_choices(json.loads(arguments.change), arguments.out)
    base = TransformerEncoder(arguments.model, max_tokens=64) if arguments.model else minilm()
    labelled = read_labelled_texts(arguments.train)
    outside = hold_out_classes(labelled[1], arguments.outside, schedule.seed)
    train, _ = split_by_class(labelled, outside)
    test, (outside_texts, _) = split_by_class(read_labelled_texts(arguments.test), outside)
    folder, resume = arguments.out / "classifier", arguments.resume
    valid = train_classifier(*train, base, folder, schedule, recipe=recipe, say=say, resume=resume)
    metrics = evaluate_classifier(IntentClassifier(folder), *test, outside_texts)
    accuracy, macro_f1 = metrics["accuracy"], metrics["macro_f1"]
    say(f"accuracy {accuracy:.4f}  macro-F1 {macro_f1:.4f}  on {len(test[0]):,} texts")
    rows = [{"name": "nightshelf", **metrics}, {"name": "validation", **valid}]
    seconds = round(time.perf_counter() - started, 1)
    summary = {"job": "train_classifier", "dataset": arguments.test, "seconds": seconds}
    say(json.dumps({**summary, "rows": rows}))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--train", required=True, help="CSV, Parquet or JSONL with text and label")
    add("--test", required=True)
    add("--out", type=Path, required=True, help="folder of the classifier, logs and checkpoint")
    add("--model", help="folder or Hugging Face id of the encoder; MiniLM")
    add("--outside", type=float, default=0.0, help="share of classes kept out, to test rejection")
    add("--change", default="{}", help='Schedule and recipe as JSON: {"epochs": 5, "rdrop": 1}')
    add("--resume", action="store_true", help="continue from the checkpoint in the folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
