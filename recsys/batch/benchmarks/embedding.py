"""A night's embedding stages over Ray: from a Parquet catalogue of synthetic texts to vectors in
files, start-up included; and tokenization alone on all cores."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from recsys.batch import embed, ingest
from recsys.batch.benchmarks.encoder import RIVAL, EncoderFactory, least_cosine, synthetic_texts
from recsys.batch.cluster import start_local_ray
from recsys.batch.plan import NightRun
from recsys.batch.planning import begin
from recsys.batch.stages import Stage, run_stages
from recsys.config import Night, Setup, tiny
from recsys.datasets.files import FilesAdapter
from recsys.encoders.text import text_hashes
from recsys.encoders.transformer import TransformerEncoder
from recsys.evaluation.results import Row, say
from recsys.tables import EVENTS

#: Texts of a file of the catalogue.
TEXTS_PER_FILE = 250_000
#: Texts that each core tokenizes, in calls of TEXTS_PER_CALL.
TEXTS_PER_CORE, TEXTS_PER_CALL = 65_536, 16_384


@dataclass(frozen=True)
class EmbeddingRun:
    """A night whose texts are encoded: the seconds of its start and stages, and those of the last
    stage until its first shard."""

    night: NightRun
    seconds: dict[str, float]
    first_shard_s: float


def benchmark_embedding(
    make: EncoderFactory, titles: list[str], texts: int, *, rival_rate: float, encode_rate: float
) -> list[Row]:
    """`rival_rate` and `encode_rate` are texts a second of the rival and of our model alone."""
    with tempfile.TemporaryDirectory() as home:
        start_local_ray(log_to_driver=False, include_dashboard=False)
        write_catalogue(home, titles, texts)
        cores = min(int(ray.cluster_resources()["CPU"]), os.cpu_count() or 1)
        tokenize_rate = tokenization_rate(make, titles, cores)
        ray.shutdown()
        started = time.perf_counter()
        start_local_ray(log_to_driver=False, include_dashboard=False)
        run = run_embedding_stages(_setup(home, make), started)
        seconds = time.perf_counter() - started
        sample = synthetic_texts(titles, 0, min(texts, TEXTS_PER_FILE))[:256]
        cosine = check_vectors(run.night, make(), sample)
        ray.shutdown()
    say(f"the night's seconds: {run.seconds}; {run.first_shard_s:.1f} until the first shard")
    stage_s = run.seconds["embed items"]
    return [
        {"name": f"tokenise alone, {cores} cores", "texts_per_s": tokenize_rate},
        {
            "name": "nightshelf",
            "texts_per_s": texts / seconds,
            "cosine": cosine,
            "ratio": texts / seconds / rival_rate,
            "to": RIVAL,
            "seconds": seconds,
        },
        {
            "name": "nightshelf, its stage that encodes",
            "texts_per_s": texts / stage_s,
            "ratio": texts / stage_s / min(tokenize_rate, encode_rate),
            "to": "the slower of tokenise and encode alone",
            "seconds": stage_s,
            "first_shard_s": run.first_shard_s,
        },
    ]


def _setup(home: str, make: EncoderFactory) -> Setup:
    """The setup `tiny` over the catalogue; on GPUs with larger shards and a worker for each."""
    import torch

    options = replace(tiny().night, texts_per_shard=2_048)
    if gpus := torch.cuda.device_count():
        options = Night(texts_per_shard=65_536, encoder_workers=gpus, encoder_gpus=1.0)
    return replace(
        tiny(),
        name="benchmark",
        home=f"{home}/home",
        dataset=partial(catalogue, home),
        encoder=make,
        night=options,
    )


def run_embedding_stages(setup: Setup, started: float) -> EmbeddingRun:
    """Runs the stages from the catalogue to vectors; `started` counts for the start."""
    night = begin(setup)
    seconds = {"start": round(time.perf_counter() - started, 1)}
    for stage in (
        Stage("read items", len(night.plan.item_chunks), ingest.read_items),
        Stage("items", night.plan.item_parts, ingest.sort_items),
        Stage("embed items", night.plan.text_parts, embed.ENCODE_TEXTS),
    ):
        line = run_stages(night, stage)[stage.name]
        say(str(line))
        seconds[stage.name] = round(line.seconds, 1)
    return EmbeddingRun(night, seconds, round(line.first_seconds, 1))


def check_vectors(night: NightRun, encoder: TransformerEncoder, texts: list[str]) -> float:
    """The least cosine of the night's vectors of these texts to those of the padded model."""
    hashes = text_hashes(texts)
    expected_ND = encoder.encode_padded(encoder.tokenize(texts))
    vectors_ND = np.zeros_like(expected_ND)
    parts_N = ingest.hash_parts(pa.chunked_array([hashes]), night.plan.text_parts)
    for part in np.unique(parts_N):
        in_part_N = parts_N == part
        stored = night.read_part("text_hashes", part)["text_hash"]
        rows = pc.index_in(hashes.filter(pa.array(in_part_N)), stored)
        vectors_ND[in_part_N] = night.read_array("text_vectors", part)[np.asarray(rows)]
    return least_cosine(vectors_ND, expected_ND)


