"""Trains search on judged pairs: python -m jobs.train_models --data DIR --folder OUT"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from recsys.datasets import judged
from recsys.encoders import minilm
from recsys.encoders.text import item_texts
from recsys.encoders.transformer import TransformerEncoder
from recsys.ranking.cross_encoder import bert_tiny
from recsys.retrieval.fields import BOOSTS, fields
from recsys.retrieval.lexical import LexicalIndex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with items.parquet and judgments.parquet")
    parser.add_argument("--folder", type=Path, required=True, help="where the models go")
    parser.add_argument("--encoder", help="a folder or hub id to start from (default: MiniLM)")
    parser.add_argument("--student", type=Path, help="a folder for the re-ranker to start from (default: BERT-tiny)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in the folder")
    arguments = parser.parse_args()
    begun = time.perf_counter()

    from recsys.training.search import Bases, Recipe, train_search

    shop = judged.read(arguments.data)
    encoder = TransformerEncoder(arguments.encoder, max_tokens=64) if arguments.encoder else minilm()
    measured = train_search(
        item_texts(shop.items),
        LexicalIndex.build(fields(shop.items), BOOSTS),
        shop.pairs["train"],
        shop.pairs["valid"],
        Bases(encoder, encoder.folder, arguments.student or bert_tiny()),
        Recipe.here(arguments.seed),
        arguments.folder,
        resume=arguments.resume,
    )
    summary = {"job": "train_models", "dataset": shop.name, "seconds": round(time.perf_counter() - begun, 1)}
    print(json.dumps({**summary, **{name: round(value, 4) for name, value in measured.items()}}))


if __name__ == "__main__":
    main()
