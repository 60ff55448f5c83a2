"""What the night does when a text kills its encoder, when its workers are killed, and when the disk
is full."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.batch import embed
from recsys.batch.night import run_night
from recsys.batch.plan import NightRun
from recsys.batch.planning import begin
from recsys.config import Setup
from recsys.encoders.hashing import HashingEncoder
from recsys.encoders.text import text_hashes
from recsys.errors import NotFoundError, RecsysError
from recsys.interfaces import Chunk
from recsys.release.arrow import write_arrow
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Floats
from tests.checkerboard import ITEMS, UNTIL, Checkerboard, setup, title

pytestmark = pytest.mark.ray


@pytest.fixture
def home(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NIGHTSHELF_COMMIT", "test")
    return tmp_path / "home"


def nightly_release(shop: Setup, version: str | None = None, until: object = UNTIL) -> Release:
    manifest = run_night(begin(shop, until, version), print)  # type: ignore[arg-type]
    return Release.open(ArtifactStore(shop.home), manifest.version)


class Poisoned(HashingEncoder):
    """Dies of one text: with an error from the tokenizer or the model, or with its process."""

    def __init__(self, dim: int, text: str, how: str) -> None:
        super().__init__(dim)
        self.text, self.how = text, how

    def tokenize(self, texts: Sequence[str]) -> pa.ListArray:
        if self.how == "tokenizer" and any(self.text in text for text in texts):
            raise ValueError("a byte that is none")
        return super().tokenize(texts)

    def encode_tokens(self, tokens: pa.ListArray) -> Floats:
        (bad,) = super().tokenize([self.text]).to_pylist()
        if any(set(bad) <= set(each) for each in tokens.to_pylist()) and self.how != "tokenizer":
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("CUDA error: device-side assert triggered")
        return super().encode_tokens(tokens)


class Flawless(Checkerboard):
    """The shop without unusable rows."""

    def item_chunks(self) -> list[Chunk]:
        return super().item_chunks()[:-1]

    def event_chunks(self) -> list[Chunk]:
        return super().event_chunks()[:-1]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("tokenizer", "ValueError: a byte that is none"),
        ("model", "RuntimeError: CUDA error: device-side assert triggered"),
        pytest.param("kill", "the encoder's process died of it", marks=pytest.mark.slow),
    ],
)
def test_a_poison_text_is_quarantined_and_the_night_goes_on(
    home: Path, how: str, reason: str
) -> None:
    shop = replace(setup(), encoder=partial(Poisoned, 64, title(5), how))
    release = nightly_release(shop)
    noted = pq.read_table(home / "releases" / release.version / "quarantine.parquet").to_pylist()
    assert [row["reason"] for row in noted if row["source"] == "i05"] == [
        f"the text of item 'i05': the encoder fails on it ({reason})"
    ]
    row = release.item_ids.row("i05")
    assert np.flatnonzero(~release.item_vectors_ID.any(axis=1)).tolist() == [row]
    assert release.manifest.counts["items"] == ITEMS
    if how == "model":
        mended = nightly_release(setup(), until=UNTIL + timedelta(days=1))
        assert mended.item_vectors_ID.any(axis=1).all()
        assert not any("encoder" in reason for reason in mended.manifest.quarantined)


def test_too_many_poison_texts_stop_the_night(home: Path) -> None:
    shop = setup()
    shop = replace(
        shop,
        encoder=partial(Poisoned, 64, "red", "model"),
        night=replace(shop.night, max_bad_share=0.1),
    )
    with pytest.raises(RecsysError, match=r"8 of 16 rows cannot be used.*the encoder fails on it"):
        nightly_release(replace(shop, dataset=Flawless))
    assert ArtifactStore(str(home)).current() is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"a disk of its own cannot be mounted here: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_the_night_with_a_sentence_and_the_next_one_with_room_succeeds(
    ray_session: None, shop_home: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHELF_HOME", str(small_disk / "home"))
    monkeypatch.setenv("NIGHTSHELF_COMMIT", "test")
    shutil.copytree(shop_home, small_disk / "home")
    store = ArtifactStore(str(small_disk / "home"))
    before = store.current()
    fill(small_disk, left=150_000)
    with pytest.raises(RecsysError, match=r"No space left on device.*free some"):
        nightly_release(setup(), "full", UNTIL + timedelta(days=2))
    assert (store.current(), "full" in store.versions()) == (before, False)
    assert Release.open(store).version == before
    (small_disk / "filling").unlink()
    assert (
        nightly_release(setup(), "full", UNTIL + timedelta(days=2)).version
        == store.current()
        == "full"
    )


def fill(disk: Path, left: int) -> None:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filling").write_bytes(b"\0" * (free - left))


class Watched(HashingEncoder):
    """Knows whether it was loaded, and counts who encodes at once."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.now = self.most = 0
        self.loaded = False

    def load(self) -> None:
        self.loaded = True

    def encode_tokens(self, tokens: pa.ListArray) -> Floats:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.05)
        self.now -= 1
        return super().encode_tokens(tokens)


def test_a_model_is_loaded_beforehand_where_it_is_sure_to_be_needed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(replace(setup(), encoder=partial(Watched, 16)), UNTIL)
    assert embed.TextEncoderActor(run).encoder.loaded  # type: ignore[attr-defined]
    np.save(home.parent / "before.npy", np.empty((0, 16), np.float32))
    monkeypatch.setattr(NightRun, "previous_file", lambda *_: home.parent / "before.npy")
    assert not embed.TextEncoderActor(run).encoder.loaded  # type: ignore[attr-defined]


class Unloaded(HashingEncoder):
    def load(self) -> None:
        raise NotFoundError("the weights are gone: put them back")


def test_a_model_that_cannot_be_loaded_is_said(home: Path) -> None:
    with pytest.raises(
        RecsysError, match=r"embed items, shard \d: the weights are gone: put them back"
    ):
        nightly_release(replace(setup(), encoder=partial(Unloaded, 16)))


def test_an_actor_with_several_shards_encodes_one_at_a_time(home: Path) -> None:
    """So that of several shards only the one it was at is blamed when it dies."""
    run = begin(replace(setup(), encoder=partial(Watched, 16)), UNTIL)
    actor, encoder = embed.TextEncoderActor(run), HashingEncoder(16)
    texts = ["red drill", "blue saw", "oak"]
    columns = [
        pa.array(text_hashes(texts)),
        pa.nulls(3, pa.string()),
        pa.array([-1] * 3, pa.int32()),
    ]
    message = pa.record_batch([*columns, encoder.tokenize(texts)], schema=embed._MESSAGE)
    prepared = write_arrow([message], embed._MESSAGE).to_pybytes()
    with ThreadPoolExecutor(4) as pool:
        rows = [
            result.rows for result in pool.map(partial(actor.process, prepared=prepared), range(4))
        ]
    assert (rows, actor.encoder.most) == ([3] * 4, 1)  # type: ignore[attr-defined]
    for shard in range(4):
        np.testing.assert_array_equal(
            run.read_array("text_vectors", shard), encoder.encode_items(texts)
        )
