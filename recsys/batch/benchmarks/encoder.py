"""A text encoder alone, without Ray: padded, packed, in bfloat16, and beside SentenceTransformer.

Legend: N texts, D dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from recsys.batch.benchmarks.timing import ROUNDS, describe_machine, median_seconds
from recsys.encoders.transformer import TransformerEncoder
from recsys.evaluation.results import Row, say
from recsys.types import Floats

EncoderFactory = Callable[..., TransformerEncoder]
BATCHES = (64, 256, 1024, 4096)
RIVAL = "SentenceTransformer.encode"


def synthetic_texts(titles: Sequence[str], start: int, stop: int) -> list[str]:
    """Texts number `start` to `stop`: two random titles and a code that no other text has."""
    pairs = np.random.default_rng(start).integers(0, len(titles), (stop - start, 2)).tolist()
    numbers = np.arange(start, stop, dtype=np.uint64)
    codes = (numbers * np.uint64(2654435761) % np.uint64(1 << 32)).tolist()
    return [
        f"{titles[first]} {titles[second]} {code:x}"
        for (first, second), code in zip(pairs, codes, strict=True)
    ]


def least_cosine(one_ND: Floats, other_ND: Floats) -> float:
    """Of two rows of unit vectors."""
    return float((one_ND * other_ND).sum(axis=1).min())


def benchmark_encoder(make: EncoderFactory, texts: list[str], use_gpu: bool) -> Iterator[Row]:
    """Texts a second of the model by batch size, and of its rival."""
    encoder = make()
    tokens = encoder.tokenize(texts)
    mean_tokens = len(tokens.flatten()) / len(tokens)
    say(f"{len(texts):,} texts of {mean_tokens:.1f} tokens on {describe_machine()}")
    padded = list(_padded_rows(encoder, tokens, BATCHES if use_gpu else BATCHES[:2]))
    yield from padded
    padded_ND = encoder.encode_padded(tokens)
    best = max(padded, key=lambda row: row["texts_per_s"])
    encoder.batch_size = best["batch"]
    if use_gpu:
        encode = partial(encoder.encode_tokens, tokens)
        row = _row("packed", len(tokens), encode, batch=encoder.row_tokens, reference=best)
        yield row | {"cosine": least_cosine(encode(), padded_ND)}
    rivals = list(_sentence_transformer_rows(encoder, texts, padded_ND, use_gpu))
    yield from rivals
    if not use_gpu:
        reference = max(rivals, key=lambda row: row["texts_per_s"], default=None)
        for dtype in ("float32", "bfloat16"):
            typed = make(dtype=dtype)
            typed.batch_size = best["batch"]
            encode = partial(typed.encode_items, texts)
            name = f"nightshelf, texts to vectors, {dtype}"
            row = _row(name, len(texts), encode, batch=best["batch"], reference=reference)
            yield row | {"cosine": least_cosine(encode(), padded_ND)}


def _padded_rows(encoder: TransformerEncoder, tokens: Any, batches: Sequence[int]) -> Iterator[Row]:
    for batch in batches:
        encoder.batch_size = batch
        sample = tokens[: 400 * batch]
        encode = partial(encoder.encode_padded, sample)
        yield _row("padded", len(sample), encode, batch=batch)


def _sentence_transformer_rows(
    encoder: TransformerEncoder, texts: list[str], padded_ND: Floats, use_gpu: bool
) -> Iterator[Row]:
    try:
        import torch
        from sentence_transformers import SentenceTransformer

        # where 6.0 and 6.2 both have them
        from sentence_transformers.models import Normalize, Pooling, Transformer
    except ImportError:
        say("sentence-transformers is not installed: its row is left out")
        return
    options = {"dtype": torch.bfloat16} if use_gpu else {}
    transformer = Transformer(
        str(encoder.folder), max_seq_length=encoder.max_tokens, model_kwargs=options
    )
    rival = SentenceTransformer(modules=[transformer, Pooling(encoder.dim), Normalize()])
    sample = texts[:10_000]
    for batch in (64, 256, 1024) if use_gpu else (32, 64):
        encode = partial(rival.encode, sample, batch_size=batch, show_progress_bar=False)
        row = _row(RIVAL, len(sample), encode, batch=batch, rounds=3)
        yield row | {"cosine": least_cosine(encode(), padded_ND[: len(sample)])}


def _row(
    name: str,
    texts: int,
    encode: Callable[[], Any],
    *,
    batch: int,
    reference: Row | None = None,
    rounds: int = ROUNDS,
) -> Row:
    """Texts a second, and their ratio to those of a reference row."""
    rate = texts / median_seconds(encode, rounds)
    say(f"{name}, batch {batch}: {rate:,.0f} texts/s")
    row = {"name": name, "texts_per_s": rate, "batch": batch}
    if reference is None:
        return row
    reference_name = f"{reference['name']}, {reference['batch']}"
    return {**row, "ratio": rate / reference["texts_per_s"], "to": reference_name}
