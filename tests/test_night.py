"""The night on the checkerboard shop: known answers, carried vectors, refused input, kill -9, a
bucket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest

from recsys.batch.estimate import SKETCH, distinct, estimate, smallest
from recsys.batch.night import run_night
from recsys.batch.planning import begin
from recsys.batch.quarantine import count_rules
from recsys.config import Setup
from recsys.errors import InputError, ReleaseError
from recsys.interfaces import Chunk
from recsys.pipeline.recommender import Recommender
from recsys.release.checks import ReleaseLimits
from recsys.release.files import UNLISTED
from recsys.release.manifest import FORMAT
from recsys.release.release import Release
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.storage.artifacts import ArtifactStore
from recsys.tables import QUARANTINE
from recsys.types import Filters, Impression, Interaction, Query
from tests.checkerboard import ITEMS, UNTIL, USERS, Checkerboard, bought, left_out, setup, title

pytestmark = pytest.mark.ray


@pytest.fixture
def home(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NIGHTSHELF_COMMIT", "test")
    return tmp_path / "home"


@pytest.fixture
def bucket(s3: str) -> str:
    return f"s3://test:test@shop/night?endpoint_override={quote(s3)}&scheme=http&region=us-east-1"


@pytest.fixture(scope="module")
def release(shop_home: Path) -> Release:
    return Release.open(ArtifactStore(str(shop_home)))


@pytest.fixture(scope="module")
def recommender(release: Release) -> Recommender:
    shop = setup()
    return Recommender.over(
        release, shop.user_model(), shop.search_ranker(), shop.recommend_ranker()
    )


def night(shop: Setup, **choices: object) -> Release:
    manifest = run_night(begin(shop, **{"until": UNTIL, **choices}), print)  # type: ignore[arg-type]
    return Release.open(ArtifactStore(shop.home), manifest.version)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that belongs to a release's identity."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in UNLISTED[1:]]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_user_gets_the_one_item_he_left_out_before_any_other_that_is_new(
    release: Release,
) -> None:
    for user in range(USERS):
        row = release.user_ids.row(f"u{user:02d}")
        assert row is not None
        offered = [
            release.item_ids[int(item)] for item in release.candidate_rows_UN[row] if item >= 0
        ]
        new = [item for item in offered if int(item[1:]) not in bought(user)]
        assert new[0] == f"i{left_out(user):02d}"


def test_counts_quarantine_and_times_are_those_of_the_shop(release: Release) -> None:
    manifest = release.manifest
    assert manifest.counts == {
        "items": ITEMS,
        "events": 7 * USERS,
        "users": USERS,
        "texts": ITEMS,
        "unknown_item_events": 0,
        "forgotten_events": 0,
        "guest_events": 0,
        "ignored_events": 0,
        "bots": 0,
        "bot_events": 0,
        "order_lines": 0,
        "returned_purchases": 0,
    }
    assert manifest.quarantined == {
        "events: type: use one of view, click, cart, purchase, or say in catalogue.event_words "
        "what the word means": 1,
        "items: price: it must be zero or more": 1,
    }
    until = UNTIL + timedelta(days=1)
    assert manifest.events_until == (until - timedelta(hours=1)).isoformat()
    assert manifest.events_from == (until - timedelta(days=2, hours=1)).isoformat()
    assert manifest.metrics["recall@10"] == 1.0


def test_rows_that_broke_a_rule_are_counted_without_what_stood_in_them() -> None:
    rules = {
        "user_id is 'Ann: her': it must have 200 characters or fewer": (
            "user_id: it must have 200 characters or fewer"
        ),
        "event_id 'Ann: 1' repeats row 3 of Ann: x.csv: the first is kept": (
            "event_id repeats that of another row: the first is kept"
        ),
        "item 'Ann: 1' is not in the catalogue: keep delisted items in it, out of stock": (
            "item not in the catalogue: keep delisted items in it, out of stock"
        ),
        "the text of item 'Ann: 1': the encoder fails on it (ValueError: a: b)": (
            "text: the encoder fails on it (ValueError: a: b)"
        ),
    }
    rows = [["events"] * 4, [""] * 4, range(4), list(rules), [""] * 4]
    assert count_rules(pa.table(rows, QUARANTINE)) == {
        f"events: {rule}": 1 for rule in rules.values()
    }


def test_a_title_finds_its_item_first(recommender: Recommender) -> None:
    encoder = setup().encoder()
    for item in range(ITEMS):
        query = Query(request_id="r", k=3, text=title(item))
        ranking = recommender.search(query, encoder.encode_queries([title(item)])[0])
        assert ranking.items[0].item.item_id == f"i{item:02d}"


def test_a_release_knows_variants_dates_and_completions(release: Release) -> None:
    chair, other, table = (release.item_ids.row(f"i{item:02d}") for item in range(3))
    assert release.groups_I[chair] == release.groups_I[other] != release.groups_I[table]
    assert np.isnan(release.added_I[chair])
    assert release.added_I[other] - release.added_I[table] == pytest.approx(1)
    assert other is not None
    assert (release.item(other).group_id, release.item(other).added) == (
        "chair",
        UNTIL - timedelta(days=1),
    )
    assert [each.text for each in release.suggestions.complete("red ch")] == ["red chair"]
    assert release.suggestions.complete("gl")[0].kind == "brand"


def test_after_a_release_of_another_format_the_night_begins_anew(
    shop_home: Path, home: Path
) -> None:
    shutil.copytree(shop_home, home)
    store = ArtifactStore(str(home))
    for version in store.versions():
        manifest = json.loads(store.read(f"releases/{version}/manifest.json"))
        store.write(
            f"releases/{version}/manifest.json", json.dumps(manifest | {"format": 2}).encode()
        )
    with pytest.raises(
        ReleaseError,
        match=rf"has format 2, this code reads {FORMAT}: run jobs\.nightly with this code",
    ):
        Release.open(store)
    assert night(setup(), until=UNTIL + timedelta(days=2)).manifest.previous is None


def test_similar_is_the_same_thing_in_the_other_colour_or_what_shared_its_baskets(
    recommender: Recommender,
) -> None:
    for item in range(ITEMS):
        similar = [
            int(each.item.item_id[1:])
            for each in recommender.similar(Query(request_id="r", k=5), f"i{item:02d}").items
        ]
        assert all(other == item ^ 1 or other % 2 == item % 2 for other in similar[:3])
        assert item ^ 1 in similar
        assert item not in similar


def test_the_second_night_encodes_nothing_and_makes_the_same_vectors(shop_home: Path) -> None:
    store = ArtifactStore(str(shop_home))
    first, second = (Release.open(store, version) for version in store.versions())
    stages = json.loads((shop_home / "releases" / second.version / "run.json").read_text())[
        "stages"
    ]
    counts = next(stage["counts"] for stage in stages if stage["name"] == "embed items")
    assert (counts["encoded"], counts["carried"]) == (0, ITEMS)
    assert np.array_equal(first.item_vectors_ID, second.item_vectors_ID)
    assert second.manifest.previous == first.version


def test_too_many_bad_rows_stop_the_night_and_current_stays(home: Path) -> None:
    before = night(setup()).version
    strict = replace(setup(), night=replace(setup().night, max_bad_share=0.01))
    with pytest.raises(ReleaseError, match=r"1 of 17 rows cannot be used.*it must be zero or more"):
        night(strict, until=UNTIL + timedelta(days=1))
    assert ArtifactStore(str(home)).current() == before


def test_a_night_that_fails_its_checks_is_not_published(home: Path) -> None:
    shop = setup()
    shop = replace(shop, night=replace(shop.night, limits=ReleaseLimits(min_known_events=1.1)))
    with pytest.raises(ReleaseError, match=r"not published: 100\.0% of 280 events name an item"):
        night(shop)
    assert ArtifactStore(str(home)).versions() == []


@pytest.mark.slow
def test_a_night_killed_again_and_again_makes_the_same_bytes(home: Path, tmp_path: Path) -> None:
    """kill -9 after one line more each time; the same command each time; then the bytes of a night
    left alone."""
    import ray

    night(replace(setup(), home=str(tmp_path / "alone")), version="v")
    command = [sys.executable, "-m", "jobs.nightly", "--setup", "tests.checkerboard:setup"]
    command += ["--until", UNTIL.isoformat(), "--version", "v"]
    address = ray.get_runtime_context().gcs_address
    environment = os.environ | {"RAY_ADDRESS": address, "PYTHONUNBUFFERED": "1"}
    for lines in (1, 5, 7, 10):
        run = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path.cwd(),
        )
        assert run.stdout is not None
        for _ in range(lines):
            run.stdout.readline()
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert ArtifactStore(str(home)).versions() == []
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "shards kept" in finished.stdout
    assert contents(home / "releases" / "v") == contents(tmp_path / "alone" / "releases" / "v")


def test_live_events_and_queries_are_in_the_next_night(home: Path) -> None:
    shop, before = setup(), UNTIL - timedelta(minutes=1)
    events = shop.event_store()
    events.append(
        [Interaction(event_id="e1", user_id="newcomer", item_id="i00", type="cart", time=before)]
    )
    for query, users in (("Reading  Chair", 3), ("red secret", 2)):
        impressions = [
            Impression(
                request_id=f"{query}{n}",
                time=before,
                release="v",
                surface="search",
                item_ids=("i00",),
                user_id=f"u{n}",
                query=query,
            )
            for n in range(users)
        ]
        events.append_impressions(impressions)
    events.close()
    release = night(shop)
    row = release.user_ids.row("newcomer")
    assert row is not None
    assert release.history(row).items.tolist() == [release.item_ids.row("i00")]
    assert [(each.text, each.kind) for each in release.suggestions.complete("rea")] == [
        ("reading chair", "query")
    ]
    assert "red secret" not in [each.text for each in release.suggestions.complete("red", 50)]


def test_a_night_into_a_bucket_is_the_night_on_a_disk(
    home: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHELF_EVENTS", str(tmp_path / "events.sqlite"))
    on_disk = night(setup(), version="v")
    in_bucket = night(replace(setup(), home=bucket), version="v")
    assert in_bucket.manifest.files == on_disk.manifest.files
    assert in_bucket.items.equals(on_disk.items)


def test_a_catalogue_above_the_threshold_gets_an_index_and_finds_the_same(home: Path) -> None:
    shop = setup()
    big = night(replace(shop, night=replace(shop.night, ann_above=1)))
    assert "dense.ivf" in big.manifest.files
    recommender = Recommender.over(
        big, shop.user_model(), shop.search_ranker(), shop.recommend_ranker()
    )
    exact = replace(
        recommender,
        searcher=replace(recommender.searcher, dense=ExactRetriever("dense", big.item_vectors_ID)),
    )
    assert type(recommender.searcher.dense) is not ExactRetriever
    for item in range(ITEMS):
        query = Query(request_id="r", k=20, text=title(item), filters=Filters(brand=("acme",)))
        vector_D = shop.encoder().encode_queries([title(item)])[0]
        answers = [each.search(query, vector_D) for each in (recommender, exact)]
        found, expected = ([each.item.item_id for each in answer.items] for answer in answers)
        assert found == expected
        assert (f"i{item:02d}" in found) == (item < ITEMS // 2)


class Unvisited(Checkerboard):
    """The shop on the day before it opens."""

    def event_chunks(self) -> list[Chunk]:
        return []


def test_a_shop_without_a_single_event_can_be_searched(home: Path) -> None:
    shop = replace(setup(), dataset=Unvisited)
    assert "0 event rows, about 0 users" in str(estimate(shop, UNTIL))
    first = night(shop)
    assert (first.manifest.counts["users"], first.manifest.counts["events"]) == (0, 0)
    recommender = Recommender.over(
        first, shop.user_model(), shop.search_ranker(), shop.recommend_ranker()
    )
    ranking = recommender.search(
        Query(request_id="r", k=3, text=title(4)), shop.encoder().encode_queries([title(4)])[0]
    )
    assert ranking.items[0].item.item_id == "i04"
    assert len(recommender.recommend(Query(request_id="r", k=3, user_id="nobody")).items) == 3


def test_an_empty_catalogue_is_refused_before_anything_is_written(home: Path) -> None:
    class Empty(Checkerboard):
        def item_chunks(self) -> list[Chunk]:
            return []

    with pytest.raises(InputError, match="the catalogue of setup checkerboard has no rows"):
        begin(replace(setup(), dataset=Empty), UNTIL)
    assert not list(home.rglob("*.json"))


def test_the_plan_says_what_a_night_would_do_and_does_nothing(home: Path) -> None:
    said = str(estimate(setup(), UNTIL))
    assert f"{ITEMS} distinct texts, {ITEMS} of them to encode" in said
    assert not list(home.rglob("*.json"))
    night(setup())
    assert f"{ITEMS} distinct texts, 0 of them to encode" in str(estimate(setup(), UNTIL))


def test_distinct_texts_are_counted_within_two_percent_from_a_sketch() -> None:
    many = 4 * SKETCH
    hashes = np.random.default_rng(0).integers(0, 2**63, (many, 2), dtype=np.uint64) * np.uint64(2)
    sketch = smallest(np.concatenate([hashes, hashes]).astype(">u8").view("V16").reshape(-1))
    assert len(sketch) == SKETCH
    assert distinct(sketch) == pytest.approx(many, rel=0.02)


def test_what_goes_together_is_listed_where_the_setup_wants_it(home: Path) -> None:
    """A basket is of one colour; of a thing's two colours neither goes with the other."""
    shop = setup()
    release = night(replace(shop, night=replace(shop.night, complements=4)))
    assert release.complements
    rows_IM, margins_IM = release.complements
    assert rows_IM.shape == (ITEMS, 4)
    for row, others in enumerate(rows_IM.tolist()):
        assert {int(release.item_ids[other][1:]) % 2 for other in others} == {
            int(release.item_ids[row][1:]) % 2
        }
        assert row not in others
    assert (np.diff(margins_IM, axis=1) <= 0).all()
    assert (margins_IM > 0).all()
    recommender = Recommender.over(
        release, shop.user_model(), shop.search_ranker(), shop.recommend_ranker()
    )
    answer = recommender.complements(Query(request_id="1", k=3), "i03")
    assert [scored.item.item_id for scored in answer.items] == [
        release.item_ids[int(row)] for row in rows_IM[release.item_ids.row("i03") or 0][:3]
    ]


def test_a_night_without_complements_leaves_no_file_of_them(release: Release) -> None:
    assert release.complements is None
    assert not any("complement" in name for name in release.manifest.files)
