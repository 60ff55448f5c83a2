"""A client of the Redis server that holds the logs: its errors as ours, and a warning where
the server may lose what it acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from recsys.errors import InputError, StoreDownError

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: What makes an acknowledged write survive kill -9 of the server, and a full memory.
DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
#: Prefixes of answers of a server that is up but cannot take a write now.
_UNAVAILABLE = ("MISCONF", "NOREPLICAS", "BUSY", "OOM", "LOADING")


def connect(url: str, timeout_s: float) -> Any:
    """A client; nothing is connected before its first command. InputError where `url` is no address
    of a server."""
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise InputError("a log in Redis needs redis: pip install 'nightshelf[redis]'") from error
    try:
        return redis.Redis.from_url(
            url,
            # One retry, at once: a pooled connection may be one that the server closed.
            retry=Retry(NoBackoff(), 1),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=15,
        )
    except ValueError as error:
        raise InputError(f"the log cannot lie there ({error}): give redis://HOST:PORT/0") from error


def call(command: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Its result. StoreDownError where the server cannot be reached or cannot take anything now,
    InputError where it refuses."""
    from redis import exceptions

    try:
        return command(*arguments, **options)
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.ReadOnlyError,
        exceptions.OutOfMemoryError,
        exceptions.MasterDownError,
        OSError,
    ) as error:
        raise StoreDownError(
            f"the log in Redis cannot be reached ({error}): is the server up?"
        ) from error
    except exceptions.ResponseError as error:
        if str(error).startswith(_UNAVAILABLE):
            raise StoreDownError(
                f"the log in Redis takes nothing now ({error}): see its log"
            ) from error
        raise InputError(f"the log in Redis refused ({error}): see docs/operations.md") from error
    except (exceptions.DataError, UnicodeEncodeError) as error:
        raise InputError(f"none of the rows was written ({error}): check them first") from error


def warn_unless_durable(client: Any) -> None:
    """Logs what of DURABLE the server's configuration is not."""
    try:
        config = call(client.config_get, *DURABLE)
    except InputError:
        logger.warning("the Redis server does not tell how it keeps the log: it needs %s", DURABLE)
        return
    wrong = {
        name: config[name] for name in DURABLE if config.get(name, DURABLE[name]) != DURABLE[name]
    }
    if wrong:
        logger.warning(
            "the Redis server can LOSE acknowledged events, it has %s: it needs %s", wrong, DURABLE
        )
