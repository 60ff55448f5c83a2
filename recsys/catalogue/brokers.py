"""Streams of changes: a Kafka topic, or a stream of a Redis server, read from a place on."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson

from recsys.catalogue.streams import Message
from recsys.errors import InputError, StoreDownError
from recsys.events.redis_client import call, connect

logger = logging.getLogger(__name__)

#: Of a question to a Kafka broker, and between two for new partitions.
TIMEOUT_S, LOOK_AGAIN_S = 10.0, 30.0


class MessageStream(Protocol):
    """Messages after those that were read, each partition in its order.

    It is opened at `offsets`, the last one that was read of each partition; of a partition without
    one it begins at the oldest message. `is_at_end`: all that there were have been read."""

    @property
    def is_at_end(self) -> bool: ...

    def read(self, limit: int, wait_s: float) -> list[Message]:
        """The next messages, none after `wait_s` without one. Raises StoreDownError."""
        ...

    def close(self) -> None: ...


class RedisStream:
    """Entries of a Redis stream: as `XADD KEY * value JSON`, as Debezium Server writes them, or
    with a field for each of the item's."""

    def __init__(self, url: str, key: str, offsets: Mapping[str, str]) -> None:
        self.key, self.is_at_end = key, False
        self._offset = offsets.get(key, "0-0")
        self._client = connect(url, timeout_s=30.0)
        self._is_checked = self._offset == "0-0"

    def read(self, limit: int, wait_s: float) -> list[Message]:
        if not self._is_checked:
            self._warn_of_gap()
        block = max(1, int(wait_s * 1000))
        answer = call(self._client.xread, {self.key: self._offset}, count=limit, block=block)
        pages = answer.values() if isinstance(answer, dict) else [page for _, page in answer or ()]
        entries = [entry for page in pages for entry in page]
        messages = [self._message(entry, fields) for entry, fields in entries]
        self._offset = messages[-1].offset if messages else self._offset
        self.is_at_end = not messages
        return messages

    def _message(self, entry: bytes, fields: Mapping[bytes, bytes] | None) -> Message:
        fields, offset = fields or {}, entry.decode()
        key, value = fields.get(b"key"), fields.get(b"value")
        if b"value" not in fields and len(fields) == 1:
            [(key, value)] = fields.items()
        elif b"value" not in fields:
            texts = {_text(name): _text(text) for name, text in fields.items()}
            value = orjson.dumps(texts)
        written = datetime.fromtimestamp(int(offset.partition("-")[0]) / 1000, UTC)
        is_tombstone = value in (b"", b"default", b"null")
        return Message(
            partition=self.key,
            offset=offset,
            value=None if is_tombstone else value,
            key=key if key != b"default" else None,
            time=written,
        )

    def _warn_of_gap(self) -> None:
        """Streams are trimmed at their old end: where the last entry that was read is gone, newer
        ones may be too."""
        self._is_checked = True
        first = call(self._client.xrange, self.key, count=1)
        if first and _parts(first[0][0].decode()) > _parts(self._offset):
            logger.warning(
                "%s begins at %s, the last entry that was read is %s: what lay between, if "
                "anything, was deleted unread; the next night's files have it",
                *(self.key, first[0][0].decode(), self._offset),
            )

    def close(self) -> None:
        self._client.close()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _parts(entry: str) -> tuple[int, int]:
    time, _, number = entry.partition("-")
    return int(time), int(number or 0)


