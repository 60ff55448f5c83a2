"""API keys: their file, and the command that makes them."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import InputError
from serve import keys
from serve.access import KeyAccess
from serve.keys import ApiKey
from serve.routes.api import build_api
from tests.fake_shop import FakeShop

BAD_KEYS: list[dict[str, Any]] = [
    {"client": ""},
    {"client": "a b"},
    {"client": None},
    {"sha256": "x"},
    {"roles": ()},
    {"roles": ("root",)},
    {"rate": 0},
    {"rate": True},
    {"rate": float("nan")},
    {"rate": "fast"},
    {"not_after": "tomorrow"},
    {"not_after": "2026-01-01"},
    {"not_after": 5},
]


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_a_key_that_cannot_be_meant_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"give|anew"):
        ApiKey(**{"client": "web", "sha256": "0" * 64, "roles": ("read",), **bad})


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_no_file_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    for body in (
        content,
        {"keys": content},
        {"keys": [{"client": content, "sha256": content, "roles": content}]},
    ):
        path.write_text(json.dumps(body))
        try:
            keys.read_keys(path)
        except InputError:
            continue
        assert body in ({"keys": []}, {"keys": {}}, {"keys": ""})


def command(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "jobs.make_key", "--file", str(path), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_makes_lists_rotates_and_revokes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"

    def statuses(*secrets: str) -> list[int]:
        client = TestClient(build_api(FakeShop(), KeyAccess(path)))
        headers = [{"X-API-Key": secret} for secret in secrets]
        return [client.get("/recommend", headers=each).status_code for each in headers]

    first = command(path, "--client", "web", "--roles", "read", "events", "--rate", "50")
    key = first.stdout.strip()
    assert len(key) == 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in path.read_text()
    assert [path.name] == [each.name for each in path.parent.iterdir()]
    assert statuses(key) == [200]
    second = command(path, "--client", "web", "--old-until", "2020-01-01T00:00:00Z").stdout.strip()
    assert statuses(key, second) == [401, 200]
    listing = command(path, "--list").stdout
    assert "read,events" in listing
    assert "50/s" in listing
    assert command(path, "--client", "nobody", "--revoke", "").returncode == 1
    assert command(path, "--client", "web", "--revoke", "").returncode == 0
    assert statuses(second) == [401]
    refusal = command(path, "--client", "a b")
    assert (refusal.returncode, "give 1 to 64" in refusal.stderr) == (1, True)


def test_a_secret_has_256_bits_and_only_its_sha_256_is_stored() -> None:
    secret, key = keys.create_key("web", ["read"], 5)
    assert len(secret) == 43
    assert secret not in repr(key)
    assert keys.hash_secret("a").startswith("ca978112ca1bbdca")
    assert key == ApiKey(client="web", sha256=keys.hash_secret(secret), roles=("read",), rate=5)


def test_revoking_and_expiring_concern_one_client_alone() -> None:
    first, second, other = (
        keys.create_key(client, ["read"], 1, not_after)[1]
        for client, not_after in (
            ("web", None),
            ("web", "2026-06-01T00:00:00Z"),
            ("app", None),
        )
    )
    everybody = [first, second, other]
    assert keys.revoke_keys(everybody, "web", first.sha256[:12]) == [second, other]
    assert keys.revoke_keys(everybody, "web") == [other]
    with pytest.raises(InputError, match="no key of web begins with 'x'"):
        keys.revoke_keys(everybody, "web", "x")
    expired = keys.expire_keys(everybody, "web", "2026-12-01T00:00:00Z")
    ends = ["2026-12-01T00:00:00Z", "2026-06-01T00:00:00Z", None]
    assert [key.not_after for key in expired] == ends
