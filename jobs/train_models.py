"""What a shop learns from what people did: python -m jobs.train_models --setup tiny --folder DIR

`--parts users` learns the user model and `mixer` the sources' weights from the current release's
histories, `search` what follows from queries, `rankers` the last order of answers from the feature
log: published only past the gate. Pairs of a query and an item come from judgements (--data, with
the catalogue they judge) or from the live log of the setup: what people viewed, clicked, put into
the cart and bought after a search. With --setup the result is published to the setup's home; the
next night encodes the catalogue anew with it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recsys.batch.held_out import split_last_days
from recsys.batch.train import run_distributed
from recsys.config import Setup, load
from recsys.datasets.judged_catalogue import read_judged_catalogue
from recsys.datasets.judgments import JudgedPairs
from recsys.encoders import minilm
from recsys.encoders.text import item_texts
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError, RecsysError
from recsys.events.joins import label_examples, query_pairs
from recsys.learning import rankers as learning
from recsys.models.composition import (
    build_recommender,
    catalogue_vectors,
    next_setup,
    serving_setup,
    with_models,
    with_parts,
)
from recsys.models.store import current_models, publish_models
from recsys.pipeline.mixing import asking
from recsys.pipeline.sources import SOURCES, categories, fit
from recsys.privacy.forget import finish_erasures
from recsys.ranking.cross_encoder import bert_tiny
from recsys.ranking.linear import RETAIL_WEIGHTS
from recsys.release import files
from recsys.release.release import Release, added_days, histories_of
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.fields import FIELD_BOOSTS, searchable_fields
from recsys.storage.artifacts import ArtifactStore
from recsys.training import MIXER, USER_MODEL

PARTS = ("search", "users", "mixer", "rankers")
#: What was bought in so many days teaches the mixer, or in a tenth of the log where that is less.
MIXED_DAYS = 7


@dataclass(frozen=True)
class Shop:
    """What is learned from: the catalogue's texts and categories, and pairs by split."""

    name: str
    texts: list[str]
    categories: list[str]
    lexical: LexicalIndex
    pairs: dict[str, JudgedPairs]


def main() -> int:
    arguments = parsed()
    begun = time.perf_counter()
    try:
        setup = load(arguments.setup) if arguments.setup else None
        measured: dict[str, float] = {}
        if setup:
            finish_erasures(setup)  # who left does not teach
        if "search" in arguments.parts:
            shop = of_log(setup) if setup and not arguments.data else of_data(arguments.data)
            measured |= train(shop, base_encoder(arguments.encoder, setup), arguments)
        if "users" in arguments.parts and setup:
            measured |= train_users(setup, arguments)
        if "mixer" in arguments.parts and setup:
            measured |= train_mixer(setup, arguments)
        if "rankers" in arguments.parts and setup:
            measured |= train_rankers(setup, arguments)
        version = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}"
        if setup:
            publish_models(setup, version, arguments.folder, measured)
    except RecsysError as error:
        print(f"nothing was published: {error}", file=sys.stderr)
        return 1
    if setup:
        print(f"models {version} are the ones that the next night of setup {setup.name} takes")
    dataset = arguments.data.name if arguments.data else setup.name if setup else ""
    summary = {
        "job": "train_models",
        "dataset": dataset,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    print(json.dumps({**summary, **{name: round(value, 4) for name, value in measured.items()}}))
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--setup", help="a setup's name, or my_shop.setups:winter: publish to its home"
    )
    parser.add_argument(
        "--data", type=Path, help="a folder with items.parquet and judgments.parquet"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS[:3],
        help="what to learn (default: all but rankers)",
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="where models, logs and checkpoints go"
    )
    parser.add_argument(
        "--judged", type=Path, help="a Parquet file: query, item_id, relevance 1..3, for the gate"
    )
    parser.add_argument(
        "--encoder", help="a folder or hub id to start from (default: the setup's, or MiniLM)"
    )
    parser.add_argument(
        "--student", type=Path, help="a folder for the re-ranker to start from (default: BERT-tiny)"
    )
    parser.add_argument(
        "--adapters", choices=("lora", "adalora"), help="train these beside a frozen encoder"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="more than one are spread by Ray Train"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoints in the folder"
    )
    arguments = parser.parse_args()
    if not (arguments.setup or arguments.data):
        parser.error("say what to learn from: --setup for its log, --data for judgements, or both")
    arguments.folder = arguments.folder.absolute()
    return arguments


def of_data(folder: Path) -> Shop:
    """Judgements, with their own catalogue."""
    data = read_judged_catalogue(folder)
    categories = [category or "" for category in data.items["category"].to_pylist()]
    index = LexicalIndex.build(searchable_fields(data.items), FIELD_BOOSTS)
    return Shop(data.name, item_texts(data.items), categories, index, data.pairs)


def of_log(setup: Setup) -> Shop:
    """The current release's catalogue, and what people did after their searches."""
    release = Release.open(ArtifactStore(setup.home))
    events = setup.event_store()
    try:
        examples = label_examples(
            events.impressions(), events.interactions(events.end().interactions)
        )
    finally:
        events.close()
    categories = [category or "" for category in release.items["category"].to_pylist()]
    pairs = query_pairs(examples, release.item_ids.rows)
    return Shop(setup.name, item_texts(release.items), categories, release.lexical, pairs)


