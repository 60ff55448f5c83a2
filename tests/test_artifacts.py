"""The artifact store on a disk and on a server that speaks S3."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from recsys.errors import InputError, ReleaseError
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.files import below
from tests.contracts import ArtifactStoreContract


class TestOnDisk(ArtifactStoreContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.uri = str(tmp_path / "store")

    def make(self, cache: str | None = None) -> ArtifactStore:
        return ArtifactStore(self.uri, cache)

    def test_local_is_the_file_itself(self, tmp_path: Path) -> None:
        checksum = self.make().write("releases/v1/a", b"x")
        assert self.make().local("releases/v1/a", checksum) == tmp_path / "store/releases/v1/a"

    def test_nothing_unfinished_stays(self, tmp_path: Path) -> None:
        self.make().write("work/a", b"x")
        (tmp_path / "store/work/.unfinished-0").write_bytes(b"kill -9 left this")
        assert self.make().files("work") == ["work/a"]
        assert sorted(path.name for path in (tmp_path / "store/work").iterdir()) == [
            ".unfinished-0",
            "a",
        ]

    def test_a_relative_folder_survives_a_change_of_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        store = ArtifactStore("here")
        store.write("work/a", b"x")
        monkeypatch.chdir("/")
        assert store.read("work/a") == b"x"

    def test_a_file_uri_is_the_same_folder(self) -> None:
        self.make().write("work/a", b"x")
        assert ArtifactStore(f"file://{self.uri}").read("work/a") == b"x"


class TestOnS3(ArtifactStoreContract):
    @pytest.fixture(autouse=True)
    def prefix(self, s3: str) -> None:
        where = (
            f"shop/{uuid.uuid4().hex}?endpoint_override={quote(s3)}&scheme=http&region=us-east-1"
        )
        self.uri = f"s3://test:test@{where}"

    def make(self, cache: str | None = None) -> ArtifactStore:
        return ArtifactStore(self.uri, cache)

    def test_the_node_keeps_one_copy_named_by_checksum(self, tmp_path: Path) -> None:
        store = self.make(str(tmp_path))
        checksum = store.write("releases/v1/a", b"x")
        assert store.local("releases/v1/a", checksum) == tmp_path / checksum
        store.delete("releases/v1")
        assert store.local("releases/v1/a", checksum).read_bytes() == b"x"

    def test_many_may_fetch_at_once(self, tmp_path: Path) -> None:
        checksum = self.make().write("releases/v1/a", b"x" * 500_000)
        with ThreadPoolExecutor(8) as pool:
            copies = set(
                pool.map(
                    lambda _: self.make(str(tmp_path)).local("releases/v1/a", checksum), range(16)
                )
            )
        assert copies == set(tmp_path.iterdir()) == {tmp_path / checksum}
        assert (tmp_path / checksum).read_bytes() == b"x" * 500_000

    def test_a_damaged_file_is_not_kept(self, tmp_path: Path) -> None:
        store = self.make(str(tmp_path))
        store.write("releases/v1/a", b"x")
        with pytest.raises(ReleaseError, match=r"releases/v1/a in .* is damaged"):
            store.local("releases/v1/a", "0" * 64)
        assert list(tmp_path.iterdir()) == []

    def test_a_checksum_cannot_name_another_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is not a SHA-256"):
            self.make(str(tmp_path)).local("releases/v1/a", "../../x")


def test_a_file_system_without_whole_writes_is_refused() -> None:
    with pytest.raises(InputError, match="half written"):
        ArtifactStore("mock://").read("a")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/srv/shop", "/srv/shop/models"),
        ("/srv/what?/", "/srv/what?/models"),
        ("file:///srv/shop", "file:///srv/shop/models"),
        ("s3://bucket/shop?region=eu-central-1", "s3://bucket/shop/models?region=eu-central-1"),
    ],
)
def test_a_folder_below_keeps_the_settings_of_its_uri(uri: str, expected: str) -> None:
    assert below(uri, "models") == expected
