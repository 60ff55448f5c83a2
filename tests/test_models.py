"""Versions of trained models: whole or not there, refused when damaged, and in a setup's place when
asked for."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.config import Setup, search_ranker
from recsys.encoders.hashing import HashingEncoder
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError, NotFoundError, ReleaseError
from recsys.models.composition import serving_setup, with_models, with_parts
from recsys.models.store import current_models, models_store, publish_models
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.release.manifest import Manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.training import CROSS_ENCODER, ENCODER, FUSION, USAGE, USER_MODEL
from tests.checkerboard import setup as checkerboard
from tests.toy_kinds import bert_folder

WEIGHTS = {"lexical": 0.3, "dense": 1.0, "cross_encoder": 0.6}


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    return replace(checkerboard(), home=str(tmp_path / "home"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training leaves, logs included."""
    root = tmp_path_factory.mktemp("trained")
    for part in (ENCODER, CROSS_ENCODER, "logs/teacher"):
        (root / part).mkdir(parents=True)
        bert_folder(root / part)
    (root / USAGE).write_text(json.dumps({"query_prefix": "find ", "max_tokens": 9}))
    chosen = {"weights": WEIGHTS, "without_cross_encoder": {}}
    (root / FUSION).write_text(json.dumps(chosen))
    return root


def few(root: Path, text: str = "{}") -> Path:
    """The smallest folder of models there is."""
    root.mkdir(exist_ok=True)
    (root / FUSION).write_text(text)
    return root


def parts(setup: Setup) -> tuple[Any, ...]:
    return setup.encoder, setup.cross_encoder, setup.intent, setup.search_ranker, setup.search


def test_without_a_version_the_setup_is_as_it_is(setup: Setup) -> None:
    assert with_models(setup, None) is setup
    assert current_models(setup) is None
    assert serving_setup(setup) is setup


def test_a_published_version_takes_the_setups_place(setup: Setup, folder: Path) -> None:
    manifest = publish_models(setup, "2026-01-02", folder, {"recall@10": 0.5})
    assert (manifest.version, manifest.setup, manifest.metrics) == (
        "2026-01-02",
        setup.name,
        {"recall@10": 0.5},
    )
    assert current_models(setup) == "2026-01-02"
    composed = with_models(setup, "2026-01-02")
    place = Path(setup.home) / "models" / "releases" / "2026-01-02"
    encoder, reader = (
        composed.encoder(),
        composed.cross_encoder and composed.cross_encoder(),
    )
    assert isinstance(encoder, TransformerEncoder)
    assert isinstance(reader, CrossEncoder)
    assert (encoder.folder, encoder.query_prefix, encoder.max_tokens) == (
        place / ENCODER,
        "find ",
        9,
    )
    assert (
        encoder.space
        == TransformerEncoder(str(folder / ENCODER), query_prefix="find ", max_tokens=9).space
    )
    assert reader.folder == place / CROSS_ENCODER
    assert reader.scores(["aa1"], ["bb1"]).shape == (1,)
    assert composed.intent is None


def test_a_version_holds_the_parts_alone(setup: Setup, folder: Path) -> None:
    files = publish_models(setup, "1", folder, {}).files
    names = {"config.json", "model.safetensors", "tokenizer.json"}
    wanted = {f"{part}/{name}" for part in (ENCODER, CROSS_ENCODER) for name in names} | {
        FUSION,
        USAGE,
    }
    assert files.keys() == wanted, "no logs, no teacher"
    store = models_store(setup)
    assert set(store.files("releases/1")) == {
        f"releases/1/{name}" for name in [*wanted, "manifest.json"]
    }
    assert all(store.read(f"releases/1/{name}") == (folder / name).read_bytes() for name in wanted)
    assert all(store.sha256(f"releases/1/{name}") == checksum for name, checksum in files.items())


