"""One class of tests per seam; every implementation inherits it."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.arrays import Candidates, Histories, Requests
from recsys.datasets.validate import LINE, check_events, check_items
from recsys.errors import InputError, NotFoundError, ReleaseError
from recsys.interfaces import (
    AppendResult,
    Chunk,
    DatasetAdapter,
    DatedAdapter,
    Encoder,
    EventStore,
    ExplainableRanker,
    LogPosition,
    Ranker,
    Retriever,
    Scorer,
    UserEvents,
    UserModel,
)
from recsys.storage.artifacts import ArtifactStore
from recsys.tables import EVENTS_RAW, ITEMS_RAW, LIVE_EVENTS, REQUIRED
from recsys.types import PURCHASE, FeatureTable, Floats, Impression, Interaction, PrivacyState


def publish_release(store: ArtifactStore, version: str) -> None:
    """Three files and a manifest with their checksums, as a night does it."""
    paths = [f"releases/{version}/part-{number}" for number in range(3)]
    sums = {path: store.write(path, f"{path} of {version} ".encode() * 500) for path in paths}
    store.publish(version, json.dumps({"version": version, "files": sums}).encode())


def is_whole(store: ArtifactStore, version: str) -> bool:
    manifest = json.loads(store.read(f"releases/{version}/manifest.json"))
    sums = manifest["files"]
    return (
        manifest["version"] == version
        and len(sums) == 3
        and all(store.sha256(path) == sums[path] for path in sums)
    )


def race(read: Callable[[], None], write: Callable[[], None]) -> None:
    """Reads over and over in a second thread while `write` runs."""
    written = Event()

    def reads() -> None:
        while not written.is_set():
            read()

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(reads)
        try:
            write()
        finally:
            written.set()
        reader.result()


class ArtifactStoreContract:
    """`make(cache)` opens one and the same empty store each time it is called in a test."""

    def make(self, cache: str | None = None) -> ArtifactStore:
        raise NotImplementedError

    def test_reads_what_was_written(self) -> None:
        store = self.make()
        assert store.write("work/v1/a.bin", b"first") == hashlib.sha256(b"first").hexdigest()
        assert store.write("work/v1/a.bin", b"abc") == store.sha256("work/v1/a.bin")
        assert store.read("work/v1/a.bin") == b"abc"
        assert (store.exists("work/v1/a.bin"), store.size("work/v1/a.bin")) == (True, 3)
        assert not store.exists("work/v1")

    def test_bytes_come_back_as_they_went_in(self) -> None:
        store = self.make()
        for name, data in [("empty", b""), ("not-really.gz", b"plain"), ("名 前 +%.json", b"{}")]:
            store.write(f"work/{name}", data)
            assert (store.read(f"work/{name}"), store.size(f"work/{name}")) == (data, len(data))

    def test_pieces_become_one_file(self) -> None:
        pieces = [b"a" * 7, pa.py_buffer(b"bc"), b""]
        assert self.make().write("work/a", iter(pieces)) == hashlib.sha256(b"aaaaaaabc").hexdigest()
        assert self.make().read("work/a") == b"aaaaaaabc"

    def test_pieces_that_break_off_leave_the_old_file(self) -> None:
        def breaks_off() -> Iterator[bytes]:
            yield b"half"
            raise OSError("the disk went")

        self.make().write("work/a", b"old")
        with pytest.raises(OSError, match="the disk went"):
            self.make().write("work/a", breaks_off())
        assert self.make().read("work/a") == b"old"

    def test_a_folder_comes_whole_and_checked(self, tmp_path: Path) -> None:
        store = self.make(str(tmp_path / "cache"))
        sums = {
            name: store.write(f"releases/v1/index/{name}", name.encode()) for name in ("a", "sub/b")
        }
        folder = store.local_folder("releases/v1/index", sums)
        assert [(folder / name).read_text() for name in sums] == ["a", "sub/b"]
        assert store.local_folder("releases/v1/index", sums) == folder
        with pytest.raises(ReleaseError, match=r"index/a in .* is damaged"):
            store.local_folder("releases/v1/index", {**sums, "a": "0" * 64})

    def test_lists_and_deletes_a_folder(self) -> None:
        store = self.make()
        for path in ("work/v1/b", "work/v1/sub/a", "work/v10/c"):
            store.write(path, b"x")
        assert store.files("work/v1") == ["work/v1/b", "work/v1/sub/a"]
        store.delete("work/v1")
        store.delete("work/v1")
        assert store.files("work/v1") == []
        assert store.files("work") == ["work/v10/c"]

    def test_what_is_missing_is_said(self) -> None:
        store = self.make()
        for ask in (store.read, store.size, store.sha256, lambda path: store.local(path, "0" * 64)):
            with pytest.raises(NotFoundError, match="work/v1/gone is not in"):
                ask("work/v1/gone")

    @pytest.mark.parametrize(
        "path", ["", "/etc/passwd", "..", "a/../../b", "a/./b", "a//b", "a/", "a\\b", "a\0b"]
    )
    def test_a_path_stays_inside(self, path: str) -> None:
        store = self.make()
        for touch in (
            store.read,
            store.exists,
            store.size,
            store.sha256,
            store.files,
            store.delete,
        ):
            with pytest.raises(InputError, match="not inside the store"):
                touch(path)
        with pytest.raises(InputError, match="not inside the store"):
            store.write(path, b"x")

    @pytest.mark.parametrize("version", ["", "..", "a/b", "-v", "v" * 65, "v\n"])
    def test_a_version_is_a_plain_name(self, version: str) -> None:
        store = self.make()
        for touch in (store.point, lambda name: store.publish(name, b"{}")):
            with pytest.raises(InputError, match="cannot name a release"):
                touch(version)

    def test_local_gives_a_file_to_open(self, tmp_path: Path) -> None:
        store = self.make(str(tmp_path / "cache"))
        checksum = store.write("releases/v1/vectors.npy", b"vectors")
        first = store.local("releases/v1/vectors.npy", checksum)
        assert first.read_bytes() == b"vectors"
        assert store.local("releases/v1/vectors.npy", checksum) == first

    def test_a_pickled_store_is_the_same_store(self) -> None:
        store = self.make()
        store.write("work/a", b"x")
        pickled = pickle.dumps(store)
        assert len(pickled) < 500
        assert pickle.loads(pickled).read("work/a") == b"x"

    def test_a_version_exists_when_its_manifest_does(self) -> None:
        store = self.make()
        assert (store.versions(), store.current()) == ([], None)
        publish_release(store, "2026-01-02")
        publish_release(store, "2026-01-01")
        store.write("releases/2026-01-03/part-0", b"the night failed here")
        assert self.make().versions() == ["2026-01-01", "2026-01-02"]
        assert self.make().current() == "2026-01-01"

    def test_a_night_is_unfinished_until_its_manifest(self) -> None:
        store = self.make()
        store.write("work/v1/plan.json", b"{}")
        store.write("work/v2/plan.json", b"{}")
        publish_release(store, "v1")
        assert store.unfinished() == ["v2"]

    def test_a_release_never_changes(self) -> None:
        store = self.make()
        publish_release(store, "v1")
        with pytest.raises(ReleaseError, match="v1 is published already"):
            store.publish("v1", b"other")
        assert is_whole(store, "v1")

    def test_points_back_and_forth(self) -> None:
        store = self.make()
        publish_release(store, "v1")
        publish_release(store, "v2")
        store.point("v1")
        assert store.current() == "v1"
        with pytest.raises(NotFoundError, match=r"v3 is not in .*\(v1, v2\)"):
            store.point("v3")
        assert store.current() == "v1"

    def test_a_crash_before_the_manifest_leaves_current_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, write = self.make(), ArtifactStore.write
        publish_release(store, "v1")

        def dies(self: ArtifactStore, path: str, data: bytes) -> str:
            if path.endswith("manifest.json"):
                raise OSError("the power went")
            return write(self, path, data)

        monkeypatch.setattr(ArtifactStore, "write", dies)
        with pytest.raises(OSError, match="power"):
            publish_release(store, "v2")
        monkeypatch.undo()
        assert (store.current(), store.versions()) == ("v1", ["v1"])
        publish_release(store, "v2")
        assert store.current() == "v2"

    def test_prune_keeps_the_newest_and_the_current(self) -> None:
        store = self.make()
        for version in ("v1", "v2", "v4", "v5"):
            publish_release(store, version)
            store.write(f"work/{version}/part", b"x")
        store.write("releases/v3/part-0", b"a night that failed")
        store.write("work/v6/part", b"a night that runs now")
        store.point("v1")
        assert store.prune(2) == ["v2"]
        assert store.versions() == ["v1", "v4", "v5"]
        assert (store.files("releases/v3"), store.files("work/v2")) == ([], [])
        assert store.exists("work/v6/part")
        assert is_whole(store, "v1")
        assert store.prune(2) == []
        with pytest.raises(InputError, match="keep is 0"):
            store.prune(0)

    def test_prune_deletes_the_manifest_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = self.make()
        publish_release(store, "v1")
        publish_release(store, "v2")

        def dies(self: ArtifactStore, folder: str) -> None:
            raise OSError("the power went")

        monkeypatch.setattr(ArtifactStore, "delete", dies)
        with pytest.raises(OSError, match="power"):
            store.prune(1)
        monkeypatch.undo()
        assert store.versions() == ["v2"]
        assert store.files("releases/v1")
        assert store.prune(1) == []
        assert store.files("releases/v1") == []

    def test_a_reader_never_sees_a_torn_release(self) -> None:
        reader_store, seen = self.make(), set[str]()

        def read() -> None:
            if version := reader_store.current():
                assert is_whole(reader_store, version), version
                seen.add(version)

        def publish_50() -> None:
            for number in range(50):
                publish_release(self.make(), f"v{number:02}")

        race(read, publish_50)
        assert len(seen) > 3
        assert len(reader_store.versions()) == 50

    def test_a_reader_never_sees_half_a_file(self) -> None:
        reader_store, seen = self.make(), set[bytes]()
        bodies = [bytes([65 + number]) * (300_000 + number) for number in range(20)]
        reader_store.write("work/file", bodies[0])

        def write_20() -> None:
            for body in bodies:
                self.make().write("work/file", body)

        race(lambda: seen.add(reader_store.read("work/file")), write_20)
        assert len(seen) > 1
        assert seen <= set(bodies)


class EncoderContract:
    TEXTS = ("cordless drill", "oak table", "", "drill", "手机壳", "a b c d e f g h " * 50)

    def make(self) -> Encoder:
        raise NotImplementedError

    def test_one_unit_vector_a_text(self) -> None:
        encoder = self.make()
        vectors_ND = encoder.encode_items(self.TEXTS)
        assert (vectors_ND.shape, vectors_ND.dtype) == ((len(self.TEXTS), encoder.dim), np.float32)
        np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-5)
        assert encoder.encode_queries(self.TEXTS).shape == vectors_ND.shape
        assert encoder.encode_items([]).shape == (0, encoder.dim)

    def test_the_night_s_two_steps_make_the_same_vectors(self) -> None:
        encoder = self.make()
        tokens = encoder.tokenize(self.TEXTS)
        assert tokens.type == pa.list_(pa.int32())
        np.testing.assert_array_equal(
            encoder.encode_tokens(tokens), encoder.encode_items(self.TEXTS)
        )

    def test_loading_beforehand_changes_nothing(self) -> None:
        loaded = self.make()
        loaded.load()
        np.testing.assert_array_equal(
            loaded.encode_items(self.TEXTS), self.make().encode_items(self.TEXTS)
        )

    def test_neighbours_do_not_matter(self) -> None:
        encoder = self.make()
        together_ND = encoder.encode_items(self.TEXTS)
        alone_ND = np.concatenate([encoder.encode_items([text]) for text in self.TEXTS])
        np.testing.assert_allclose(together_ND, alone_ND, atol=1e-5)
        sliced_ND = encoder.encode_tokens(encoder.tokenize(self.TEXTS)[2:5])
        np.testing.assert_allclose(sliced_ND, together_ND[2:5], atol=1e-5)

    def test_a_second_one_agrees(self) -> None:
        first, second = self.make(), self.make()
        assert (first.space, first.dim) == (second.space, second.dim)
        np.testing.assert_allclose(
            first.encode_items(["oak"]), second.encode_items(["oak"]), atol=1e-6
        )


class UserModelContract:
    """Over five items or more; `make` gives a model that fits them."""

    CATALOGUE = pa.table({"item_id": [f"i{row}" for row in range(5)]})
    VECTORS = np.eye(5, 6, dtype=np.float32)
    #: The second user did nothing, the third something with an item that is gone, the fourth only
    #: that.
    BLOCK = Histories(
        offsets=np.array([0, 2, 2, 4, 5]),
        items=np.array([0, 1, -1, 2, -1], np.int32),
        types=np.array([0, 3, 3, 1, 0], np.int8),
        days=np.array([10.0, 20.0, 5.0, 6.0, 7.0]),
    )

    def make(self) -> UserModel:
        raise NotImplementedError

    def placed(self) -> Floats:
        return self.make().embed_items(self.CATALOGUE, self.VECTORS)

    def test_every_item_has_a_place(self) -> None:
        places_ID = self.placed()
        assert (len(places_ID), places_ID.dtype) == (self.CATALOGUE.num_rows, np.float32)
        assert np.isfinite(places_ID).all()
        assert self.make().embed_items(self.CATALOGUE.slice(0, 0), self.VECTORS[:0]).shape == (
            0,
            places_ID.shape[1],
        )

    def test_a_shard_is_placed_as_the_whole(self) -> None:
        parts = [
            self.make().embed_items(self.CATALOGUE.slice(low, 3), self.VECTORS[low : low + 3])
            for low in (0, 3)
        ]
        np.testing.assert_allclose(np.concatenate(parts)[:5], self.placed()[:5], atol=1e-5)

    def test_unit_vectors_and_zeros(self) -> None:
        vectors_BD = self.make().encode_history(self.BLOCK, self.placed())
        assert (vectors_BD.shape, vectors_BD.dtype) == ((4, self.placed().shape[1]), np.float32)
        np.testing.assert_allclose(np.linalg.norm(vectors_BD, axis=1), [1, 0, 1, 0], atol=1e-5)

    def test_neighbours_do_not_matter(self) -> None:
        model = self.make()
        places_ID, users = self.placed(), range(len(self.BLOCK))
        alone = [
            model.encode_history(self.BLOCK.slice(user, user + 1), places_ID) for user in users
        ]
        np.testing.assert_allclose(
            model.encode_history(self.BLOCK, places_ID), np.concatenate(alone), atol=1e-5
        )

    def test_nobody_and_no_history(self) -> None:
        model, places_ID = self.make(), self.placed()
        assert model.encode_history(Histories.empty(0), places_ID).shape == (0, places_ID.shape[1])
        assert not model.encode_history(Histories.empty(2), places_ID).any()


EVENING = datetime(2026, 1, 1, 18, tzinfo=UTC)


def interaction(event_id: str, user_id: str = "u", minute: int = 0, **others: Any) -> Interaction:
    return Interaction(
        event_id=event_id,
        user_id=user_id,
        item_id="i1",
        type="view",
        time=EVENING + timedelta(minutes=minute),
        **others,
    )


class EventStoreContract:
    """What every `EventStore` does; `open` opens the same log each time it is given the same
    folder."""

    def open(self, folder: Path) -> EventStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[EventStore]:
        store = self.open(tmp_path)
        yield store
        store.close()

    def test_a_new_log_is_empty(self, store: EventStore) -> None:
        assert store.counts() == {"interactions": 0, "impressions": 0, "quarantined": 0}
        assert store.end() == LogPosition(0, 0)
        assert list(store.interactions(10)) == list(store.impressions()) == []
        assert store.append([]) == AppendResult(0, 0)

    def test_interactions_come_back_as_they_were_in_order_of_arrival(
        self, store: EventStore
    ) -> None:
        late = Interaction(
            event_id="e1",
            user_id="小明",
            item_id="i-1",
            type="purchase",
            time=EVENING.replace(microsecond=123456),
            request_id="r",
            quantity=2.5,
            price=9.99,
        )
        early = interaction("e2", minute=-5)
        assert store.append([late, early]) == AppendResult(2, 0)
        (batch,) = store.interactions(store.end().interactions)
        assert batch.schema == LIVE_EVENTS
        assert [Interaction(**row) for row in batch.to_pylist()] == [late, early]

    def test_an_event_seen_before_is_counted_and_skipped(self, store: EventStore) -> None:
        store.append([interaction("e1")])
        again = [interaction("e1", minute=9), interaction("e2"), interaction("e2")]
        assert store.append(again) == AppendResult(1, 2)
        assert store.user_events("u", EVENING - timedelta(days=1), 10).interactions == [
            interaction("e1"),
            interaction("e2"),
        ]
        assert sum(batch.num_rows for batch in store.interactions(store.end().interactions)) == 2

    def test_an_append_that_fails_writes_nothing(self, store: EventStore) -> None:
        with pytest.raises(InputError):
            store.append([interaction("e1"), interaction("\ud800")])
        assert store.counts()["interactions"] == 0
        assert store.append([interaction("e1")]) == AppendResult(1, 0)

    def test_user_events_are_the_newest_of_one_user_oldest_first(self, store: EventStore) -> None:
        def minutes(after: int, limit: int) -> list[str]:
            events = store.user_events("u", EVENING + timedelta(minutes=after), limit)
            return [event.event_id for event in events.interactions]

        store.append([interaction(f"e{minute}", minute=minute) for minute in (3, 1, 4, 2)])
        store.append([interaction("other", user_id="v", minute=5)])
        assert minutes(1, limit=2) == ["e3", "e4"]
        assert minutes(1, limit=9) == ["e2", "e3", "e4"]
        assert minutes(0, limit=0) == minutes(4, limit=9) == []
        nothing = UserEvents(PrivacyState(), [])
        assert store.user_events("nobody", EVENING, 9) == nothing

    def test_user_events_say_what_the_user_decided(self, store: EventStore) -> None:
        store.append([interaction("e1"), interaction("e2", minute=2)])
        forgotten = PrivacyState(forgotten=EVENING + timedelta(minutes=1))
        store.set_privacy_state("u", forgotten)
        before = EVENING - timedelta(days=1)
        stored = [interaction("e1"), interaction("e2", minute=2)]
        assert store.user_events("u", before, 9) == UserEvents(forgotten, stored)
        out = replace(forgotten, opted_out=True)
        store.set_privacy_state("u", out)
        assert store.user_events("u", before, 1) == UserEvents(out, stored[1:])
        assert store.user_events("v", before, 9) == UserEvents(PrivacyState(), [])

    def test_a_log_without_an_archive_drains_nothing(self, store: EventStore) -> None:
        """One with an archive moves all that it holds."""
        store.append([interaction("e1"), interaction("e2")])
        assert store.drain() in (0, 2)
        assert store.drain() == 0
        assert store.counts()["interactions"] == 2

    def test_a_night_reads_up_to_a_fixed_point(self, store: EventStore) -> None:
        store.append([interaction("e1"), interaction("e2")])
        until = store.end().interactions
        store.append([interaction("e3")])
        assert [batch["event_id"].to_pylist() for batch in store.interactions(until)] == [
            ["e1", "e2"]
        ]
        later = [
            event
            for batch in store.interactions(3, after=1)
            for event in batch["event_id"].to_pylist()
        ]
        assert later == ["e2", "e3"]

    def test_a_long_log_comes_in_several_batches(self, store: EventStore) -> None:
        events = [interaction(f"e{number}") for number in range(12_000)]
        store.append(events)
        batches = list(store.interactions(store.end().interactions))
        assert len(batches) > 1
        assert [i for batch in batches for i in batch["event_id"].to_pylist()] == [
            e.event_id for e in events
        ]

    def test_impressions_keep_order_and_features_and_are_written_once(
        self, store: EventStore
    ) -> None:
        shown = Impression(
            request_id="r1",
            time=EVENING,
            release="v7",
            surface="search",
            item_ids=("b", "a"),
            features=FeatureTable(
                ("bm25", "ann"), np.array(((1.5, 0.0), (0.25, -1.0)), np.float32)
            ),
            user_id=None,
            query="茶",
            offset=10,
            scores=(2.5, 0.5),
            propensities=(0.9, 0.1),
            teams=("net", "trees"),
            ranker="net@m1",
            arms={"new ranker": "treatment"},
            parameters={"k": 2, "brand": ["x"]},
        )
        bare = Impression(
            request_id="r2", time=EVENING, release="v7", surface="home", item_ids=(), user_id="u"
        )
        store.append_impressions([shown, bare])
        store.append_impressions([shown])
        assert list(store.impressions()) == [shown, bare]
        first, second = (each.sequence for each in store.impressions())
        last = store.end().impressions
        assert 0 < first < second == last == store.impression("r2").sequence
        assert list(store.impressions(after=first)) == [bare]
        assert (store.impression("r1"), store.impression("r9")) == (shown, None)
        third = replace(bare, request_id="r3")
        store.append_impressions([third])
        assert list(store.impressions(after=last)) == [third]
        assert (
            list(store.impressions(after=store.end().impressions))
            == list(store.impressions(after=99))
            == []
        )

    def test_quarantine_takes_whatever_came(self, store: EventStore) -> None:
        store.quarantine(
            [("time is \ud800: no", {"time": EVENING, "x": [b"\xff", float("nan"), "\ud800"]})]
        )
        assert store.counts() == {"interactions": 0, "impressions": 0, "quarantined": 1}

    def test_forgetting_leaves_no_row_and_lets_nothing_of_before_in(
        self, store: EventStore, tmp_path: Path
    ) -> None:
        shown = Impression(
            request_id="r1",
            time=EVENING,
            release="v7",
            surface="home",
            item_ids=("b",),
            user_id="u",
        )
        store.append([interaction("e1"), interaction("e2", user_id="v")])
        store.append_impressions([shown, replace(shown, request_id="r2", user_id=None)])
        store.quarantine(
            [("no such item", {"user_id": "u", "item_id": "x"}), ("no such user", {"item_id": "x"})]
        )
        gone = {"interactions": 1, "impressions": 1, "quarantined": 1}
        store.set_privacy_state("u", PrivacyState(forgotten=EVENING + timedelta(minutes=2)))
        assert store.traces("u") == store.forget("u") == gone
        assert store.append([interaction("late", minute=2)]) == AppendResult(0, 0, 1)
        store.append_impressions([replace(shown, request_id="r3")])
        assert store.traces("u") == store.forget("u") == dict.fromkeys(gone, 0)
        assert (
            store.impression("r1"),
            store.user_events("u", EVENING - timedelta(days=1), 9).interactions,
        ) == (
            None,
            [],
        )
        assert store.counts() == gone
        assert store.append([interaction("back again", minute=3)]) == AppendResult(1, 0)
        other = self.open(tmp_path)
        assert other.traces("u") == {"interactions": 1, "impressions": 0, "quarantined": 0}
        other.close()

    def test_a_privacy_state_is_stored_under_a_digest_and_seen_by_all(
        self, store: EventStore, tmp_path: Path
    ) -> None:
        assert store.privacy_state("小明") == PrivacyState()
        decided = PrivacyState(forgotten=EVENING.replace(microsecond=7), opted_out=True)
        store.set_privacy_state("小明", PrivacyState(opted_out=True))
        store.set_privacy_state("小明", decided)
        other = self.open(tmp_path)
        assert other.privacy_state("小明") == decided
        assert other.privacy_states() == {store.digest("小明"): decided}
        assert other.digest("小明") == store.digest("小明") != store.digest("u")
        assert pickle.loads(pickle.dumps(store.hasher()))("小明") == store.digest("小明")
        other.close()

    def test_who_opted_out_leaves_nothing(self, store: EventStore) -> None:
        store.set_privacy_state("u", PrivacyState(opted_out=True))
        assert store.append([interaction("e1"), interaction("e2", user_id="v")]) == AppendResult(
            1, 0, 1
        )
        store.append_impressions(
            [
                Impression(
                    request_id="r1",
                    time=EVENING,
                    release="v7",
                    surface="home",
                    item_ids=("b",),
                    user_id="u",
                )
            ]
        )
        assert store.counts() == {"interactions": 1, "impressions": 0, "quarantined": 0}
        store.set_privacy_state("u", PrivacyState())
        assert store.append([interaction("e1")]) == AppendResult(1, 0)

    def test_every_opener_and_thread_sees_what_was_appended(
        self, store: EventStore, tmp_path: Path
    ) -> None:
        with ThreadPoolExecutor(4) as pool:
            appended = list(
                pool.map(lambda n: store.append([interaction(f"e{n % 50}")]), range(100))
            )
        assert sum(each.accepted for each in appended) == 50
        other = self.open(tmp_path)
        assert other.counts()["interactions"] == 50
        other.append([interaction("from another")])
        assert store.counts()["interactions"] == 51
        other.close()


class DatasetAdapterContract:
    """What every `DatasetAdapter` gives; `make` makes one with at least one item and one event."""

    def make(self, folder: Path) -> DatasetAdapter:
        raise NotImplementedError

    @pytest.fixture
    def adapter(self, tmp_path: Path) -> DatasetAdapter:
        return self.make(tmp_path)

    def test_chunks_are_read_row_for_row(self, adapter: DatasetAdapter) -> None:
        for chunks, read in self._tables(adapter):
            assert chunks
            assert [read(chunk).num_rows for chunk in chunks] == [chunk.rows for chunk in chunks]
            assert min(chunk.rows for chunk in chunks) > 0

    def test_chunks_of_a_file_lie_end_to_end(self, adapter: DatasetAdapter) -> None:
        for chunks, _ in self._tables(adapter):
            stops = dict.fromkeys((chunk.path for chunk in chunks), 0)
            for chunk in chunks:
                assert chunk.start == stops[chunk.path]
                stops[chunk.path] += chunk.rows

    def test_columns_are_canonical_and_the_required_ones_are_there(
        self, adapter: DatasetAdapter
    ) -> None:
        for (chunks, read), schema, required in zip(
            self._tables(adapter), (ITEMS_RAW, EVENTS_RAW), REQUIRED.values(), strict=True
        ):
            names = read(chunks[0]).column_names
            assert set(names) - {LINE} <= set(schema.names)
            assert set(required) <= set(names)

    def test_an_adapter_that_dates_its_items_names_their_chunks(
        self, adapter: DatasetAdapter
    ) -> None:
        if isinstance(adapter, DatedAdapter):
            times = adapter.item_times()
            assert {chunk.path for chunk in adapter.item_chunks()} <= set(times)
            assert all(time.tzinfo for time in times.values())

    def test_a_copy_in_another_process_reads_the_same(self, adapter: DatasetAdapter) -> None:
        copy = pickle.loads(pickle.dumps(adapter))
        assert copy.item_chunks() == adapter.item_chunks()
        chunk = adapter.event_chunks()[-1]
        assert copy.read_events(chunk).equals(adapter.read_events(chunk))

    def test_most_rows_are_good(self, adapter: DatasetAdapter) -> None:
        chunk = adapter.item_chunks()[0]
        assert (
            check_items(adapter.read_items(chunk), chunk.path, chunk.start).good.num_rows
            > chunk.rows / 2
        )
        chunk = adapter.event_chunks()[0]
        events = check_events(
            adapter.read_events(chunk), chunk.path, chunk.start, datetime.now(UTC)
        )
        assert events.good.num_rows > chunk.rows / 2

    def _tables(
        self, adapter: DatasetAdapter
    ) -> list[tuple[list[Chunk], Callable[[Chunk], pa.Table]]]:
        return [
            (adapter.item_chunks(), adapter.read_items),
            (adapter.event_chunks(), adapter.read_events),
        ]


def shoppers(users: int = 7, items: int = 60, seed: int = 0) -> Histories:
    """Random histories of 2 to 14 events, all kinds of them, on distinct days."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(2, 15, users))])
    rows, days = random.integers(0, items, offsets[-1]), np.arange(offsets[-1]) / 3
    return Histories(
        offsets=offsets,
        items=rows.astype(np.int32),
        types=random.integers(0, PURCHASE + 1, len(rows)).astype(np.int8),
        days=days,
    )


