"""The client of the Redis event log: its errors as ours, and what a server's settings can lose."""

from __future__ import annotations

import pytest

from recsys.errors import InputError, StoreDownError
from recsys.events import redis_client

exceptions = pytest.importorskip("redis.exceptions")


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (exceptions.ConnectionError("gone"), StoreDownError, "cannot be reached (gone)"),
        (exceptions.TimeoutError("slow"), StoreDownError, "cannot be reached (slow)"),
        (exceptions.ReadOnlyError("replica"), StoreDownError, "cannot be reached (replica)"),
        (exceptions.OutOfMemoryError("full"), StoreDownError, "cannot be reached (full)"),
        (exceptions.MasterDownError("no master"), StoreDownError, "cannot be reached (no master)"),
        (OSError("no route"), StoreDownError, "cannot be reached (no route)"),
        (exceptions.ResponseError("OOM x"), StoreDownError, "takes nothing now (OOM x)"),
        (exceptions.ResponseError("MISCONF x"), StoreDownError, "takes nothing now (MISCONF x)"),
        (exceptions.ResponseError("WRONGTYPE x"), InputError, "refused (WRONGTYPE x)"),
        (exceptions.DataError("no bytes"), InputError, "none of the rows was written (no bytes)"),
        (
            UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"),
            InputError,
            "none of the rows was written",
        ),
    ],
)
def test_an_error_says_whether_the_log_is_down_or_refuses(
    answer: Exception, error: type[Exception], reason: str
) -> None:
    def command() -> None:
        raise answer

    with pytest.raises(error) as raised:
        redis_client.call(command)
    assert type(raised.value) is error
    assert reason in str(raised.value)


class Configured:
    """A server that tells its settings, or that may not."""

    def __init__(self, config: dict[str, str] | None) -> None:
        self.config = config

    def config_get(self, *_: str) -> dict[str, str]:
        if self.config is None:
            raise exceptions.ResponseError("unknown command 'CONFIG'")
        return self.config


@pytest.mark.parametrize(
    ("config", "warning"),
    [
        ({"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}, ""),
        ({"appendonly": "yes", "appendfsync": "always"}, ""),
        ({"appendonly": "no", "appendfsync": "always"}, "it has {'appendonly': 'no'}: it needs"),
        ({"maxmemory-policy": "allkeys-lru"}, "it has {'maxmemory-policy': 'allkeys-lru'}"),
        (None, "does not tell how it keeps the log"),
    ],
)
def test_a_setting_that_can_lose_events_is_warned_of(
    config: dict[str, str] | None, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_client.warn_unless_durable(Configured(config))
    assert len(caplog.records) == bool(warning)
    assert warning in caplog.text