class KafkaStream:
    """All partitions of a Kafka topic. `settings` are librdkafka's. Offsets are not kept by the
    broker: the group joins nobody."""

    def __init__(
        self, servers: str, topic: str, offsets: Mapping[str, str], settings: Mapping[str, Any]
    ) -> None:
        try:
            import confluent_kafka
        except ImportError as error:
            raise InputError(
                "Kafka needs confluent-kafka: pip install 'nightshelf[kafka]'"
            ) from error
        self.topic = topic
        self._kafka, self._offsets = confluent_kafka, dict(offsets)
        self._assigned, self._ended, self._look_again = set[int](), set[int](), 0.0
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "nightshelf",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                **settings,
            }
        )

    def read(self, limit: int, wait_s: float) -> list[Message]:
        self._assign()
        messages = []
        for message in self._consume(limit, wait_s):
            error = message.error()
            if error and error.code() == self._kafka.KafkaError._PARTITION_EOF:
                self._ended.add(message.partition())
            elif error:
                raise StoreDownError(f"Kafka cannot be read now ({error}): is the broker up?")
            else:
                self._ended.discard(message.partition())
                messages.append(self._message(message))
        for each in messages:
            self._offsets[each.partition] = each.offset
        return messages

    @property
    def is_at_end(self) -> bool:
        return bool(self._assigned) and self._assigned <= self._ended

    def _consume(self, limit: int, wait_s: float) -> list[Any]:
        """Returns with the first message and those that are there already."""
        try:
            message, messages = self._consumer.poll(wait_s), list[Any]()
            while message is not None:  # a message without a value is false
                messages.append(message)
                message = self._consumer.poll(0.0) if len(messages) < limit else None
            return messages
        except self._kafka.KafkaException as error:
            raise StoreDownError(f"Kafka cannot be read now ({error}): is it up?") from error

    def _assign(self) -> None:
        """Each partition from its offset, new ones too: topics grow."""
        if self._assigned and time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + LOOK_AGAIN_S
        try:
            topic = self._consumer.list_topics(self.topic, timeout=TIMEOUT_S).topics[self.topic]
        except self._kafka.KafkaException as error:
            raise StoreDownError(f"Kafka cannot be reached ({error}): is it up?") from error
        partitions = set(topic.partitions)
        if not partitions:
            raise StoreDownError(f"there is no topic {self.topic} yet: make it, or wait")
        if partitions <= self._assigned:
            return
        starts = {number: self._start(number) for number in partitions}
        self._consumer.assign(
            [self._kafka.TopicPartition(self.topic, number, at) for number, at in starts.items()]
        )
        self._assigned = partitions

    def _start(self, partition: int) -> int:
        name = f"{self.topic}[{partition}]"
        if name not in self._offsets:
            return int(self._kafka.OFFSET_BEGINNING)
        start, place = int(self._offsets[name]) + 1, self._kafka.TopicPartition
        low, _ = self._consumer.get_watermark_offsets(
            place(self.topic, partition), timeout=TIMEOUT_S
        )
        if low > start:
            logger.warning(
                "messages of %s from %s to %s were deleted before they were read: what they said "
                "is lost; the next night's files have it",
                *(name, start, low - 1),
            )
        return start

    def _message(self, message: Any) -> Message:
        kind, at = message.timestamp()
        has_time = kind != self._kafka.TIMESTAMP_NOT_AVAILABLE
        return Message(
            partition=f"{self.topic}[{message.partition()}]",
            offset=str(message.offset()),
            value=message.value(),
            key=message.key(),
            time=datetime.fromtimestamp(at / 1000, UTC) if has_time else None,
        )

    def close(self) -> None:
        self._consumer.close()


def open_stream(address: str, offsets: Mapping[str, str]) -> MessageStream:
    """`redis://HOST:PORT/0?stream=KEY` or `kafka://HOST:PORT/TOPIC`; further settings of the client
    after the `?`."""
    parts = urlsplit(address)
    settings = dict(parse_qsl(parts.query))
    if parts.scheme in ("redis", "rediss") and (key := settings.pop("stream", "")):
        return RedisStream(urlunsplit(parts._replace(query=urlencode(settings))), key, offsets)
    if parts.scheme == "kafka" and (topic := parts.path.strip("/")):
        return KafkaStream(parts.netloc, topic, offsets, settings)
    raise InputError(
        f"{address} is no stream: give redis://HOST:PORT/0?stream=KEY or kafka://HOST:PORT/TOPIC"
    )


def stream_name(address: str) -> str:
    """By which its offsets are kept; the same for all addresses of its brokers."""
    parts = urlsplit(address)
    place = dict(parse_qsl(parts.query)).get("stream") or parts.path.strip("/")
    return quote(f"{parts.scheme.replace('rediss', 'redis')}-{place}", safe="")
