"""The application on a real local Ray, over real HTTP and a real store."""

# ruff: noqa: F811 (fixtures are imported, and named again as parameters)

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.config import Setup
from recsys.release.release import Release
from recsys.simulation.load import LoadGenerator, LoadShape, in_background, summarize
from recsys.simulation.traffic import Traffic
from recsys.storage.artifacts import ArtifactStore
from tests.checkerboard import ITEMS, setup, title
from tests.serving import URL, eventually, get, home, of_other_space, run  # noqa: F401


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
        q="red",
        brand=["acme", "globex"],
        category=["home / chair", "home / vase"],
        facets=1,
    )
    assert set(ids(several)) == {"i00", "i12"}
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
    """Four red products of acme's, dearest first and one of each product: the second and third."""
    request = {
        "q": "Red CHIAR table lamp shelf under $17.50",
        "brand": "acme",
        "sort": "-price",
        "collapse": "true",
        "facets": "true",
    }
    answer = get("/search", **request, offset=1, k=2, user_id="u02")
    assert ids(answer) == ["i04", "i02"]
    assert (answer["total"], answer["next_offset"], answer["no_good_match"], answer["skipped"]) == (
        4,
        3,
        False,
        [],
    )
    assert answer["query"]["corrections"] == [{"typed": "chiar", "taken_for": "chair"}]
    assert (answer["query"]["normalised"], answer["query"]["facts"]) == (
        "red chair table lamp shelf",
        {"max_price": 17.5, "colour": "red"},
    )
    assert answer["facets"]["brand"] == [
        {"value": "acme", "count": 4, "selected": True, "unit": None}
    ]
    assert answer["facets"]["category"][0] == {
        "value": "home",
        "count": 4,
        "selected": False,
        "unit": None,
    }
    assert {"value": "0-17.5", "count": 4, "selected": True, "unit": None} in answer["facets"][
        "price"
    ]
    last = get("/search", **request, offset=answer["next_offset"], k=2)
    assert (ids(last), last["total"], last["next_offset"]) == (["i00"], 4, None)
    best = get("/search", q="red chair", k=1)["items"][0]
    assert [best["title"][start:end] for start, end in best["highlights"]] == ["red chair"]
    assert best["sources"].keys() <= {"lexical", "dense"}
    nothing = get("/search", q="xqzvkj", facets=True)
    assert (nothing["items"], nothing["total"], nothing["no_good_match"]) == ([], 0, True)
    bad = httpx.get(f"{URL}/search", params={**request, "sort": "best"})
    assert (bad.status_code, bad.json()["error"]["field"]) == (422, "sort")


def batched_searches_get_their_own_answers() -> None:
    with ThreadPoolExecutor(8) as clients:
        answers = clients.map(lambda item: ids(get("/search", q=title(item), k=1)), range(ITEMS))
    assert list(answers) == [[f"i{item:02d}"] for item in range(ITEMS)]


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
