"""Composition root: trained parts in place of a setup's own, and the recommender built of them.

Trained parts come from a folder that training filled or from a version of the models store. A
release names the version it was made with, so that a roll-back takes the encoder back too."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from recsys.config import Setup, search_ranker
from recsys.encoders.text import item_texts
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import NotFoundError, ReleaseError
from recsys.interfaces import Encoder, Ranker
from recsys.models.store import current_models, models_folder
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.rerank import Reranker
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.mixer import Mixer
from recsys.release.manifest import read_manifest
from recsys.release.release import Release
from recsys.retrieval.text.synonyms import Synonyms
from recsys.storage.artifacts import ArtifactStore
from recsys.training import (
    CROSS_ENCODER,
    ENCODER,
    FUSION,
    INTENT,
    MIXER,
    NET,
    TREES,
    USAGE,
    USER_MODEL,
)
from recsys.training.vectors import item_vectors
from recsys.types import Floats
from recsys.understanding.intent import IntentClassifier

#: Learned rankers: the part that holds each, by the name that a setup or an experiment uses.
RANKERS = {"net": NET, "trees": TREES}
#: Weight of the personal signal as a share of all others: judged queries have no users, so training
#: cannot estimate it.
PERSONAL_SHARE = 0.04


def with_models(setup: Setup, version: str | None) -> Setup:
    """The setup with that version's parts in place of its own; None: the setup unchanged.

    Raises NotFoundError when the version does not exist, ReleaseError when a file of it is damaged.
    """
    return with_parts(setup, models_folder(setup, version)) if version else setup


def with_parts(setup: Setup, folder: Path) -> Setup:
    """The setup with the trained parts of a folder in place of its own."""
    setup = _with_rankers(_with_encoders(setup, folder), folder)
    if (folder / USER_MODEL).is_dir():
        from recsys.users.sequence import SequenceModel

        setup = replace(setup, user_model=partial(SequenceModel, str(folder / USER_MODEL)))
    if (folder / FUSION).is_file():
        fusion = json.loads((folder / FUSION).read_text())
        weights = {
            **fusion["weights"],
            "personal": PERSONAL_SHARE * sum(fusion["weights"].values()),
        }
        setup = replace(setup, search_ranker=partial(search_ranker, weights))
    return setup


def _with_encoders(setup: Setup, folder: Path) -> Setup:
    """Encoder, cross-encoder and intent classifier."""
    if (folder / ENCODER).is_dir():
        usage = json.loads((folder / USAGE).read_text())
        setup = replace(setup, encoder=partial(TransformerEncoder, str(folder / ENCODER), **usage))
    if (folder / CROSS_ENCODER).is_dir():
        setup = replace(setup, cross_encoder=partial(CrossEncoder, str(folder / CROSS_ENCODER)))
    if (folder / INTENT).is_dir():
        setup = replace(setup, intent=partial(IntentClassifier, str(folder / INTENT)))
    return setup


def _with_rankers(setup: Setup, folder: Path) -> Setup:
    """The mixer of sources, and the learned rankers beside those of the setup."""
    if (folder / MIXER).is_file():
        setup = replace(setup, recommend_ranker=partial(Mixer.load, folder / MIXER))
    rankers = {
        name: partial(load_ranker, folder / part)
        for name, part in RANKERS.items()
        if (folder / part).is_dir()
    }
    return replace(setup, rankers={**setup.rankers, **rankers})


def load_ranker(folder: Path) -> Ranker:
    """The trained ranker in one of the folders of RANKERS."""
    if folder.name == TREES:
        from recsys.ranking.trees import TreeRanker

        return TreeRanker(folder)
    from recsys.ranking.network import NetRanker

    return NetRanker(folder)


def next_setup(setup: Setup, folder: Path) -> Setup:
    """What the next night would take: the parts just trained into `folder`, else those of the
    current models, else the setup's own."""
    return with_parts(with_models(setup, current_models(setup)), folder)


def catalogue_vectors(release: Release, encoder: Encoder, folder: Path) -> Floats:
    """[I, D] of the release's items by this encoder: the release's own where the space is the same,
    else encoded again and cached in `folder`."""
    if encoder.space == release.manifest.space:
        return release.item_vectors_ID
    return item_vectors(encoder, item_texts(release.items), folder)


def serving_setup(setup: Setup) -> Setup:
    """The setup with the parts of the release that `current` names: what a process that starts now
    should load. A release that cannot be read leaves the setup unchanged: whoever opens the release
    refuses it with a sentence."""
    store = ArtifactStore(setup.home)
    try:
        version = store.current()
        return with_models(setup, read_manifest(store, version).models if version else None)
    except (NotFoundError, ReleaseError):
        return setup


def build_recommender(setup: Setup, release: Release) -> Recommender:
    """The release served with the setup's parts, which must be `with_models` of the release's
    models version."""
    return Recommender.over(
        release,
        setup.user_model(),
        setup.search_ranker(),
        setup.recommend_ranker(),
        cross_encoder=setup.cross_encoder() if setup.cross_encoder else None,
        intent=setup.intent() if setup.intent else None,
        choices=setup.search,
        synonyms=Synonyms.read(Path(setup.synonyms)) if setup.synonyms else None,
        vocabulary=encoder_vocabulary(setup.encoder()),
        tail_share=setup.day.tail_share,
        reranker=build_reranker(setup, release),
        reserve_s=max(0.0, setup.day.deadline_ms - setup.day.search_ms) / 1000,
    )


def build_reranker(setup: Setup, release: Release) -> Reranker:
    """The re-ranking stage: the setup's ranker where there is one, A/B experiments, exploration.

    Learned rankers are labelled with their models version, for logs and analyses."""
    labels = {
        name: f"{name}@{release.manifest.models}" if name in RANKERS else name
        for name in setup.rankers
    }
    return Reranker(
        item_features=release.item_features,
        rankers={name: make() for name, make in setup.rankers.items()},
        serving=setup.ranker,
        labels=labels,
        experiments=setup.experiments,
        exploration=setup.day.explore,
        depth=setup.day.rerank_depth,
    )


def encoder_vocabulary(encoder: Encoder) -> frozenset[str]:
    """Whole words of the encoder's vocabulary: never corrected as typos, whether or not the
    catalogue has them."""
    return encoder.words() if isinstance(encoder, TransformerEncoder) else frozenset()
