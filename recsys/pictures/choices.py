"""What a setup says of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network

from recsys.errors import InputError
from recsys.interfaces import PictureEncoder
from recsys.pictures.unsafe import UnsafePictureModel


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """How one fetcher asks for pictures: `concurrency` requests at once, `host_concurrency` of them
    to one host, begun `host_pause_s` apart.

    What fails in passing is asked for again, `retries` times; a host that says when, then, if that
    is within `longest_wait_s`. A host that failed `host_failures` requests in a row is asked no
    more. A request takes `connect_s` to connect and `total_s` to its last byte; what is larger than
    `max_bytes` is not read further. Addresses that are not public are refused, but for those in
    `private_networks` ("10.2.0.0/16")."""

    concurrency: int = 32
    host_concurrency: int = 8
    host_pause_s: float = 0.0
    retries: int = 2
    longest_wait_s: float = 60.0
    host_failures: int = 20
    connect_s: float = 5.0
    total_s: float = 30.0
    max_bytes: int = 20 << 20
    private_networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for network in self.private_networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise InputError(
                    f"private_networks has {network!r} ({error}): write 10.2.0.0/16 or fd00::/8"
                ) from error
        for name in ("concurrency", "host_concurrency", "host_failures", "max_bytes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of pictures is {getattr(self, name)}: give 1 or more")


@dataclass(frozen=True, kw_only=True)
class PictureChoices:
    """How the night reads the items' pictures; `encoder` makes vectors of them.

    `folders` are paths and `pyarrow.fs` URIs below which an `image` may name files; beside the
    catalogue's own files it may without. `cache_bytes` bounds the pictures that the home keeps.
    What `unsafe` thinks likelier unsafe than `unsafe_above` is marked in the release, and no
    thumbnail."""

    encoder: Callable[[], PictureEncoder]
    limits: FetchLimits = field(default_factory=FetchLimits)
    folders: tuple[str, ...] = ()
    cache_bytes: int = 10 << 30
    thumbnails: bool = True
    unsafe: Callable[[], UnsafePictureModel] | None = None
    unsafe_above: float = 0.8

    def __post_init__(self) -> None:
        if not 0 <= self.unsafe_above <= 1:
            raise InputError(f"unsafe_above is {self.unsafe_above}: give a probability, 0 to 1")
