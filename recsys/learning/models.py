"""All parts that a shop can learn, in the order in which they build on each other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from recsys.config import Setup
from recsys.errors import InputError
from recsys.learning.judged_lists import judged_lists_of_setup
from recsys.learning.mixer import train_mixer
from recsys.learning.options import TrainOptions
from recsys.learning.rankers import RankerOptions, train_rankers
from recsys.learning.search import train_search_parts
from recsys.learning.search_data import base_encoder, judgement_data, log_data
from recsys.learning.users import train_users
from recsys.training.adapters import Adapters

#: `search` comes first: user model and mixer are learned over its encoder's item vectors.
TRAINABLE = ("search", "users", "mixer", "rankers")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What training starts from, None for the default: a folder of judgements with their catalogue
    (the setup's live log), a pretrained encoder (the setup's, or MiniLM), a small cross-encoder
    (BERT-tiny), adapters beside a frozen encoder, and a file of graded queries for the gate."""

    judgements: Path | None = None
    encoder: str | None = None
    student: Path | None = None
    adapters: Adapters | None = None
    gate_judgements: Path | None = None


def train_parts(
    setup: Setup | None, parts: Collection[str], sources: Sources, options: TrainOptions
) -> dict[str, float]:
    """Trains these of TRAINABLE into the options' folder; returns the metrics of all. Without a
    setup only `search`, from judgements: the others need a release or a log, and are left out."""
    metrics: dict[str, float] = {}
    if "search" in parts:
        metrics |= _train_search(setup, sources, options)
    if "users" in parts and setup:
        metrics |= train_users(setup, options)
    if "mixer" in parts and setup:
        metrics |= train_mixer(setup, options)
    if "rankers" in parts and setup:
        graded = sources.gate_judgements
        judged = judged_lists_of_setup(setup, graded) if graded else None
        metrics |= train_rankers(setup, RankerOptions.for_machine(options.seed), options, judged)
    return metrics


def _train_search(setup: Setup | None, sources: Sources, options: TrainOptions) -> dict[str, float]:
    if sources.judgements:
        data = judgement_data(sources.judgements)
    elif setup:
        data = log_data(setup)
    else:
        raise InputError("search learns from judgements or from a setup's log: give one")
    encoder = base_encoder(sources.encoder, setup)
    return train_search_parts(
        data, encoder, options, student=sources.student, adapters=sources.adapters
    )
