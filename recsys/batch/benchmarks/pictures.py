"""A night's picture stages over Ray: from a Parquet catalogue that names pictures to vectors."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.batch import ingest
from recsys.batch.benchmarks.embedding import catalogue
from recsys.batch.benchmarks.picture_models import (
    PictureEncoderFactory,
    cores,
    decode_rate,
    encode_rate,
    picture_number,
)
from recsys.batch.cluster import start_local_ray
from recsys.batch.pictures import picture_stages
from recsys.batch.plan import NightRun
from recsys.batch.planning import begin
from recsys.batch.stages import Stage, run_stages
from recsys.config import Night, Setup, tiny
from recsys.encoders.efficientnet import EfficientNetEncoder
from recsys.encoders.hashing import HashingEncoder
from recsys.evaluation.results import Row, say
from recsys.pictures.choices import PictureChoices
from recsys.release import files


def benchmark_picture_night(drawn: list[bytes], count: int, seconds: float) -> list[Row]:
    """Rows of decoding alone and encoding alone, each on all cores or the GPU for `seconds`, and of
    the stages over `count` pictures."""
    make = EfficientNetEncoder
    decode, encode = decode_rate(make, drawn, seconds), encode_rate(make, drawn, seconds)
    say(f"decode alone {decode:,.0f}/s, encode alone {encode:,.0f}/s")
    with tempfile.TemporaryDirectory() as home:
        write_picture_catalogue(home, drawn, count)
        start_local_ray(log_to_driver=False, include_dashboard=False)
        night = begin(_setup(home, make))
        stages = run_picture_stages(night)
        vectors = night.open_array(files.PICTURE_VECTORS)
        assert len(vectors) == count, f"{len(vectors):,} of {count:,} pictures have vectors"
    total, slower = sum(stages.values()), min(decode, encode)
    return [
        {"name": f"decode alone, {cores()} cores", "pictures_per_s": decode},
        {"name": "encode alone", "pictures_per_s": encode},
        {
            "name": "nightshelf, Parquet to vectors",
            "pictures_per_s": count / total,
            "ratio": count / total / slower,
            "seconds": total,
        },
    ]


def write_picture_catalogue(home: str, drawn: list[bytes], count: int) -> None:
    """A table of items whose cells name a file each."""
    folder = Path(home, "pictures")
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(picture_number(drawn, number))
    names = [str(number) for number in range(count)]
    columns = {"item_id": names, "title": names, "image": [f"{n}.jpg" for n in names]}
    Path(home, "items").mkdir()
    pq.write_table(pa.table(columns), f"{home}/items/items.parquet")


def _setup(home: str, make: PictureEncoderFactory) -> Setup:
    """The setup `tiny`; on GPUs with a worker for each."""
    import torch

    options = tiny().night
    if gpus := torch.cuda.device_count():
        options = Night(encoder_workers=gpus, encoder_gpus=1.0, encoder_cpus=1.0)
    return replace(
        tiny(),
        name="benchmark",
        home=f"{home}/home",
        dataset=partial(catalogue, home),
        encoder=HashingEncoder,
        pictures=PictureChoices(encoder=make, folders=(f"{home}/pictures",), thumbnails=False),
        night=options,
    )


def run_picture_stages(night: NightRun) -> dict[str, float]:
    """Their seconds, from the Parquet to the assembled vectors."""
    seconds: dict[str, float] = {}

    def run(*stages: Stage) -> int:
        started, pictures = time.perf_counter(), 0
        for name, line in run_stages(night, *stages).items():
            say(str(line))
            pictures = line.counts.get("pictures", pictures)
            seconds[name] = line.seconds
            if name == "embed pictures":
                say(f"{line.first_seconds:.1f} s of it until the first shard: workers start")
        say(f"{time.perf_counter() - started:.1f} s with Ray's starts")
        return pictures

    run(Stage("read items", len(night.plan.item_chunks), ingest.read_items))
    pictures = run(Stage("items", night.plan.item_parts, ingest.sort_items, [files.ITEMS]))
    for group in picture_stages(night, pictures):
        run(*group)
    return seconds
