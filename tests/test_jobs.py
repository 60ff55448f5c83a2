"""Entry points: what they print, and the exit code that a scheduler sees."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from jobs import nightly, promote_release
from recsys.storage.artifacts import ArtifactStore


@pytest.fixture
def home(shop_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "home"
    shutil.copytree(shop_home, copy)
    monkeypatch.setenv("NIGHTSHELF_HOME", str(copy))
    return copy


def call(job: object, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["job", "--setup", "tests.checkerboard:setup", *words])
    return job.main()  # type: ignore[attr-defined, no-any-return]


def test_promote_points_back_and_lists(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = ArtifactStore(str(home)).versions()
    assert call(promote_release, monkeypatch, first) == 0
    assert capsys.readouterr().out == f"{first}  current\n{second}\n"
    assert ArtifactStore(str(home)).current() == first


def test_promote_refuses_an_unknown_release_and_names_those_there_are(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = ArtifactStore(str(home)).versions()
    assert call(promote_release, monkeypatch, "2020") == 1
    assert f"choose one of those published ({', '.join(versions)})" in capsys.readouterr().err
    assert ArtifactStore(str(home)).current() == versions[-1]


def test_promote_refuses_a_damaged_release(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = ArtifactStore(str(home)).versions()
    with (home / "releases" / first / "item_vectors.npy").open("r+b") as file:
        file.seek(200)
        file.write(b"\0\1\2")
    assert call(promote_release, monkeypatch, first) == 1
    assert "item_vectors.npy" in (said := capsys.readouterr().err)
    assert "is damaged" in said
    assert ArtifactStore(str(home)).current() == second


def test_nightly_plan_prints_and_an_unknown_setup_is_a_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(nightly, monkeypatch, "--plan", "--until", "2026-01-05") == 0
    assert "16 distinct texts, 0 of them to encode" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["job", "--setup", "nope"])
    assert nightly.main() == 1
    assert "setup 'nope' cannot be loaded" in capsys.readouterr().err
