"""A stream of changes followed from real brokers: a Redis server, and librdkafka's own mock of
Kafka."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs import follow_catalogue
from recsys.catalogue import brokers
from recsys.catalogue.brokers import KafkaStream, RedisStream, open_stream, stream_name
from recsys.catalogue.bulk import Outcome
from recsys.catalogue.client import CatalogueClient
from recsys.catalogue.follower import Follower, LogRows
from recsys.catalogue.sqlite import SqliteCatalogueLog
from recsys.catalogue.streams import Message, MessageReading
from recsys.datasets.choices import CatalogueChoices
from recsys.errors import InputError, StoreDownError
from recsys.storage.files import FileStore
from tests.redis_server import RedisServer

READING = MessageReading(write="put", columns={"item_id": "id"})
MS = 1_767_225_600_000


def envelope(op: str, number: int, price: float, at: int = 0) -> bytes:
    row = {"id": f"i{number}", "title": f"thing {number}", "price": price}
    before, after = (row, None) if op == "d" else (None, row)
    source = {"ts_ms": MS + at}
    return json.dumps({"op": op, "before": before, "after": after, "source": source}).encode()


class Catalogue:
    """What was written, as a shop that refuses item i3 and has no i4."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self.is_down = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        if self.is_down:
            raise StoreDownError("down")
        self.rows += rows
        special = {
            "i3": Outcome("invalid", "title is odd"),
            "i4": Outcome("missing", "none"),
        }
        return [special.get(row["item_id"], Outcome("accepted")) for row in rows]


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture
def follower(tmp_path: Path, catalogue: Catalogue) -> Follower:
    return Follower(FileStore(str(tmp_path)), "redis-items", READING, catalogue)


def messages(*values: bytes | None) -> list[Message]:
    return [
        Message(partition="items", offset=str(number), value=value)
        for number, value in enumerate(values)
    ]


def quarantined(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "streams").glob("*/quarantine/*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_poison_stops_nothing_and_is_kept_with_its_reason_and_place(
    follower: Follower, tmp_path: Path
) -> None:
    batch = messages(
        envelope("c", 1, 1.0), b"{", envelope("u", 3, 2.0), None, envelope("u", 4, 2.0),
        envelope("d", 4, 0.0), envelope("c", 2, 1.0),
    )  # fmt: skip
    counts = {"accepted": 2, "quarantined": 3, "nothing": 1, "missing": 1}
    assert follower.take_in(batch) == counts
    assert [(row["place"], row["reason"].split(":")[0]) for row in quarantined(tmp_path)] == [
        ("items@1", "the message is no JSON (Expecting property name enclosed in double quotes"),
        ("items@2", "title is odd"),
        ("items@4", "none"),
    ]
    assert follower.offsets() == {"items": "6"}
    assert follower.take_in(batch) == counts
    assert len(quarantined(tmp_path)) == 3, "the same messages again are the same file"


def test_the_place_is_kept_after_the_catalogue_took_them(
    follower: Follower, catalogue: Catalogue
) -> None:
    catalogue.is_down = True
    with pytest.raises(StoreDownError):
        follower.take_in(messages(envelope("c", 1, 1.0)))
    assert follower.offsets() == {}
    catalogue.is_down = False
    follower.take_in(messages(envelope("c", 1, 1.0)))
    assert follower.offsets() == {"items": "0"}


# Redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()


def redis_client(server: RedisServer) -> Any:
    import redis

    return redis.Redis.from_url(server.url)


def read_all(stream: Any) -> list[Message]:
    found: list[Message] = []
    deadline = time.monotonic() + 30
    while not stream.is_at_end and time.monotonic() < deadline:
        found += stream.read(2, 0.2)
    return found


