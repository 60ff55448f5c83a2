"""The application on a real local Ray, over real HTTP and a real store."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient

from recsys.config import Setup
from recsys.errors import InputError
from recsys.release.release import Release
from recsys.simulation.load import LoadGenerator, LoadShape, in_background, summarize
from recsys.simulation.traffic import Traffic
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Filters, Query, Vectors
from serve.routes.api import build_api
from serve.routes.shop import NotReadyError
from tests.checkerboard import ITEMS, setup, title

PORT = 8123
URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def home(shop_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of this test's own, with both releases; `current` names the second."""
    shutil.copytree(shop_home, tmp_path / "home")
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NIGHTSHELF_EVENTS", raising=False)
    return tmp_path / "home"


def eventually(check: Callable[[], bool], seconds: float = 15) -> None:
    """Every replica follows the pointer in its own time."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, f"not so after {seconds} s"
        time.sleep(0.05)


def of_other_space(home: Path, version: str = "2026-01-09") -> str:
    """A release that is whole, but for another encoder."""
    store = ArtifactStore(str(home))
    last = store.versions()[-1]
    shutil.copytree(home / "releases" / last, home / "releases" / version)
    manifest = json.loads(store.read(f"releases/{last}/manifest.json")) | {
        "version": version,
        "space": "other-8",
    }
    store.write(f"releases/{version}/manifest.json", json.dumps(manifest).encode())
    return version


# In this process, without Serve


@pytest.fixture
def make_shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """ShopReplicas that are closed when the test ends."""
    from serve.replicas import ShopReplica

    made: list[ShopReplica] = []

    def make() -> ShopReplica:
        made.append(ShopReplica(setup()))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


@pytest.mark.ray
def test_what_is_damaged_is_refused_once_and_the_old_release_goes_on(
    home: Path, make_shop: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    store, shop = ArtifactStore(str(home)), make_shop()
    first, second = store.versions()
    assert shop.health().release == second
    vectors = home / "releases" / first / "item_vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-4] + b"\0\0\0\1")
    store.point(first)
    eventually(lambda: first in shop.health().refused)
    time.sleep(3 * shop.day.refresh_s)
    assert shop.health().release == second
    assert "damaged" in shop.health().refused[first]
    assert sum("is refused" in record.message for record in caplog.records) == 1


@pytest.mark.ray
def test_promote_swaps_here_at_once_or_changes_nothing(
    home: Path, make_shop: Callable[[], Any]
) -> None:
    store, shop = ArtifactStore(str(home)), make_shop()
    first, second = store.versions()
    client = TestClient(build_api(shop))
    assert client.post(f"/releases/{of_other_space(home)}/promote").status_code == 409
    assert client.post("/releases/2001-01-01/promote").status_code == 404
    assert (store.current(), client.get("/recommend").json()["release"]) == (second, second)
    assert client.post(f"/releases/{first}/promote").status_code == 200
    assert (store.current(), client.get("/recommend").json()["release"]) == (first, first)


@pytest.mark.ray
def test_a_shop_opens_before_the_first_night_and_finds_its_release(
    home: Path, make_shop: Callable[[], Any]
) -> None:
    store = ArtifactStore(str(home))
    (home / "current").unlink()
    shop = make_shop()
    assert shop.health().release is None
    store.point(store.versions()[0])
    eventually(lambda: shop.health().release == store.versions()[0])


@pytest.mark.ray
def test_an_answer_leaves_its_impression(home: Path, make_shop: Callable[[], Any]) -> None:
    shop = make_shop()
    ranking = asyncio.run(
        shop.recommend(Query(request_id="r1", k=3, user_id="u03", filters=Filters()))
    )
    assert {"history", "answer"} <= set(ranking.stages_ms)
    eventually(lambda: shop.events.counts()["impressions"] == 1)
    shown = next(shop.events.impressions())
    assert (shown.request_id, shown.surface, shown.user_id) == ("r1", "recommend", "u03")
    assert shown.item_ids == tuple(item.item.item_id for item in ranking.items)


@dataclass
class OtherEncoder:
    """The handle of an Encoder deployment that a rolling update has replaced already."""

    @property
    def encode(self) -> Any:
        return self

    async def remote(self, text: str) -> Vectors:
        return Vectors((text,), np.ones((1, 64), np.float32), "other-64")


@pytest.mark.ray
def test_a_vector_of_another_space_is_never_searched_with(home: Path) -> None:
    from serve.replicas import ShopReplica

    shop = ShopReplica(setup(), OtherEncoder())
    with pytest.raises(NotReadyError, match="other-64"):
        asyncio.run(shop.search(Query(request_id="r1", text="red chair")))
    shop.close()


@dataclass
class ShopsEncoder:
    """The handle of an Encoder deployment that remembers what it was asked."""

    asked: list[str] = field(default_factory=list)

    @property
    def encode(self) -> Any:
        return self

    async def remote(self, text: str) -> Vectors:
        self.asked.append(text)
        encoder = setup().encoder()
        return Vectors((text,), encoder.encode_queries([text]), encoder.space)


@pytest.mark.ray
def test_an_interest_is_encoded_as_a_search_is(home: Path) -> None:
    from serve.replicas import ShopReplica

    encoder = ShopsEncoder()
    shop = ShopReplica(setup(), encoder)
    told = asyncio.run(
        shop.recommend(
            Query(request_id="r1", k=2, user_id="nobody", interest="Blue LAPM under $90")
        )
    )
    untold = asyncio.run(shop.recommend(Query(request_id="r2", k=2, user_id="nobody")))
    assert encoder.asked == ["blue lamp"]
    assert told.items[0].item.title == "blue lamp" != untold.items[0].item.title
    assert {"understand", "encode", "interest", "answer"} <= set(told.stages_ms)
    assert "encode" not in untold.stages_ms
    shop.close()


def test_build_takes_a_setup_and_nothing_else() -> None:
    from serve.app import build

    with pytest.raises(InputError, match="replicas is unknown"):
        build({"replicas": "3"})
    with pytest.raises(InputError, match="nowhere"):
        build({"setup": "nowhere"})


def test_config_has_no_key_that_serve_would_ignore() -> None:
    from ray.serve.schema import (
        HTTPOptionsSchema,
        LoggingConfig,
        ServeApplicationSchema,
        ServeDeploySchema,
    )

    config = yaml.safe_load((Path(__file__).parents[1] / "serve" / "config.yaml").read_text())
    (application,) = config["applications"]
    assert set(config) <= set(ServeDeploySchema.model_fields)
    assert set(config["http_options"]) <= set(HTTPOptionsSchema.model_fields)
    assert set(config["logging_config"]) <= set(LoggingConfig.model_fields)
    assert set(application) <= set(ServeApplicationSchema.model_fields)
    assert application["import_path"] == "serve.app:build"
    assert application["args"] == {"setup": "tiny", "http_host": config["http_options"]["host"]}
    ServeDeploySchema.model_validate(config)


# On Ray, over HTTP


@pytest.fixture
def run(home: Path, ray_session: None) -> Iterator[Callable[..., Setup]]:
    """Starts the application in a layout; it is gone when the test ends."""
    from ray import serve

    from serve.app import compose

    def start(layout: Literal["fused", "split"], **day: Any) -> Setup:
        made = setup()
        made = replace(made, day=replace(made.day, layout=layout, **day))
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        serve.run(compose(made), name="shop", route_prefix="/")
        return made

    yield start
    serve.delete("shop")


def get(path: str, **parameters: Any) -> Any:
    response = httpx.get(f"{URL}{path}", params=parameters, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


@pytest.mark.ray
def test_split_layout_answers(run: Callable[..., Setup]) -> None:
    run("split", replicas=1)
    assert ids(get("/search", q="red chair"))[0] == "i00"
    assert get("/healthz")["space"] == setup().encoder().space


@pytest.mark.ray
def test_a_queue_calls_for_another_replica(run: Callable[..., Setup], home: Path) -> None:
    from ray import serve

    run("fused", replicas=1, max_replicas=2, target_ongoing=1.0)
    traffic = Traffic.of(Release.open(ArtifactStore(str(home))), items=16)

    def replicas() -> int:
        return (
            serve.status().applications["shop"].deployments["Shop"].replica_states.get("RUNNING", 0)
        )

    assert replicas() == 1
    with in_background(LoadGenerator(URL, traffic.calls(), LoadShape(clients=8))) as load:
        eventually(lambda: replicas() == 2, 60)
    assert summarize(load.results).failed == 0


@pytest.mark.ray
def test_fused_layout_from_first_answer_to_refused_release(
    run: Callable[..., Setup], home: Path
) -> None:
    """One application for all of it: starting one takes longer than the checks."""
    started = run("fused")
    answers()
    a_search_with_everything()
    batched_searches_get_their_own_answers()
    events_reach_the_other_replica(started)
    pointing_swaps_without_a_failed_request(home)
    another_space_is_refused(home)


def answers() -> None:
    assert ids(get("/search", q="blue lamp"))[0] == "i05"
    assert len(ids(get("/recommend", user_id="u03", k=3))) == 3
    item = get("/items/i03")["item"]
    assert (item["title"], item["group_id"], item["added"][:10]) == (
        title(3),
        "table",
        "2025-12-30",
    )
    several = get(
        "/search",
        q="red chair",
        brand=["acme", "globex"],
        category=["home / chair", "home / vase"],
        facets=1,
    )
    assert set(ids(several)) == {"i00", "i01", "i12", "i13"}
    assert {
        "query",
        "total",
        "next_offset",
        "no_good_match",
        "relaxed",
        "skipped",
        "facets",
    } <= set(several)
    assert [each["text"] for each in get("/suggest", q="Red ch", k=3)["suggestions"]] == [
        "red chair"
    ]
    assert get("/similar/i03", k=2)["items"]
    bad = httpx.get(f"{URL}/search", params={"q": " "})
    assert (bad.status_code, bad.json()["error"]["field"]) == (422, "q")
    assert len(bad.headers.get_list("x-request-id")) == 1
    assert httpx.post(f"{URL}/releases/v/promote").status_code == 404
    passed_on = {"X-Forwarded-For": "127.0.0.1"}  # without keys only this machine itself is let in
    assert httpx.post(f"{URL}/releases/v/promote", headers=passed_on).status_code == 403


def a_search_with_everything() -> None:
    """All 16 items are near; of acme's, dearest first and one of each product, the second and
    third."""
    asked = {
        "q": "Red CHIAR under $17.50",
        "brand": "acme",
        "sort": "-price",
        "collapse": "true",
        "facets": "true",
    }
    found = get("/search", **asked, offset=1, k=2, user_id="u02")
    assert ids(found) == ["i05", "i03"]
    assert (found["total"], found["next_offset"], found["no_good_match"], found["skipped"]) == (
        4,
        3,
        False,
        [],
    )
    assert found["query"]["corrections"] == [{"typed": "chiar", "taken_for": "chair"}]
    assert (found["query"]["normalised"], found["query"]["facts"]) == (
        "red chair",
        {"max_price": 17.5, "colour": "red"},
    )
    assert found["facets"]["brand"] == [{"value": "acme", "count": 8, "selected": True}]
    assert found["facets"]["category"][0] == {"value": "home", "count": 8, "selected": False}
    assert {"value": "0-17.5", "count": 8, "selected": True} in found["facets"]["price"]
    last = get("/search", **asked, offset=found["next_offset"], k=2)
    assert (ids(last), last["total"], last["next_offset"]) == (["i01"], 4, None)
    best = get("/search", q="red chair", k=1)["items"][0]
    assert [best["title"][start:end] for start, end in best["highlights"]] == ["red chair"]
    assert best["sources"].keys() <= {"lexical", "dense"}
    nothing = get("/search", q="xqzvkj", facets=True)
    assert (nothing["items"], nothing["total"], nothing["no_good_match"]) == ([], 0, True)
    bad = httpx.get(f"{URL}/search", params={**asked, "sort": "best"})
    assert (bad.status_code, bad.json()["error"]["field"]) == (422, "sort")


def batched_searches_get_their_own_answers() -> None:
    with ThreadPoolExecutor(8) as clients:
        found = clients.map(lambda item: ids(get("/search", q=title(item), k=1)), range(ITEMS))
    assert list(found) == [[f"i{item:02d}"] for item in range(ITEMS)]


def events_reach_the_other_replica(started: Setup) -> None:
    """u03 buys what was recommended: no replica may recommend it again, whichever took the
    event."""
    assert started.day.replicas == 2
    (first,) = ids(get("/recommend", user_id="u03", k=1))
    bought = {"event_id": "b1", "user_id": "u03", "item_id": first, "type": "purchase"}
    posted = httpx.post(
        f"{URL}/events", json=[bought, {**bought, "event_id": "b2", "item_id": "gone"}]
    ).json()
    assert (posted["accepted"], posted["quarantined"]) == (1, 1)
    assert httpx.post(f"{URL}/events", json=bought).json()["duplicates"] == 1
    for _ in range(20):
        assert first not in ids(get("/recommend", user_id="u03", k=5))


def pointing_swaps_without_a_failed_request(home: Path) -> None:
    store, stop, seen, failed = ArtifactStore(str(home)), threading.Event(), [], []

    def loop() -> None:
        with httpx.Client(base_url=URL, timeout=30) as client:
            while not stop.is_set():
                response = client.get("/search", params={"q": "red chair", "user_id": "u02"})
                (seen if response.status_code == 200 else failed).append(
                    response.json().get("release")
                )

    client = threading.Thread(target=loop)
    client.start()
    first, second = store.versions()
    store.point(first)
    eventually(lambda: seen[-20:] == [first] * 20)
    store.point(second)
    eventually(lambda: seen[-20:] == [second] * 20)
    stop.set()
    client.join()
    assert not failed
    assert set(seen) == {first, second}


def another_space_is_refused(home: Path) -> None:
    live, wrong = get("/healthz")["release"], of_other_space(home)
    ArtifactStore(str(home)).point(wrong)
    eventually(lambda: all(wrong in get("/healthz")["refused"] for _ in range(10)))
    health = get("/healthz")
    assert health["release"] == live
    assert "space 'other-8'" in health["refused"][wrong]
    assert get("/recommend", user_id="u02")["release"] == live
    assert next(r for r in get("/releases")["releases"] if r["version"] == wrong)["current"]
