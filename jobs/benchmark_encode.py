"""Encoding beside its rivals on the same machine and texts: python -m jobs.benchmark_encode

The model alone: texts padded to the longest of their batch, and packed, or on a CPU in bfloat16
too; SentenceTransformer at its best batch size. Tokens alone, on all cores. Then a night's stages
over Ray, from a Parquet catalogue to vectors in files, start-up included. Texts are two titles and
a code that no other has. The last line is JSON; rates are medians of five, but for
SentenceTransformer's of three and the night's one."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.config import Night, Setup, tiny
from recsys.datasets.completejourney import CompleteJourney
from recsys.datasets.files import FilesAdapter
from recsys.encoders import minilm
from recsys.encoders.text import text_hashes
from recsys.encoders.transformer import TransformerEncoder
from recsys.storage.version import code_commit
from recsys.tables import EVENTS_IN
from recsys.types import Floats

if TYPE_CHECKING:
    from recsys.batch.plan import NightRun

Row = dict[str, Any]
ROUNDS = 5
#: Texts of a file of the catalogue, and of a call to the tokenizer.
PIECE = 250_000
BATCHES = (64, 256, 1024, 4096)
RIVAL = "SentenceTransformer.encode"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--texts", type=int, default=0, help="of the night: 4,000,000 on a GPU, 20,000 without"
    )
    parser.add_argument(
        "--alone", type=int, default=0, help="of the model alone: 200,000 on a GPU, 1,000 without"
    )
    parser.add_argument(
        "--encoder", help="a model's folder, mean pooling (default: MiniLM from its package)"
    )
    parser.add_argument("--titles", help="a file with a title a line (default: the default shop's)")
    parser.add_argument("--without-ray", action="store_true", help="the model alone")
    arguments = parser.parse_args()
    begun, gpu = time.perf_counter(), _has_gpu()
    titles = Path(arguments.titles).read_text().splitlines() if arguments.titles else _shop_titles()
    make = (
        partial(TransformerEncoder, arguments.encoder, max_tokens=64, name="minilm")
        if arguments.encoder
        else minilm
    )
    texts = made(titles, 0, arguments.alone or (200_000 if gpu else 1_000))
    rows = list(_alone(make, texts, gpu))
    if not arguments.without_ray:
        rows += _night(make, titles, arguments.texts or (4_000_000 if gpu else 20_000), gpu, rows)
    print(f"\n{'':<36}{'texts/s':>12}{'batch':>8}{'cosine':>9}{'ratio':>8}  to")
    for row in rows:
        told = f"{row['name']:<36}{row['texts_per_s']:>12,.0f}{row.get('batch', ''):>8}"
        against = f"{row['ratio']:>8.2f}  {row['to']}" if "ratio" in row else ""
        print(f"{told}{row.get('cosine', float('nan')):>9.5f}{against}")
    summary = {
        "job": "benchmark_encode",
        "dataset": arguments.titles or "completejourney",
        "commit": code_commit(),
    }
    print(json.dumps({**summary, "seconds": round(time.perf_counter() - begun, 1), "rows": rows}))
    return int(any(row.get("cosine", 1) < 0.999 for row in rows if row["name"] != RIVAL))


def made(titles: list[str], start: int, stop: int) -> list[str]:
    """Texts number `start` to `stop`: two titles by chance, and a code."""
    random = np.random.default_rng(start)
    pairs = random.integers(0, len(titles), (stop - start, 2)).tolist()
    codes = (
        np.arange(start, stop, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(1 << 32)
    ).tolist()
    return [
        f"{titles[one]} {titles[two]} {code:x}"
        for (one, two), code in zip(pairs, codes, strict=True)
    ]


def _alone(make: Callable[..., TransformerEncoder], texts: list[str], gpu: bool) -> Iterator[Row]:
    """The model on tokens that are there, and the rival on texts."""
    encoder = make()
    tokens = encoder.tokenize(texts)
    print(
        f"{len(texts):,} texts of {len(tokens.flatten()) / len(tokens):.1f} tokens on {_machine()}",
        flush=True,
    )
    rows = []
    for batch in BATCHES if gpu else BATCHES[:2]:
        encoder.batch_size = batch
        few = tokens[: 400 * batch]
        rows.append(_row("padded", len(few), partial(encoder.encode_padded, few), batch=batch))
        yield rows[-1]
    padded_ND = encoder.encode_padded(tokens)
    best = max(rows, key=lambda row: row["texts_per_s"])
    encoder.batch_size = best["batch"]
    if gpu:
        packed = _row(
            "packed",
            len(tokens),
            lambda: encoder.encode_tokens(tokens),
            best,
            batch=encoder.row_tokens,
        )
        yield packed | {"cosine": _likeness(encoder.encode_tokens(tokens), padded_ND)}
    rivals = list(_sentence_transformer(encoder, texts, padded_ND, gpu))
    yield from rivals
    if not gpu:
        to = max(rivals, key=lambda row: row["texts_per_s"], default=None)
        for dtype in ("float32", "bfloat16"):
            ours = make(dtype=dtype)
            ours.batch_size = best["batch"]
            name = f"nightshelf, texts to vectors, {dtype}"
            row = _row(name, len(texts), partial(ours.encode_items, texts), to, batch=best["batch"])
            yield row | {"cosine": _likeness(ours.encode_items(texts), padded_ND)}


def _sentence_transformer(
    encoder: TransformerEncoder, texts: list[str], padded_ND: Floats, gpu: bool
) -> Iterator[Row]:
    try:
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import (
            Normalize,
            Pooling,
            Transformer,
        )  # where 6.0 and 6.2 both have them
    except ImportError:
        print("sentence-transformers is not here: its row is left out")
        return
    choices = {"dtype": torch.bfloat16} if gpu else {}
    transformer = Transformer(
        str(encoder.folder), max_seq_length=encoder.max_tokens, model_kwargs=choices
    )
    rival = SentenceTransformer(modules=[transformer, Pooling(encoder.dim), Normalize()])
    few = texts[:10_000]
    for batch in (64, 256, 1024) if gpu else (32, 64):
        call = partial(rival.encode, few, batch_size=batch, show_progress_bar=False)
        row = _row(RIVAL, len(few), call, rounds=3, batch=batch)
        yield row | {"cosine": _likeness(call(), padded_ND[: len(few)])}


def _night(
    make: Callable[..., TransformerEncoder],
    titles: list[str],
    texts: int,
    gpu: bool,
    alone: list[Row],
) -> list[Row]:
    """Tokens alone on all cores, and a night from its first stage to its vectors."""
    import ray
    import torch

    rival = max((row["texts_per_s"] for row in alone if row["name"] == RIVAL), default=float("nan"))
    names = ("packed",) if gpu else ("padded",)
    encode = max(row["texts_per_s"] for row in alone if row["name"] in names)
    with tempfile.TemporaryDirectory() as home:
        ray.init(log_to_driver=False, include_dashboard=False)
        starts = range(0, texts, PIECE)
        piece, held = ray.remote(_write_piece), ray.put(titles)
        ray.get([piece.remote(home, held, start, min(start + PIECE, texts)) for start in starts])
        cores = int(ray.cluster_resources()["CPU"])
        tokenize = _tokens_alone(make, held, cores)
        ray.shutdown()
        choices = Night(
            texts_per_shard=65_536, encoder_workers=torch.cuda.device_count(), encoder_gpus=1.0
        )
        setup = replace(
            tiny(),
            name="benchmark",
            home=f"{home}/home",
            dataset=partial(_catalogue, home),
            encoder=make,
            night=choices if gpu else replace(tiny().night, texts_per_shard=2_048),
        )
        begun = time.perf_counter()
        ray.init(log_to_driver=False, include_dashboard=False)
        night, seconds, first = _embedded(setup, begun)
        whole = time.perf_counter() - begun
        cosine = _checked(night, make(), made(titles, 0, min(texts, PIECE))[:256])
        ray.shutdown()
    print(f"the night's seconds: {seconds}; {first:.1f} until the first shard was encoded")
    slower = min(tokenize, encode)
    return [
        {"name": f"tokenise alone, {cores} cores", "texts_per_s": tokenize},
        {
            "name": "nightshelf",
            "texts_per_s": texts / whole,
            "cosine": cosine,
            "ratio": texts / whole / rival,
            "to": RIVAL,
            "seconds": whole,
        },
        {
            "name": "nightshelf, its stage that encodes",
            "texts_per_s": texts / seconds["embed items"],
            "ratio": texts / seconds["embed items"] / slower,
            "to": "the slower of tokenise and encode alone",
            "seconds": seconds["embed items"],
            "first_shard_s": first,
        },
    ]


def _embedded(setup: Setup, begun: float) -> tuple[NightRun, dict[str, float], float]:
    """Runs the stages; the seconds of each, and of the last until its first shard was done."""
    from recsys.batch import embed, ingest
    from recsys.batch.night import begin
    from recsys.batch.stages import Stage, run_stages

    night = begin(setup)
    seconds = {"start": round(time.perf_counter() - begun, 1)}
    for stage in (
        Stage("read items", len(night.plan.item_chunks), ingest.read_items),
        Stage("items", night.plan.item_parts, ingest.sort_items),
        Stage("embed items", night.plan.text_parts, embed.tokenize_texts, embed.TextEncoderActor),
    ):
        line = run_stages(night, stage)[stage.name]
        print(line, flush=True)
        seconds[stage.name] = round(line.seconds, 1)
    return night, seconds, round(line.first_seconds, 1)


def _checked(night: NightRun, encoder: TransformerEncoder, texts: list[str]) -> float:
    """The least cosine of what the night wrote for some texts to what the padded model makes of
    them."""
    from recsys.batch.ingest import hash_parts

    wanted_ND, hashes = encoder.encode_padded(encoder.tokenize(texts)), text_hashes(texts)
    found_ND = np.zeros_like(wanted_ND)
    parts = hash_parts(pa.chunked_array([hashes]), night.plan.text_parts)
    for part in np.unique(parts):
        mine = parts == part
        rows = pc.index_in(
            hashes.filter(pa.array(mine)), night.read_part("text_hashes", part)["text_hash"]
        )
        found_ND[mine] = night.read_array("text_vectors", part)[np.asarray(rows)]
    return _likeness(found_ND, wanted_ND)


def _write_piece(home: str, titles: list[str], start: int, stop: int) -> None:
    Path(home, "items").mkdir(exist_ok=True)
    items = pa.table(
        {"item_id": [str(at) for at in range(start, stop)], "title": made(titles, start, stop)}
    )
    pq.write_table(items, f"{home}/items/{start:012d}.parquet")


def _catalogue(home: str, until: datetime) -> FilesAdapter:
    """The pieces, and a log with one event."""
    values: dict[str, Any] = {"event_id": "1", "user_id": "1", "item_id": "0", "type": "view"}
    event = {**dict.fromkeys(EVENTS_IN.names), **values, "time": datetime(2026, 1, 1, tzinfo=UTC)}
    if not Path(home, "events.parquet").exists():
        pq.write_table(pa.Table.from_pylist([event], EVENTS_IN), f"{home}/events.parquet")
    return FilesAdapter(f"{home}/items", f"{home}/events.parquet")


def _tokens_alone(make: Callable[[], TransformerEncoder], held: Any, cores: int) -> float:
    """Texts a second of so many processes at once, each with its own tokenizer, warm."""
    import ray

    @ray.remote(num_cpus=1)
    class Tokenizes:
        def __init__(self, titles: list[str], at: int) -> None:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as in the night's tasks
            self.texts, self.encoder = made(titles, at * 65_536, (at + 1) * 65_536), make()
            self.encoder.tokenize(self.texts[:16_384])

        def ready(self) -> None: ...

        def go(self) -> None:
            for start in range(0, len(self.texts), 16_384):
                self.encoder.tokenize(self.texts[start : start + 16_384])

    actors: list[Any] = [Tokenizes.remote(held, at) for at in range(cores)]  # type: ignore[attr-defined]
    ray.get([actor.ready.remote() for actor in actors])
    started = time.perf_counter()
    ray.get([actor.go.remote() for actor in actors])
    return cores * 65_536 / (time.perf_counter() - started)


def _shop_titles() -> list[str]:
    shop = CompleteJourney()
    return [
        title
        for chunk in shop.item_chunks()
        for title in shop.read_items(chunk)["title"].to_pylist()
        if title
    ]


def _row(
    name: str,
    texts: int,
    call: Callable[[], Any],
    to: Row | None = None,
    rounds: int = ROUNDS,
    **more: Any,
) -> Row:
    """Texts a second, warm; the ratio to another row."""
    call()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    rate = texts / statistics.median(taken)
    against = (
        {"ratio": rate / to["texts_per_s"], "to": f"{to['name']}, {to['batch']}"} if to else {}
    )
    print(f"{name} {more}: {rate:,.0f} texts/s", flush=True)
    return {"name": name, "texts_per_s": rate, **more, **against}


def _likeness(one_ND: Floats, other_ND: Floats) -> float:
    """The least cosine of two rows."""
    return float((one_ND * other_ND).sum(axis=1).min())


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _machine() -> str:
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
