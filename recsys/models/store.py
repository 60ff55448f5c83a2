"""What training left for a shop: published beside its releases, and put in place of a setup's
pretrained parts.

Models lie in a store of their own, `<home>/models`, under the same rules as releases: a version is
its manifest, and `current` names the one that the next night takes. A release says in its manifest
with which models it was made; the day uses those, so a roll-back takes the encoder back too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from recsys.config import Setup, search_ranker
from recsys.encoders.text import item_texts
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import NotFoundError, ReleaseError
from recsys.interfaces import Encoder, Ranker
from recsys.pipeline.recommender import Recommender
from recsys.pipeline.rerank import Reranker
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.mixer import Mixer
from recsys.release.release import Release, read_manifest
from recsys.retrieval.text.synonyms import Synonyms
from recsys.storage.artifacts import ArtifactStore, below
from recsys.training import (
    CROSS_ENCODER,
    ENCODER,
    EXAMINATION,
    FUSION,
    GATE,
    INTENT,
    MIXER,
    NET,
    OF_THE_ENCODER,
    TREES,
    USAGE,
    USER_MODEL,
)
from recsys.training.vectors import item_vectors
from recsys.types import Floats
from recsys.understanding.intent import IntentClassifier

KEEP = 5
PARTS = (
    ENCODER,
    USAGE,
    CROSS_ENCODER,
    INTENT,
    FUSION,
    USER_MODEL,
    MIXER,
    TREES,
    NET,
    EXAMINATION,
    GATE,
)
#: Learned rankers, by the name that a setup or an experiment knows them by.
RANKERS = {"net": NET, "trees": TREES}
#: Judged queries have no users, so training says nothing of taste: it gets this share of all other
#: weights.
PERSONAL = 0.04


@dataclass(frozen=True)
class ModelsManifest:
    """What a version of the models is. `files` maps each path to its sha256; `metrics` were
    measured in training."""

    version: str
    setup: str
    metrics: dict[str, float]
    files: dict[str, str]


def store_of(setup: Setup) -> ArtifactStore:
    """The setup's models."""
    return ArtifactStore(below(setup.home, "models"))


def publish(setup: Setup, version: str, folder: Path, metrics: dict[str, float]) -> ModelsManifest:
    """Copies the parts in `folder` into the setup's store, writes their manifest, and points
    `current` at it.

    A part that is not in `folder` is taken over from the current version, unless it belongs to an
    encoder that is new now. Of older versions the newest KEEP stay, and those that a release names.
    ReleaseError when the version exists."""
    store = store_of(setup)
    if version in store.versions():
        raise ReleaseError(
            f"models {version} are published already and never change: give the new ones their own name"
        )
    fresh = [name for name in PARTS if (folder / name).exists()]
    if not fresh:
        raise NotFoundError(f"{folder} holds no models: train into it first")
    files = _copied(store, version, folder, fresh)
    if current := current_models(setup):
        dropped = OF_THE_ENCODER if ENCODER in fresh else ()
        kept = [name for name in PARTS if name not in (*fresh, *dropped)]
        files |= _copied(store, version, local_folder(setup, current), kept)
    manifest = ModelsManifest(version, setup.name, metrics, files)
    store.publish(version, json.dumps(asdict(manifest), indent=2, sort_keys=True).encode())
    store.prune(KEEP, spare=_named_by_releases(setup))
    return manifest


def _copied(
    store: ArtifactStore, version: str, folder: Path, parts: Sequence[str]
) -> dict[str, str]:
    """The parts' files as files of the version: their sums by path."""
    there = [
        file
        for name in parts
        for file in sorted([folder / name, *(folder / name).rglob("*")])
        if file.is_file()
    ]
    paths = [file.relative_to(folder).as_posix() for file in there]
    pairs = zip(paths, there, strict=True)
    return {
        path: store.write(f"releases/{version}/{path}", file.read_bytes()) for path, file in pairs
    }


def _named_by_releases(setup: Setup) -> set[str]:
    """The models of every release that can still be served."""
    store, named = ArtifactStore(setup.home), set[str]()
    for version in store.versions():
        with suppress(
            ReleaseError, NotFoundError
        ):  # of another format, or just pruned: it names nothing
            named.add(read_manifest(store, version).models or "")
    return named


def trained(setup: Setup, version: str | None) -> Setup:
    """The setup with that version's parts in place of its own; None: the setup as it is.

    Raises NotFoundError when the version is not there, ReleaseError when a file of it is damaged.
    """
    return with_parts(setup, local_folder(setup, version)) if version else setup


def read(setup: Setup, version: str) -> ModelsManifest:
    """A version's manifest. Raises NotFoundError when it is not there, ReleaseError when it cannot
    be read."""
    store = store_of(setup)
    try:
        return ModelsManifest(**json.loads(store.read(f"releases/{version}/manifest.json")))
    except NotFoundError:
        there = ", ".join(store.versions()) or "none"
        raise NotFoundError(
            f"models {version} are not in {store.uri}: go back to a release made with those that are there ({there}), "
            "or run jobs.nightly to make one"
        ) from None
    except (ValueError, TypeError) as error:
        raise ReleaseError(
            f"the manifest of models {version} cannot be read ({error}): train again"
        ) from error