def answers(candidates: Candidates) -> list[list[int]]:
    """Each request's rows, its pads checked and taken off."""
    pads_BN = candidates.rows_BN < 0
    assert candidates.rows_BN.dtype == np.int32
    assert (candidates.scores_BN[pads_BN] == -np.inf).all()
    assert not (np.diff(pads_BN.astype(int), axis=1) < 0).any(), "pads stand last"
    return [rows[rows >= 0].tolist() for rows in candidates.rows_BN]


class RetrieverContract:
    """Over ITEMS items; `make` gives a source that knows them all. Override `requests` for texts or
    vectors."""

    ITEMS = 60

    def make(self) -> Retriever:
        raise NotImplementedError

    def requests(self) -> Requests:
        histories = shoppers(items=self.ITEMS)
        return Requests(size=len(histories), histories=histories)

    def one(self, requests: Requests, at: int) -> Requests:
        texts, vectors_BD, known = requests.texts, requests.vectors_BD, requests.histories
        return Requests(
            size=1,
            texts=texts[at : at + 1] if texts is not None else None,
            vectors_BD=vectors_BD[at : at + 1] if vectors_BD is not None else None,
            histories=known.slice(at, at + 1) if known is not None else None,
        )

    def matches(self, requests: Requests) -> list[set[int]]:
        """What each request may be given: all that it did not buy."""
        return [set(range(self.ITEMS)) - bought for bought in self.bought(requests)]

    def bought(self, requests: Requests) -> list[set[int]]:
        if requests.histories is None:
            return [set() for _ in range(requests.size)]
        offsets, rows = requests.histories.bought()
        return [set(rows[low:high].tolist()) for low, high in pairwise(offsets)]

    @pytest.mark.parametrize("k", [1, 5, 100])
    def test_the_k_best_without_what_was_bought(self, k: int) -> None:
        source, requests = self.make(), self.requests()
        found = source.retrieve(requests, k)
        assert found.source == source.source
        assert (found.scores_BN[:, 1:] <= found.scores_BN[:, :-1]).all(), "best first"
        for rows, matches in zip(answers(found), self.matches(requests), strict=True):
            assert set(rows) <= matches
            assert len(rows) == len(set(rows)) == min(k, len(matches))

    @pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
    def test_the_filter_is_inside(self, share: float) -> None:
        allowed = np.random.default_rng(1).random(self.ITEMS) < share
        requests = self.requests()
        for rows, matches in zip(
            answers(self.make().retrieve(requests, 6, allowed)), self.matches(requests), strict=True
        ):
            fitting = matches & set(np.flatnonzero(allowed).tolist())
            assert set(rows) <= fitting
            assert len(rows) == min(6, len(fitting))

    def test_a_block_is_its_requests(self) -> None:
        source, requests = self.make(), self.requests()
        together = source.retrieve(requests, 5)
        alone = [source.retrieve(self.one(requests, at), 5) for at in range(requests.size)]
        assert answers(together) == [answers(single)[0] for single in alone]
        for scores, single in zip(together.scores_BN, alone, strict=True):
            width = single.scores_BN.shape[1]
            np.testing.assert_allclose(scores[:width], single.scores_BN[0], rtol=1e-5)

    @pytest.mark.parametrize("k", [0, -1])
    def test_k_is_at_least_one(self, k: int) -> None:
        with pytest.raises(ValueError, match=f"k is {k}"):
            self.make().retrieve(self.requests(), k)