def test_entries_of_every_form_are_read_in_order_and_from_a_place_on(server: RedisServer) -> None:
    client = redis_client(server)
    client.xadd("items", {"value": envelope("c", 1, 1.0)})
    client.xadd("items", {'{"id":"i2"}': envelope("c", 2, 1.0)})
    client.xadd("items", {"key": '{"id":"i3"}', "value": "default"})
    last = client.xadd("items", {"id": "i4", "price": "4.5"})
    with closing(open_stream(f"{server.url}?stream=items", {})) as stream:
        found = read_all(stream)
    assert [each.value for each in found] == [
        envelope("c", 1, 1.0), envelope("c", 2, 1.0), None, b'{"id":"i4","price":"4.5"}',
    ]  # fmt: skip
    assert found[1].key == b'{"id":"i2"}'
    assert found[-1].place == f"items@{last.decode()}"
    assert found[-1].time is not None
    with closing(RedisStream(server.url, "items", {"items": found[1].offset})) as stream:
        assert [each.offset for each in read_all(stream)] == [each.offset for each in found[2:]]


def test_entries_that_were_trimmed_before_they_were_read_are_told(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis_client(server)
    places = [client.xadd("items", {"value": envelope("c", n, 1.0)}) for n in range(5)]
    with closing(RedisStream(server.url, "items", {"items": places[0].decode()})) as stream:
        client.xtrim("items", maxlen=2, approximate=False)
        assert len(read_all(stream)) == 2
    assert f"items begins at {places[3].decode()}, the last entry that was read is" in caplog.text


def test_a_server_that_is_down_loses_nothing(server: RedisServer) -> None:
    redis_client(server).xadd("items", {"value": envelope("c", 1, 1.0)})
    with closing(RedisStream(server.url, "items", {})) as stream:
        server.kill()
        with pytest.raises(StoreDownError):
            stream.read(10, 0.1)
        server.start()
        assert len(stream.read(10, 0.1)) == 1


# Kafka: no broker, but librdkafka's mock of one within the client.


@pytest.fixture
def kafka() -> Iterator[str]:
    """The address of a mock that lives as long as its client, and makes topics when they are
    produced to."""
    confluent_kafka = pytest.importorskip("confluent_kafka")
    mock = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
    [broker] = mock.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    mock.flush(1)


def produce(address: str, *values: bytes | None, partition: int = 0) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address})
    for value in values:
        producer.produce("items", value, key=b'{"id": "i9"}', partition=partition)
    assert producer.flush(10) == 0


def test_a_topic_is_read_from_a_place_on_in_every_partition(kafka: str) -> None:
    produce(kafka, envelope("c", 1, 1.0), envelope("c", 2, 1.0), None)
    produce(kafka, envelope("c", 3, 1.0), partition=1)
    with closing(open_stream(f"kafka://{kafka}/items", {})) as stream:
        found = read_all(stream)
    by_place = {each.place: each for each in found}
    assert sorted(by_place) == ["items[0]@0", "items[0]@1", "items[0]@2", "items[1]@0"]
    assert by_place["items[0]@2"].value is None
    assert by_place["items[0]@2"].key == b'{"id": "i9"}'
    assert by_place["items[1]@0"].time is not None
    with closing(KafkaStream(kafka, "items", {"items[0]": "1", "items[1]": "0"}, {})) as stream:
        assert [each.place for each in read_all(stream)] == ["items[0]@2"]
        produce(kafka, envelope("c", 4, 1.0), partition=1)
        pages = (stream.read(2, 0.2) for _ in range(50))
        assert [each.place for each in next(filter(None, pages))] == ["items[1]@1"]


def test_a_broker_that_is_not_there_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("confluent_kafka")
    monkeypatch.setattr(brokers, "TIMEOUT_S", 0.5)
    stream = KafkaStream("127.0.0.1:1", "items", {}, {"log_level": "0"})
    with closing(stream), pytest.raises(StoreDownError, match="cannot be reached"):
        stream.read(1, 0.1)


# Addresses, HTTP, the job


def test_addresses_name_streams() -> None:
    assert stream_name("kafka://a:9092,b:9092/shop.public.items") == "kafka-shop.public.items"
    assert stream_name("rediss://:secret@h:1/0?stream=a:b") == "redis-a%3Ab"
    for address in ("redis://h:1/0", "kafka://h:1", "file:///x"):
        with pytest.raises(InputError, match="is no stream: give redis://HOST"):
            open_stream(address, {})