def local_folder(setup: Setup, version: str, parts: Sequence[str] = PARTS) -> Path:
    """These parts of a version as files of this machine, every checksum compared.

    Raises NotFoundError when the version is not there, ReleaseError when a file of it is damaged.
    """
    files = {
        path: sha for path, sha in read(setup, version).files.items() if path.split("/")[0] in parts
    }
    return store_of(setup).local_folder(f"releases/{version}", files)


def with_parts(setup: Setup, folder: Path) -> Setup:
    """The setup with the parts that lie in a folder of models."""
    if (folder / ENCODER).is_dir():
        usage = json.loads((folder / USAGE).read_text())
        setup = replace(setup, encoder=partial(TransformerEncoder, str(folder / ENCODER), **usage))
    if (folder / CROSS_ENCODER).is_dir():
        setup = replace(setup, cross_encoder=partial(CrossEncoder, str(folder / CROSS_ENCODER)))
    if (folder / INTENT).is_dir():
        setup = replace(setup, intent=partial(IntentClassifier, str(folder / INTENT)))
    if (folder / USER_MODEL).is_dir():
        from recsys.users.sequence import SequenceModel

        setup = replace(setup, user_model=partial(SequenceModel, str(folder / USER_MODEL)))
    if (folder / MIXER).is_file():
        setup = replace(setup, recommend_ranker=partial(Mixer.load, folder / MIXER))
    rankers = {
        name: partial(ranker, folder / part)
        for name, part in RANKERS.items()
        if (folder / part).is_dir()
    }
    setup = replace(setup, rankers={**setup.rankers, **rankers})
    if (folder / FUSION).is_file():
        chosen = json.loads((folder / FUSION).read_text())
        search = replace(setup.search, min_margin=chosen["weakest"])
        weights = {**chosen["weights"], "personal": PERSONAL * sum(chosen["weights"].values())}
        setup = replace(setup, search_ranker=partial(search_ranker, weights), search=search)
    return setup


def ranker(folder: Path) -> Ranker:
    """What training left in one of the folders of RANKERS."""
    if folder.name == TREES:
        from recsys.ranking.trees import TreeRanker

        return TreeRanker(folder)
    from recsys.ranking.network import NetRanker

    return NetRanker(folder)


def current_models(setup: Setup) -> str | None:
    """The version that the next night takes, or None where nothing was trained."""
    return store_of(setup).current()


def next_encoder(setup: Setup, folder: Path) -> Encoder:
    """What was trained into the folder just now, else what the next night would take."""
    return with_parts(trained(setup, current_models(setup)), folder).encoder()


def vectors(release: Release, encoder: Encoder, folder: Path) -> Floats:
    """The catalogue as the encoder has it: encoded again, kept in the folder, only where the
    release is of another."""
    if encoder.space == release.manifest.space:
        return release.item_vectors_ID
    return item_vectors(encoder, item_texts(release.items), folder)


def serving(setup: Setup) -> Setup:
    """The setup with the parts of the release that `current` names: what a process that starts now
    should load."""
    store = ArtifactStore(setup.home)
    try:
        version = store.current()
        return trained(setup, read_manifest(store, version).models if version else None)
    except (
        NotFoundError,
        ReleaseError,
    ):  # the release itself is refused with a sentence, by who opens it
        return setup


def recommender(setup: Setup, release: Release) -> Recommender:
    """The release answering with the setup's parts. The setup must be `trained` as the release
    was."""
    return Recommender.over(
        release,
        setup.user_model(),
        setup.search_ranker(),
        setup.recommend_ranker(),
        setup.cross_encoder() if setup.cross_encoder else None,
        setup.intent() if setup.intent else None,
        setup.search,
        Synonyms.read(Path(setup.synonyms)) if setup.synonyms else None,
        known_words(setup.encoder()),
        setup.day.tail_share,
        policy(setup, release),
    )


def policy(setup: Setup, release: Release) -> Reranker:
    """Who puts candidates in their last order: the setup's ranker, once there is one; experiments;
    exploration."""
    labels = {
        name: f"{name}@{release.manifest.models}" if name in RANKERS else name
        for name in setup.rankers
    }
    return Reranker(
        release.item_features,
        {name: make() for name, make in setup.rankers.items()},
        setup.ranker,
        labels,
        setup.experiments,
        setup.day.explore,
        setup.day.rerank_depth,
    )


def known_words(encoder: Encoder) -> frozenset[str]:
    """The words of the language as the encoder's vocabulary knows them: no typos, whatever the
    catalogue has."""
    return encoder.words() if isinstance(encoder, TransformerEncoder) else frozenset()