def test_a_part_that_was_not_trained_stays_the_setups_own(setup: Setup, tmp_path: Path) -> None:
    text = json.dumps({"weights": {"lexical": 1.0}, "without_cross_encoder": {}})
    publish_models(setup, "1", few(tmp_path / "few", text), {})
    composed = with_models(setup, "1")
    assert parts(composed)[:3] == parts(setup)[:3]
    assert composed.search == setup.search
    assert lexical_weight(composed) == 1.0
    assert composed.search_ranker().feature_names == search_ranker().feature_names
    assert with_parts(setup, tmp_path) == setup, "a folder of nothing"


def test_a_version_is_whole_or_not_there(
    setup: Setup, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_models(setup, "1", few(tmp_path / "few"), {})
    write = ArtifactStore.write

    def broken(store: ArtifactStore, path: str, data: Any) -> str:
        if path.endswith("model.safetensors"):
            raise OSError("no space left on device")
        return write(store, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "write", broken)
        with pytest.raises(OSError, match="no space"):
            publish_models(setup, "2", folder, {})
    assert current_models(setup) == "1"
    with pytest.raises(NotFoundError):
        with_models(setup, "2")
    publish_models(setup, "2", folder, {})
    assert isinstance(with_models(setup, "2").encoder(), TransformerEncoder), (
        "and can be tried again"
    )


def test_a_published_version_never_changes(setup: Setup, tmp_path: Path) -> None:
    publish_models(setup, "1", few(tmp_path / "few", '{"weights": {"lexical": 0.25}}'), {})
    with pytest.raises(ReleaseError, match="models 1 are published already and never change"):
        publish_models(setup, "1", few(tmp_path / "few", '{"weights": {"lexical": 0.75}}'), {})
    assert lexical_weight(with_models(setup, "1")) == 0.25


@pytest.mark.parametrize(
    "name", [FUSION, f"{ENCODER}/model.safetensors", f"{CROSS_ENCODER}/tokenizer.json"]
)
def test_a_damaged_file_is_refused(setup: Setup, folder: Path, name: str) -> None:
    publish_models(setup, "1", folder, {})
    with (Path(setup.home) / "models" / "releases" / "1" / name).open("r+b") as file:
        file.seek(3)
        file.write(b"\0\1\2")
    with pytest.raises(ReleaseError, match=rf"{name}.*is damaged"):
        with_models(setup, "1")


def test_a_lost_file_and_an_unknown_version_are_said(setup: Setup, folder: Path) -> None:
    publish_models(setup, "1", folder, {})
    with pytest.raises(InputError, match="cannot name a release"):
        publish_models(setup, "a b", folder, {})
    (Path(setup.home) / "models" / "releases" / "1" / FUSION).unlink()
    with pytest.raises(NotFoundError, match=FUSION):
        with_models(setup, "1")
    with pytest.raises(
        NotFoundError, match=r"models 3 are not in .* made with those that are there \(1\)"
    ):
        with_models(setup, "3")
    assert models_store(setup).versions() == ["1"]


def test_a_folder_without_models_is_said(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "checkpoint.pt").write_bytes(b"x")
    with pytest.raises(NotFoundError, match="holds no models: train into it first"):
        publish_models(setup, "1", tmp_path, {})
    assert current_models(setup) is None


def test_the_newest_five_are_kept(setup: Setup, tmp_path: Path) -> None:
    for version in "1234567":
        publish_models(setup, version, few(tmp_path / "few"), {})
    assert models_store(setup).versions() == list("34567")
    assert current_models(setup) == "7"


def release(setup: Setup, version: str, models: str | None) -> None:
    """A night's release as far as `serving` reads it."""
    manifest = Manifest(
        version=version,
        space="hashing",
        setup=setup.name,
        commit="",
        previous=None,
        created=datetime(2026, 1, 2, tzinfo=UTC).isoformat(),
        events_from=None,
        events_until=None,
        counts={},
        quarantined={},
        sources=[],
        metrics={},
        files={},
        models=models,
    )
    ArtifactStore(setup.home).publish(version, json.dumps(asdict(manifest)).encode())


def lexical_weight(setup: Setup) -> float:
    [weights] = setup.search_ranker.args  # type: ignore[attr-defined]
    return float(weights["lexical"])


def test_serving_takes_the_models_of_the_release_not_the_newest(
    setup: Setup, tmp_path: Path
) -> None:
    for version, weight in (("1", 0.11), ("2", 0.22)):
        publish_models(
            setup,
            version,
            few(tmp_path / "few", json.dumps({"weights": {"lexical": weight}})),
            {},
        )
    assert serving_setup(setup) is setup, "no release yet"
    release(setup, "a", "1")
    assert lexical_weight(serving_setup(setup)) == 0.11
    release(setup, "b", "2")
    assert lexical_weight(serving_setup(setup)) == 0.22
    ArtifactStore(setup.home).point("a")
    assert lexical_weight(serving_setup(setup)) == 0.11, "rolled back"
    release(setup, "c", None)
    assert serving_setup(setup) is setup


def test_models_of_a_release_that_is_kept_are_kept(setup: Setup, tmp_path: Path) -> None:
    """A shop may train more often than its nights succeed, and roll back."""
    publish_models(setup, "1", few(tmp_path / "few", '{"weights": {"lexical": 0.11}}'), {})
    release(setup, "a", "1")
    for version in "234567":
        publish_models(setup, version, few(tmp_path / "few"), {})
    assert models_store(setup).versions() == list("134567")
    assert lexical_weight(serving_setup(setup)) == 0.11


def test_serving_leaves_a_bad_release_to_who_opens_it(setup: Setup, folder: Path) -> None:
    publish_models(setup, "1", folder, {})
    release(setup, "a", "1")
    assert isinstance(serving_setup(setup).encoder(), TransformerEncoder)
    (Path(setup.home) / "models" / "releases" / "1" / FUSION).write_text("{")
    assert serving_setup(setup) is setup
    assert isinstance(serving_setup(setup).encoder(), HashingEncoder)


def test_what_was_not_trained_is_taken_over(setup: Setup, folder: Path, tmp_path: Path) -> None:
    publish_models(setup, "1", folder, {})
    (tmp_path / "users" / USER_MODEL).mkdir(parents=True)
    (tmp_path / "users" / USER_MODEL / "shape.json").write_text("{}")
    before, after = (
        publish_models(setup, "2", tmp_path / "users", {}).files,
        publish_models(setup, "3", folder, {}).files,
    )
    assert f"{USER_MODEL}/shape.json" in before
    assert FUSION in before
    assert not any(
        path.startswith(USER_MODEL) for path in after
    )  # it belongs to the encoder before


def test_the_personal_signal_weighs_a_twenty_fifth_of_the_learned_ones(
    setup: Setup, folder: Path
) -> None:
    """Weights of .3 + 1 + .6: judged queries have no users, so its share is fixed."""
    ranker = with_parts(setup, folder).search_ranker()
    features = np.zeros((1, 2, len(ranker.feature_names)), np.float32)
    features[0, 0, ranker.feature_names.index("personal")] = 1
    scores = ranker.score(features)[0]
    assert scores[0] - scores[1] == pytest.approx(0.076)


def test_a_trained_ranker_has_the_name_that_a_setup_uses(setup: Setup, tmp_path: Path) -> None:
    for part in ("ranker_net", "ranker_trees"):
        (tmp_path / part).mkdir()
    rankers = with_parts(setup, tmp_path).rankers
    assert {name: make.args[0].name for name, make in rankers.items()} == {
        "net": "ranker_net",
        "trees": "ranker_trees",
    }
    (tmp_path / "ranker_net").rmdir()
    assert with_parts(setup, tmp_path).rankers.keys() == {"trees"}
