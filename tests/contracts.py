"""One class of tests per seam; every implementation inherits it."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pyarrow as pa
import pytest

from recsys.artifacts import ArtifactStore
from recsys.errors import InputError, NotFoundError, ReleaseError


def publish_release(store: ArtifactStore, version: str) -> None:
    """Three files and a manifest with their checksums, as a night does it."""
    paths = [f"releases/{version}/part-{number}" for number in range(3)]
    sums = {path: store.write(path, f"{path} of {version} ".encode() * 500) for path in paths}
    store.publish(version, json.dumps({"version": version, "files": sums}).encode())


def is_whole(store: ArtifactStore, version: str) -> bool:
    manifest = json.loads(store.read(f"releases/{version}/manifest.json"))
    sums = manifest["files"]
    return manifest["version"] == version and len(sums) == 3 and all(store.sha256(path) == sums[path] for path in sums)


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
        sums = {name: store.write(f"releases/v1/index/{name}", name.encode()) for name in ("a", "sub/b")}
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

    @pytest.mark.parametrize("path", ["", "/etc/passwd", "..", "a/../../b", "a/./b", "a//b", "a/", "a\\b", "a\0b"])
    def test_a_path_stays_inside(self, path: str) -> None:
        store = self.make()
        for touch in (store.read, store.exists, store.size, store.sha256, store.files, store.delete):
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

    def test_a_crash_before_the_manifest_leaves_current_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
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