def base_encoder(path_or_id: str | None, setup: Setup | None) -> TransformerEncoder:
    """What training starts from: always pretrained, never the last training's result."""
    if path_or_id:
        return TransformerEncoder(path_or_id, max_tokens=64)
    encoder = setup.encoder() if setup else minilm()
    if not isinstance(encoder, TransformerEncoder):
        raise InputError(
            f"encoder {encoder.space} cannot be search_parameters: give a transformer with --encoder"
        )
    return encoder


def train(
    shop: Shop, encoder: TransformerEncoder, arguments: argparse.Namespace
) -> dict[str, float]:
    """Encoder, re-ranker and fusion; and the intent classifier where the catalogue has
    categories."""
    from recsys.training.search import BaseModels, SearchRecipe, train_intents, train_search

    shared = {"folder": arguments.folder, "say": say, "resume": arguments.resume}
    spread = workers(arguments.workers)
    known = {
        "texts": shop.texts,
        "lexical": shop.lexical,
        "train": shop.pairs["train"],
        "valid": shop.pairs["valid"],
        "bases": BaseModels(encoder, encoder.folder, arguments.student or bert_tiny()),
        "recipe": SearchRecipe.here(arguments.seed),
        "adapters": arguments.adapters,
    }
    measured = run_distributed(train_search, {**known, **shared}, **spread)
    intents = {
        "categories": shop.categories,
        "pairs": shop.pairs["train"],
        "base": encoder,
        "seed": arguments.seed,
    }
    return {**measured, **run_distributed(train_intents, {**intents, **shared}, **spread)}


def train_users(setup: Setup, arguments: argparse.Namespace) -> dict[str, float]:
    """The user model, from the histories of the current release, over the encoder that the next
    night takes."""
    from recsys.training.users import UserModelRecipe, leave_last_out, train_user_model

    release = Release.open(ArtifactStore(setup.home))
    histories, valid = leave_last_out(histories_of(release.users), arguments.seed)
    recipe = UserModelRecipe.here(
        arguments.seed, arguments.folder / "logs" / USER_MODEL
    ).with_values(setup.user_recipe)
    known = {
        "histories": histories,
        "valid": valid,
        "items": release.items,
        "vectors_ID": catalogue_vectors(
            release, next_setup(setup, arguments.folder).encoder(), arguments.folder
        ),
        "folder": arguments.folder / USER_MODEL,
        "recipe": recipe,
        "say": say,
        "resume": arguments.resume,
    }
    fitted = run_distributed(train_user_model, known, **workers(arguments.workers))
    return {"user_model/ndcg@10": fitted.best}


def train_mixer(setup: Setup, arguments: argparse.Namespace) -> dict[str, float]:
    """How much each source counts: what was bought in the log's last days, from sources fitted to
    before them."""
    from recsys.training import mixer

    release = Release.open(ArtifactStore(setup.home))
    log = histories_of(release.users)
    lately = max(1, min(MIXED_DAYS, int(np.ptp(log.days)) // 10)) if len(log.days) else 1
    before, offsets, items = split_last_days(log, lately)
    if not len(before):
        raise InputError(
            f"nobody bought in the log's last {lately} days and before them: a mixer needs days to foretell, and a past"
        )
    next_setup = with_parts(with_models(setup, current_models(setup)), arguments.folder)
    users = next_setup.user_model()
    encoded = catalogue_vectors(release, next_setup.encoder(), arguments.folder)
    places_ID, now_days = users.embed_items(release.items, encoded), float(before.days.max())
    content = release.array(files.CONTENT_ROWS), release.array(files.CONTENT_SCORES)
    shelf = categories(release.items), added_days(release.items)
    ask = asking(fit(before, now_days, places_ID, content, *shelf), SOURCES, users)
    made = mixer.mixer_examples(lambda asked: ask(asked)[:2], before, (offsets, items))
    learned = mixer.fit_mixer(made, SOURCES, RETAIL_WEIGHTS)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    learned.save(arguments.folder / MIXER)
    say(f"a mixer of {', '.join(SOURCES)} learned from {len(before):,} buyers")
    return {"mixer/buyers": float(len(before))}


def train_rankers(setup: Setup, arguments: argparse.Namespace) -> dict[str, float]:
    """The examination curve and the rankers, from what was shown and done by day; those that pass
    the gate."""
    judged_set = None
    if arguments.judged:
        shop = build_recommender(serving_setup(setup), Release.open(ArtifactStore(setup.home)))
        encoder = serving_setup(setup).encoder()
        judged_set = learning.judged_lists(
            shop, lambda text: encoder.encode_queries([text])[0], arguments.judged
        )
    choices = learning.RankerOptions.here(arguments.seed)
    return learning.train_rankers(setup, arguments.folder, choices, judged_set, arguments.seed, say)


def workers(count: int) -> dict[str, Any]:
    """How `distributed` spreads: several workers over Ray, each with a GPU where Ray sees enough of
    them."""
    if count == 1:
        return {"workers": 1}
    import ray

    ray.init(ignore_reinit_error=True)
    return {"workers": count, "use_gpu": ray.cluster_resources().get("GPU", 0) >= count}


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
