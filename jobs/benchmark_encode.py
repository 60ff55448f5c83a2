"""Encoding beside its rivals on the same machine and texts: python -m jobs.benchmark_encode

The model alone: texts padded to the longest of their batch, and packed, or on a CPU in bfloat16
too; SentenceTransformer at its best batch size. Tokens alone, on all cores. Then a night's stages
over Ray, from a Parquet catalogue to vectors in files, start-up included. Texts are two titles and
a code that no other has. The last line is JSON; rates are medians of five, but for
SentenceTransformer's of three and the night's one. The exit code is 1 where vectors are wrong."""

from __future__ import annotations

import argparse
import math
import sys
import time
from functools import partial
from operator import itemgetter
from pathlib import Path

from recsys.batch.benchmarks.embedding import benchmark_embedding
from recsys.batch.benchmarks.encoder import RIVAL, benchmark_encoder, synthetic_texts
from recsys.batch.benchmarks.timing import has_gpu
from recsys.datasets.completejourney import CompleteJourney
from recsys.encoders import minilm
from recsys.encoders.transformer import TransformerEncoder
from recsys.evaluation.results import Column, say, summary_line, text_table

COLUMNS = (
    Column("texts_per_s", ",.0f", "texts/s"),
    "batch",
    Column("cosine", ".5f"),
    Column("ratio", ".2f"),
    "to",
)


def main() -> int:
    arguments = _parser().parse_args()
    started, use_gpu = time.perf_counter(), has_gpu()
    make = (
        partial(TransformerEncoder, arguments.encoder, max_tokens=64, name="minilm")
        if arguments.encoder
        else minilm
    )
    titles = Path(arguments.titles).read_text().splitlines() if arguments.titles else shop_titles()
    alone = synthetic_texts(titles, 0, arguments.alone or (200_000 if use_gpu else 1_000))
    rows = list(benchmark_encoder(make, alone, use_gpu))
    if not arguments.without_ray:
        best = {
            row["name"]: row["texts_per_s"] for row in sorted(rows, key=itemgetter("texts_per_s"))
        }
        rows += benchmark_embedding(
            make,
            titles,
            arguments.texts or (4_000_000 if use_gpu else 20_000),
            rival_rate=best.get(RIVAL, math.nan),
            encode_rate=best["packed" if use_gpu else "padded"],
        )
    say(f"\n{text_table(rows, COLUMNS)}")
    say(summary_line("benchmark_encode", arguments.titles or "completejourney", started, rows))
    return int(any(row.get("cosine", 1) < 0.999 for row in rows if row["name"] != RIVAL))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--texts", type=int, help="of the night: 4,000,000 on a GPU, 20,000 without"
    )
    parser.add_argument(
        "--alone", type=int, help="of the model alone: 200,000 on a GPU, 1,000 without"
    )
    parser.add_argument(
        "--encoder", help="a model's folder, mean pooling (default: MiniLM from its package)"
    )
    parser.add_argument("--titles", help="a file with a title a line (default: completejourney's)")
    parser.add_argument("--without-ray", action="store_true", help="the model alone")
    return parser


def shop_titles() -> list[str]:
    """The titles of completejourney."""
    shop = CompleteJourney()
    columns = (shop.read_items(chunk)["title"].to_pylist() for chunk in shop.item_chunks())
    return [title for column in columns for title in column if title]


if __name__ == "__main__":
    sys.exit(main())