class ScorerContract(RetrieverContract):
    """Of a source that can also score any row."""

    def test_scores_a_row_as_it_retrieves_it(self) -> None:
        source, requests = self.make(), self.requests()
        assert isinstance(source, Scorer)
        found = source.retrieve(requests, 20)
        scores_BN = source.score(requests, found.rows_BN)
        known_BN = found.rows_BN >= 0
        np.testing.assert_allclose(scores_BN[known_BN], found.scores_BN[known_BN], rtol=1e-5)


class RankerContract:
    """What every `Ranker` does, whatever its features are."""

    def make(self) -> Ranker:
        raise NotImplementedError

    def features(self, requests: int = 3, candidates: int = 7) -> Floats:
        size = requests, candidates, len(self.make().feature_names)
        return np.random.default_rng(0).normal(size=size).astype(np.float32)

    def test_one_number_a_candidate(self) -> None:
        for size in ((3, 7), (1, 1), (2, 0), (0, 4)):
            scores_BN = self.make().score(self.features(*size))
            assert (scores_BN.shape, scores_BN.dtype) == (size, np.float32)
            assert np.isfinite(scores_BN).all()

    def test_other_requests_do_not_matter(self) -> None:
        ranker, features_BNF = self.make(), self.features()
        alone = [ranker.score(features_BNF[at : at + 1]) for at in range(3)]
        np.testing.assert_allclose(
            ranker.score(features_BNF), np.concatenate(alone), rtol=1e-5, atol=1e-5
        )

    def test_the_order_of_candidates_does_not_matter(self) -> None:
        ranker, features_BNF = self.make(), self.features()
        turned = ranker.score(np.ascontiguousarray(features_BNF[:, ::-1]))
        np.testing.assert_allclose(
            ranker.score(features_BNF), turned[:, ::-1], rtol=1e-5, atol=1e-5
        )

    def test_features_of_another_ranker_are_refused(self) -> None:
        wrong = len(self.make().feature_names) + 1
        with pytest.raises((ValueError, InputError), match=f"{wrong} features came"):
            self.make().score(np.zeros((1, 1, wrong), np.float32))


class ExplainedContract(RankerContract):
    """Of a ranker that can say what each feature did, and scores every item by itself."""

    def make(self) -> Any:
        raise NotImplementedError

    def test_contributions_make_the_score(self) -> None:
        ranker = self.make()
        assert isinstance(ranker, ExplainableRanker)
        for size in ((3, 7), (1, 1), (2, 0)):
            told_BNF = ranker.contributions(self.features(*size))
            assert told_BNF.dtype == np.float32
            assert told_BNF.shape == (*size, len(ranker.feature_names) + 1)
            np.testing.assert_allclose(
                told_BNF.sum(axis=2), ranker.score(self.features(*size)), rtol=1e-4, atol=1e-4
            )

    def test_neighbours_do_not_matter(self) -> None:
        ranker, features_BNF = self.make(), self.features()
        alone = [ranker.score(features_BNF[:, at : at + 1]) for at in range(features_BNF.shape[1])]
        np.testing.assert_allclose(
            ranker.score(features_BNF), np.concatenate(alone, axis=1), rtol=1e-5, atol=1e-5
        )
