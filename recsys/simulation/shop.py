"""The setup of the shop that serves a simulated market."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from recsys.config import Day, Night, Setup, event_log, home
from recsys.datasets.files import FilesAdapter
from recsys.encoders.hashing import HashingEncoder
from recsys.experiments.exploration import Exploration
from recsys.interfaces import DatasetAdapter, Ranker
from recsys.pipeline.searcher import SearchChoices
from recsys.pipeline.sources import SOURCES
from recsys.ranking.mixer import Mixer
from recsys.training.influence import OnlineConfig


def market_dataset(folder: str, until: datetime) -> DatasetAdapter:
    """The files of `Market.write`, whatever the night's time."""
    return FilesAdapter(f"{folder}/items.parquet", f"{folder}/events.parquet")


def popularity_ranker() -> Ranker:
    """Ranks by popularity alone, though all sources are queried and logged: a shop before it has
    learned anything."""
    return Mixer.of({"popularity": 1.0}, SOURCES)


def setup() -> Setup:
    """The market's shop below $NIGHTSHELF_HOME, without model weights: a night takes seconds."""
    root = home()
    return Setup(
        name="market",
        home=root,
        dataset=partial(market_dataset, f"{root}/market"),
        encoder=partial(HashingEncoder, 64),
        event_store=event_log(root),
        recommend_ranker=popularity_ranker,
        search=SearchChoices(dense_k=20),
        night=Night(task_cpus=0.5, encoder_cpus=0.5, history=200),
        day=Day(
            replicas=1,
            replica_cpus=0.5,
            refresh_s=0.2,
            explore=Exploration("swap", share=0.3),
            # A simulated day takes a minute, in which a shopper comes several times: their votes
            # must last until the evening.
            online=OnlineConfig(
                learning_rate=0.5,
                user_votes=3.0,
                origin_votes=3.0,
                poll_interval_s=0.5,
                feedback_delay_s=0.5,
                snapshot_interval_s=1.0,
            ),
        ),
    )