def write_catalogue(home: str, titles: list[str], texts: int) -> None:
    """Writes the catalogue's files with Ray tasks."""
    write, titles_ref = ray.remote(write_file), ray.put(titles)
    starts = range(0, texts, TEXTS_PER_FILE)
    ray.get(
        [
            write.remote(home, titles_ref, start, min(start + TEXTS_PER_FILE, texts))
            for start in starts
        ]
    )


def write_file(home: str, titles: list[str], start: int, stop: int) -> None:
    """One file of the catalogue: items number `start` to `stop`."""
    Path(home, "items").mkdir(exist_ok=True)
    item_ids = [str(number) for number in range(start, stop)]
    items = pa.table({"item_id": item_ids, "title": synthetic_texts(titles, start, stop)})
    pq.write_table(items, f"{home}/items/{start:012d}.parquet")


def catalogue(home: str, until: datetime) -> FilesAdapter:
    """The catalogue's files, and a log with one event."""
    values: dict[str, Any] = {"event_id": "1", "user_id": "1", "item_id": "0", "type": "view"}
    event = {**dict.fromkeys(EVENTS.names), **values, "time": datetime(2026, 1, 1, tzinfo=UTC)}
    if not Path(home, "events.parquet").exists():
        pq.write_table(pa.Table.from_pylist([event], EVENTS), f"{home}/events.parquet")
    return FilesAdapter(f"{home}/items", f"{home}/events.parquet")


def tokenization_rate(make: EncoderFactory, titles: list[str], cores: int) -> float:
    """Texts a second of one process a core, each with its own tokenizer, warm."""

    @ray.remote(num_cpus=1)
    class TokenizerActor:
        def __init__(self, titles: list[str], number: int) -> None:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as in the night's tasks
            start = number * TEXTS_PER_CORE
            self.texts, self.encoder = (
                synthetic_texts(titles, start, start + TEXTS_PER_CORE),
                make(),
            )
            self.encoder.tokenize(self.texts[:TEXTS_PER_CALL])

        def wait(self) -> None: ...

        def tokenize(self) -> None:
            for start in range(0, len(self.texts), TEXTS_PER_CALL):
                self.encoder.tokenize(self.texts[start : start + TEXTS_PER_CALL])

    titles_ref = ray.put(titles)
    actors: list[Any] = [
        TokenizerActor.remote(titles_ref, number)  # type: ignore[attr-defined]
        for number in range(cores)
    ]
    ray.get([actor.wait.remote() for actor in actors])
    started = time.perf_counter()
    ray.get([actor.tokenize.remote() for actor in actors])
    return cores * TEXTS_PER_CORE / (time.perf_counter() - started)
