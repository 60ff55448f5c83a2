"""Trains a shop's models from its logs: python -m jobs.train_models --setup tiny --folder DIR

`--parts users` learns the user model and `mixer` the sources' weights from the current release's
histories, `search` the encoder, re-ranker and intents from query-item pairs, `rankers` the learned
rankers from the feature log: published only past the gate. Pairs of a query and an item come from
judgements (--data, with the catalogue they judge) or from the live log of the setup: what people
viewed, clicked, put into the cart and bought after a search. With --setup the result is published
to the setup's home; the next night encodes the catalogue anew with it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import ray

from recsys.batch.cluster import connect_ray
from recsys.batch.train import run_distributed
from recsys.config import load
from recsys.errors import RecsysError
from recsys.learning.models import TRAINABLE, Sources, train_parts
from recsys.learning.options import Run, TrainOptions, run_in_process
from recsys.models.store import publish_models
from recsys.privacy.forget import finish_erasures


def main() -> int:
    arguments = _parse_arguments()
    begun = time.perf_counter()
    try:
        setup = load(arguments.setup) if arguments.setup else None
        if setup:
            finish_erasures(setup)  # erased users do not teach
        sources = Sources(
            judgements=arguments.data,
            encoder=arguments.encoder,
            student=arguments.student,
            adapters=arguments.adapters,
            gate_judgements=arguments.judged,
        )
        options = TrainOptions(
            folder=arguments.folder.absolute(),
            seed=arguments.seed,
            resume=arguments.resume,
            run=run_on(arguments.workers),
            say=partial(print, flush=True),
        )
        metrics = train_parts(setup, arguments.parts, sources, options)
        version = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}"
        if setup:
            publish_models(setup, version, options.folder, metrics)
    except RecsysError as error:
        print(f"nothing was published: {error}", file=sys.stderr)
        return 1
    if setup:
        print(f"models {version} are the ones that the next night of setup {setup.name} takes")
    dataset = arguments.data.name if arguments.data else setup.name if setup else ""
    seconds = round(time.perf_counter() - begun, 1)
    summary = {"job": "train_models", "dataset": dataset, "seconds": seconds}
    print(json.dumps(summary | {name: round(value, 4) for name, value in metrics.items()}))
    return 0


def run_on(workers: int) -> Run:
    """In this process, or spread by Ray Train, each worker with a GPU where Ray sees enough."""
    if workers == 1:
        return run_in_process
    print(connect_ray(), flush=True)
    use_gpu = ray.cluster_resources().get("GPU", 0) >= workers
    return partial(run_distributed, workers=workers, use_gpu=use_gpu)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--setup", help="a setup's name, or my_shop.setups:winter: publish to its home")
    add("--data", type=Path, help="a folder with items.parquet and judgments.parquet")
    add("--parts", nargs="+", choices=TRAINABLE, default=TRAINABLE[:3], help="all but rankers")
    add("--folder", type=Path, required=True, help="where models, logs and checkpoints go")
    add("--judged", type=Path, help="Parquet: query, item_id, relevance 1..3, for the gate")
    add("--encoder", help="a folder or hub id to start from (the setup's, or MiniLM)")
    add("--student", type=Path, help="a folder for the re-ranker to start from (BERT-tiny)")
    add("--adapters", choices=("lora", "adalora"), help="train these beside a frozen encoder")
    add("--workers", type=int, default=1, help="more than one are spread by Ray Train")
    add("--seed", type=int, default=0)
    add("--resume", action="store_true", help="continue from the checkpoints in the folder")
    arguments = parser.parse_args()
    if not (arguments.setup or arguments.data):
        parser.error("say what to learn from: --setup for its log, --data for judgements, or both")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
