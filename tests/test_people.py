"""What people decide, over HTTP: felt on every replica at once, and no request fails for it."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from recsys.privacy.forget import erase_users, forget_user
from recsys.privacy.receipts import open_receipt
from recsys.privacy.traces import find_traces
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Interaction
from serve import keys
from serve.access import KeyAccess
from serve.routes.api import build_api
from tests.checkerboard import setup
from tests.fake_shop import FakeShop
from tests.serving import eventually
from tests.test_privacy import NOW as LATER
from tests.test_privacy import home  # noqa: F401

TOKEN = {"Authorization": "Bearer open sesame"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/users/u1"),
        ("PUT", "/users/u1/opt-out"),
        ("DELETE", "/users/u1/opt-out"),
        ("GET", "/receipts/token"),
    ],
)
def test_only_administrators_decide(method: str, path: str, tmp_path: Path) -> None:
    shop = FakeShop()
    secrets = {"web": ("guess", ("read", "events")), "us": ("open sesame", ("admin",))}
    api_keys = [
        keys.ApiKey(client=client, sha256=keys.hash_secret(secret), roles=roles)
        for client, (secret, roles) in secrets.items()
    ]
    keys.write_keys(tmp_path / "keys.json", api_keys)
    client = TestClient(build_api(shop, KeyAccess(tmp_path / "keys.json")))
    assert client.request(method, path).status_code == 401
    assert (
        client.request(method, path, headers={"Authorization": "Bearer guess"}).status_code == 403
    )
    assert client.request(method, f"{path}?why=1", headers=TOKEN).status_code == 422
    assert shop.privacy_requests == []


def test_a_receipt_tells_when_and_what_is_left_and_not_who() -> None:
    shop = FakeShop()
    client = TestClient(build_api(shop), headers=TOKEN)
    response = client.delete("/users/a/b 小明")
    receipt = response.json()
    assert (response.status_code, receipt["receipt"], receipt["done"]) == (202, "token", False)
    assert receipt["left"] == {"releases/v1/users.arrow": 1}
    seen = client.get("/receipts/token").json()
    assert (seen["left"], seen["done"], seen["forgotten"]) == ({}, True, receipt["forgotten"])
    assert client.get("/receipts/other").status_code == 404
    assert client.put("/users/a/b/opt-out").json()["opted_out"] is True
    assert client.delete("/users/a/b/opt-out").json()["opted_out"] is False
    assert client.delete("/users/%20").status_code == 422
    assert shop.privacy_requests == [("forget", "a/b 小明"), ("out", "a/b"), ("in", "a/b")]


def test_global_privacy_control_makes_a_stranger() -> None:
    shop = FakeShop()
    client = TestClient(build_api(shop))
    for signal in ("1", "0"):
        client.get("/recommend", params={"user_id": "u1"}, headers={"Sec-GPC": signal})
    assert [query.user_id for query in shop.queries] == [None, "u1"]


@pytest.mark.ray
def test_what_was_written_during_the_deletion_goes_with_the_erasure(home: Path) -> None:
    """Another replica had read the privacy state before, and wrote after the deletion."""
    shop = setup()
    log = shop.event_store()
    log.append([Interaction(event_id="e4", user_id="u04", item_id="i01", type="click", time=LATER)])
    receipt = forget_user(shop, log, "u03", LATER)
    log.quarantine([("no such item", {"user_id": user, "item_id": "x"}) for user in ("u03", "u04")])
    erase_users(shop, log, ["u04"], grace_s=0)
    assert find_traces(shop, log, "u03", LATER)["log/quarantined"] == 1
    erase_users(shop, log, ["u03"], grace_s=0)
    assert find_traces(shop, log, *open_receipt(log, receipt.token)) == {}
    assert log.traces("u04") == {"interactions": 1, "impressions": 0, "quarantined": 1}
    log.close()


# Two replicas in this process, over one store and one log


@pytest.fixture
def replicas(home: Path) -> Iterator[list[Any]]:
    from serve.replicas import ShopReplica

    shops = [ShopReplica(setup()) for _ in range(2)]
    for shop in shops:
        shop.erasure.grace_s = 1.0
    yield shops
    for shop in shops:
        shop.close()


@pytest.fixture
def clients(replicas: list[Any]) -> list[TestClient]:
    return [TestClient(build_api(shop), headers=TOKEN) for shop in replicas]


def recommended(client: TestClient, user: str = "u03", k: int = 5) -> tuple[bool, list[str]]:
    answer = client.get("/recommend", params={"user_id": user, "k": k}).json()
    return answer["personalised"], [item["item_id"] for item in answer["items"]]


@pytest.mark.ray
def test_forgotten_on_one_replica_a_stranger_on_both_and_no_request_fails(
    clients: list[TestClient],
    replicas: list[Any],
    home: Path,
    request: pytest.FixtureRequest,
) -> None:
    one, other = clients
    assert recommended(other)[0]
    stop, failed, answered = threading.Event(), list[int](), list[str]()

    def ask() -> None:
        while not stop.wait(0.02):
            response = other.get("/recommend", params={"user_id": "u04"})
            answered.append(response.json().get("release", ""))
            if response.status_code != 200 or not response.json()["personalised"]:
                failed.append(response.status_code)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    request.addfinalizer(stop.set)
    receipt = one.delete("/users/u03").json()
    assert (receipt["done"], bool(receipt["left"])) == (False, True)
    assert [recommended(client)[0] for client in clients] == [False, False]
    stranger = recommended(other, "never seen")
    assert recommended(one)[1] == recommended(other)[1] == stranger[1]
    eventually(lambda: one.get(f"/receipts/{receipt['receipt']}").json()["done"])
    assert replicas[0].erasure.is_alive()
    assert other.get(f"/receipts/{receipt['receipt']}").json()["left"] == {}
    amended = Release.open(ArtifactStore(str(home))).manifest.amended
    assert amended
    eventually(
        lambda: all(shop.live.recommender.release.manifest.amended == amended for shop in replicas)
    )
    eventually(lambda: len(answered) > 20)
    stop.set()
    asking.join()
    assert not failed
    assert replicas[0].live.recommender.release.user_ids.row("u03") is None


@pytest.mark.ray
def test_what_another_replica_writes_just_after_is_deleted_when_the_grace_ends(
    clients: list[TestClient], replicas: list[Any]
) -> None:
    one, other = clients
    receipt = one.delete("/users/u03").json()
    eventually(
        lambda: bool(Release.open(ArtifactStore(replicas[0].live.setup.home)).manifest.amended)
    )
    replicas[1].events.quarantine([("no such item", {"user_id": "u03", "item_id": "x"})])
    eventually(lambda: other.get(f"/receipts/{receipt['receipt']}").json()["done"])
    assert replicas[1].events.traces("u03") == {
        "interactions": 0,
        "impressions": 0,
        "quarantined": 0,
    }


@pytest.mark.ray
def test_a_user_who_comes_back_is_known_by_what_they_do_then(clients: list[TestClient]) -> None:
    one, other = clients
    one.delete("/users/u03")
    now = datetime.now(UTC).isoformat()
    late = {"user_id": "u03", "item_id": "i01", "type": "click", "time": "2026-01-02T00:00:00Z"}
    assert other.post("/events", json=late).json()["dropped"] == 1
    assert (
        other.post("/events", json={**late, "time": now, "item_id": "i02"}).json()["accepted"] == 1
    )
    assert [recommended(client)[0] for client in clients] == [True, True]


@pytest.mark.ray
def test_who_opted_out_is_a_stranger_and_leaves_nothing(
    clients: list[TestClient], replicas: list[Any]
) -> None:
    one, other = clients
    log = replicas[0].events
    log.append(
        [
            Interaction(
                event_id="e1", user_id="u03", item_id="i00", type="click", time=datetime.now(UTC)
            )
        ]
    )
    one.put("/users/u03/opt-out")
    assert recommended(other) == recommended(one, "never seen")
    assert not other.get("/search", params={"q": "chair", "user_id": "u03"}).json()["personalised"]
    assert other.get("/similar/i03", params={"k": 2}).json()["items"]
    clicked = {"user_id": "u03", "item_id": "i01", "type": "click"}
    for item in ("i01", "no such item"):
        counts = other.post("/events", json={**clicked, "item_id": item}).json()
        assert (counts["accepted"], counts["quarantined"], counts["dropped"]) == (0, 0, 1)
    assert recommended(one, "u04")[0]
    eventually(lambda: log.counts()["impressions"] == 3)  # of u04, and those without a user
    time.sleep(0.3)
    assert [impression.user_id for impression in log.impressions()].count("u03") == 0
    assert log.counts() == {"interactions": 1, "impressions": 3, "quarantined": 0}
    other.delete("/users/u03/opt-out")
    assert recommended(one)[0]
    assert one.post("/events", json=clicked).json()["accepted"] == 1


@pytest.mark.ray
def test_an_amendment_that_failed_is_tried_again(
    clients: list[TestClient], monkeypatch: pytest.MonkeyPatch, replicas: list[Any]
) -> None:
    from serve import erasure

    erase: Callable[..., Any] = erase_users
    tries: list[int] = []

    def flaky(*arguments: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("the bucket is away")
        return erase(*arguments)

    monkeypatch.setattr(erasure, "RETRY_S", 0.1)
    monkeypatch.setattr(erasure, "erase_users", flaky)
    receipt = clients[0].delete("/users/u03").json()
    eventually(lambda: clients[0].get(f"/receipts/{receipt['receipt']}").json()["done"])
    assert len(tries) >= 2
    replicas[0].check_health()