def test_a_shop_that_refuses_the_key_stops_the_follower(tmp_path: Path) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(403, text="no"))
    client = CatalogueClient("http://shop", transport=transport)
    follower = Follower(
        FileStore(str(tmp_path)), "redis-items", READING,
        lambda rows: [Outcome(row["status"], row["reason"]) for row in client.send(rows)],
    )  # fmt: skip
    with pytest.raises(InputError, match="refuses changes"):
        follower.take_in(messages(envelope("c", 1, 1.0)))
    assert follower.offsets() == {}
    assert quarantined(tmp_path) == []


def test_rows_go_into_the_log_and_what_it_refuses_goes_alone(tmp_path: Path) -> None:
    class Odd(SqliteCatalogueLog):
        def append(self, changes: Any, exists: Any, folded: int = 0) -> Any:
            if any(change.item_id == "odd" for change in changes):
                raise InputError("this text cannot be written")
            return super().append(changes, exists, folded)

    with closing(Odd(tmp_path / "catalogue.sqlite")) as log:
        write = LogRows(str(tmp_path), log, CatalogueChoices())
        rows = [{"item_id": name, "title": name, "op": op} for name, op in
                (("a", "put"), ("odd", "put"), ("b", "patch"), ("c", "put"))]  # fmt: skip
        outcomes = write([*rows, {"item_id": "d", "price": "ask"}])
        assert [outcome.status for outcome in outcomes] == [
            "accepted", "invalid", "missing", "accepted", "invalid"
        ]  # fmt: skip
        assert outcomes[1].reason == "this text cannot be written"
        assert [state.item_id for state in log.states()] == ["a", "c"]


KILLED = textwrap.dedent("""
    import os, signal, sys
    from jobs import follow_catalogue
    from recsys.catalogue.follower import Follower
    from tests import test_follow_catalogue
    def kill(self, messages):
        os.kill(os.getpid(), signal.SIGKILL)
    Follower._keep = kill  # the catalogue has them, their place is not kept
    sys.exit(follow_catalogue.main())
""")


def test_the_job_killed_before_it_kept_its_place_goes_on_without_loss(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    home = str(tmp_path / "home")
    monkeypatch.setenv("NIGHTSHELF_HOME", home)
    monkeypatch.delenv("NIGHTSHELF_EVENTS", raising=False)
    values = [envelope("c", number, 1.0) for number in range(5)]
    values += [envelope("u", 0, 2.0, at=1), b"poison", envelope("d", 1, 0.0, at=1)]
    client = redis_client(server)
    for value in values:
        client.xadd("items", {"value": value})
    command = [f"{server.url}?stream=items", "--write", "put", "--column", "item_id=id"]
    command += ["--setup", "tests.checkerboard:setup", "--once"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], check=False)
    assert killed.returncode == -signal.SIGKILL
    client.xadd("items", {"value": envelope("c", 5, 1.0)})
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["follow_catalogue", *command])
        assert follow_catalogue.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1 messages quarantined: see {home}/streams/redis-items/quarantine"
    first, second = (json.loads(line) for line in lines[1:])
    assert first["quarantined"] == 1
    assert Counter(first)["accepted"] + Counter(first)["unchanged"] + Counter(first)["stale"] == 8
    assert "accepted" not in second, "the place was kept"
    with closing(SqliteCatalogueLog(f"{home}/catalogue.sqlite")) as log:
        prices = {state.item_id: state.values().get("price") for state in log.states()}
        assert prices == {"i0": 2.0, "i1": None} | dict.fromkeys(("i2", "i3", "i4", "i5"), 1.0)
        assert log.state("i1").deleted  # type: ignore[union-attr]
    assert [row["reason"][:22] for row in quarantined(Path(home))] == ["the message is no JSON"]
