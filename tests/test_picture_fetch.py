"""References to bytes: what hosts do to a fetcher, against a real one; the guard; folders."""

from __future__ import annotations

import base64
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from recsys.pictures.addresses import AddressGuard, PrivateAddressError, check_address
from recsys.pictures.choices import FetchLimits
from recsys.pictures.fetch import FetchedPicture, FetchFailure, PictureFetcher, PreviousFetch
from recsys.pictures.references import content_hash, stored_reference
from recsys.pictures.store import PictureStore
from tests.picture_server import DATE, ETAG, JPEG, PictureHost, jpeg, picture_host

#: The test's host is on this machine, which the guard refuses otherwise.
LOOPBACK = FetchLimits(
    private_networks=("127.0.0.0/8",), total_s=0.6, retries=1, longest_wait_s=2.0
)
HASH = content_hash(JPEG)


@pytest.fixture(scope="module")
def shared_host() -> Iterator[PictureHost]:
    with picture_host() as host:
        yield host


@pytest.fixture
def host(shared_host: PictureHost) -> PictureHost:
    shared_host.requests.clear()
    shared_host.headers.clear()
    shared_host.begins.clear()
    shared_host.most = 0
    return shared_host


def fetch(reference: str, limits: FetchLimits = LOOPBACK, **options: Any) -> Any:
    previous = options.pop("previous", None)
    with PictureFetcher(limits, **options) as fetcher:
        return fetcher.fetch(reference, previous)


def reason(reference: str, limits: FetchLimits = LOOPBACK, **options: Any) -> str:
    result = fetch(reference, limits, **options)
    assert isinstance(result, FetchFailure)
    return result.reason


def test_a_url_gives_bytes_and_what_the_host_says_of_them(host: PictureHost) -> None:
    assert fetch(f"{host.url}/picture.jpg") == FetchedPicture(HASH, JPEG, ETAG, DATE)


def test_what_did_not_change_is_not_sent_again(host: PictureHost) -> None:
    for previous in (PreviousFetch(HASH, ETAG, ""), PreviousFetch(HASH, "", DATE)):
        result = fetch(f"{host.url}/picture.jpg", previous=previous)
        assert result == FetchedPicture(HASH, None, ETAG, DATE)
    other = PreviousFetch(bytes(16), '"v0"', "")
    assert fetch(f"{host.url}/picture.jpg", previous=other).data == JPEG


@pytest.mark.parametrize(
    ("path", "sentence", "passing"),
    [
        ("/status?code=404", "it answers 404", False),
        ("/status?code=503", "it answers 503", True),
        ("/status?code=304", "it answers 304", False),
        ("/hang", "longer than 5 s to connect or 0.6 s in all", True),
        ("/drip", "longer than 5 s to connect or 0.6 s in all", True),
        ("/headers_drip", "longer than 5 s to connect or 0.6 s in all", True),
        ("/circle", "it redirects in a circle, again to http", False),
        ("/chain?n=6", "it redirects more than 5 times, last from http", False),
        ("/announced", "it has 30,000,000 bytes, and 20,971,520 are read", False),
        ("/endless", "it has more bytes than that, and 20,971,520 are read", False),
        ("/short", "it ended before the length that it announced", True),
        ("/busy?after=3600", "it answers 429, and not to ask for 3,600 s", True),
        ("/to?url=ftp://127.0.0.1/a", "which is no URL of HTTP", False),
        ("/to?url=file:///etc/passwd", "which is no URL of HTTP", False),
        ("/to?url=http://[::1/", "it is no URL, or leads to none", False),
        ("/to?url=http://169.254.169.254/latest/meta-data", "it leads to 169.254.169.254", False),
        ("/to?url=http://localhost.:1/", "", True),
    ],
)
def test_each_misbehaviour_is_a_sentence(
    host: PictureHost, path: str, sentence: str, passing: bool
) -> None:
    limits = replace(
        LOOPBACK, retries=int("busy" in path), total_s=5.0 if path == "/endless" else 0.6
    )
    result = fetch(f"{host.url}{path}", limits)
    assert isinstance(result, FetchFailure)
    assert sentence in result.reason
    assert result.passing == passing


def test_five_redirects_are_followed(host: PictureHost) -> None:
    assert fetch(f"{host.url}/chain?n=5").data == JPEG


def test_a_host_that_is_busy_is_asked_for_nothing_meanwhile(host: PictureHost) -> None:
    names = ["/busy?after=1", "/picture.jpg#1"]
    with PictureFetcher(replace(LOOPBACK, host_concurrency=1)) as fetcher:
        results = dict(fetcher.fetch_many((f"{host.url}{name}", None) for name in names))
    assert all(isinstance(each, FetchedPicture) for each in results.values())
    assert host.begins[1] - host.begins[0] > 0.7


def test_what_failed_in_passing_is_asked_for_again(host: PictureHost) -> None:
    assert fetch(f"{host.url}/flaky.jpg").data == JPEG
    assert host.requests["/flaky.jpg"] == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_host_says_when_it_is_asked_again(host: PictureHost, form: str) -> None:
    after = "1" if form == "seconds" else formatdate(time.time() + 1.9, usegmt=True)
    assert fetch(f"{host.url}/busy?after={after.replace(' ', '%20')}").data == JPEG
    assert 0.5 < host.begins[1] - host.begins[0] < 2


def test_a_host_that_fails_again_and_again_is_asked_no_more(host: PictureHost) -> None:
    limits = replace(LOOPBACK, retries=0, host_failures=3, host_concurrency=1)
    with PictureFetcher(limits) as fetcher:
        results = [fetcher.fetch(f"{host.url}/status?code=500#{n}") for n in range(6)]
    assert host.requests["/status"] == 3
    assert all(isinstance(each, FetchFailure) and each.passing for each in results)
    assert "failed 3 times in a row (it answers 500)" in str(results[-1])


def test_a_host_is_asked_at_its_pace(host: PictureHost) -> None:
    limits = replace(LOOPBACK, host_concurrency=3, total_s=5)
    with PictureFetcher(limits) as fetcher:
        results = dict(fetcher.fetch_many((f"{host.url}/slow#{n}", None) for n in range(30)))
    assert len(results) == 30
    assert {result.data for result in results.values() if isinstance(result, FetchedPicture)} == {
        JPEG
    }
    assert host.most <= 3
    host.begins.clear()
    with PictureFetcher(replace(limits, host_pause_s=0.1)) as fetcher:
        list(fetcher.fetch_many((f"{host.url}/picture.jpg#{n}", None) for n in range(4)))
    gaps = [after - before for before, after in zip(host.begins, host.begins[1:], strict=False)]
    assert min(gaps) > 0.07


def test_one_that_hangs_does_not_hold_up_the_others(host: PictureHost) -> None:
    names = ["/hang", *(f"/picture.jpg#{n}" for n in range(20))]
    with PictureFetcher(replace(LOOPBACK, retries=0, total_s=3)) as fetcher:
        order = [url for url, _ in fetcher.fetch_many((f"{host.url}{n}", None) for n in names)]
    assert len(order) == 21
    assert order[-1].endswith("/hang")


def test_neither_proxies_nor_credentials_come_from_the_environment(
    host: PictureHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login shop password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(f"{host.url}/picture.jpg").data == JPEG
    assert {"Authorization", "Cookie"}.isdisjoint(host.headers[0])


INSIDE = [
    "127.0.0.1", "10.1.1.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
    "0.0.0.0", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
    "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::",
    "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:0:127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_the_guard_refuses_what_is_inside(address: str) -> None:
    with pytest.raises(PrivateAddressError, match=f"leads to {address}, which is no public"):
        check_address(address, ())


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_the_guard_lets_public_addresses_through(address: str) -> None:
    check_address(address, ())


def test_the_guard_lets_through_what_the_setup_names() -> None:
    check_address("10.2.9.9", ("10.2.0.0/16",))
    with pytest.raises(PrivateAddressError):
        check_address("10.3.0.1", ("10.2.0.0/16",))


@pytest.mark.parametrize(
    "place",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0177.0.0.1", "0x7f.1",
     "0", "127.1", "user:pw@127.0.0.1", "①②⑦.0.0.1"],
)  # fmt: skip
def test_no_spelling_of_this_machine_is_asked(host: PictureHost, place: str) -> None:
    port = host.server_port
    sentence = reason(f"http://{place}:{port}/picture.jpg", FetchLimits(retries=0))
    assert "is no public address" in sentence or "is no URL" in sentence
    assert not host.requests


def test_a_name_is_connected_to_by_the_address_that_was_looked_at(
    host: PictureHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is looked at, and inside when it is asked again."""
    answers = iter(["8.8.8.8", "127.0.0.1", "127.0.0.1"])

    def resolve(name: str, port: int, *_: object, **__: object) -> list[Any]:
        address = (next(answers), port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

    sockets: list[tuple[str, int]] = []
    guarded = AddressGuard.socket

    def connect(guard: AddressGuard, info: tuple[Any, ...]) -> socket.socket:
        sockets.append(info[4])
        guarded(guard, info).close()
        raise ConnectionRefusedError("the test goes no further")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(AddressGuard, "socket", connect)
    url = f"http://shop.example:{host.server_port}/picture.jpg"
    assert "goes no further" in reason(url, FetchLimits(retries=0))
    assert sockets == [("8.8.8.8", host.server_port)]
    assert "leads to 127.0.0.1" in reason(url, FetchLimits(retries=0))
    assert len(sockets) == 1


def test_a_redirect_to_a_name_that_is_inside_is_refused(host: PictureHost) -> None:
    limits = replace(LOOPBACK, private_networks=("127.0.0.1/32",))
    target = f"http://127.0.0.2:{host.server_port}/picture.jpg"
    assert "it leads to 127.0.0.2" in reason(f"{host.url}/to?url={target}", limits)
    assert host.requests["/picture.jpg"] == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop" / "m").mkdir(parents=True)
    (tmp_path / "shop" / "m" / "tank top.jpg").write_bytes(JPEG)
    (tmp_path / "secret.jpg").write_bytes(jpeg("blue"))
    os.symlink(tmp_path / "secret.jpg", tmp_path / "shop" / "link.jpg")
    return tmp_path / "shop"


@pytest.mark.parametrize(
    "reference",
    ["m/tank top.jpg", "/m/tank top.jpg", "{}/m/tank top.jpg", "file://{}/m/tank%20top.jpg"],
)
def test_files_are_read_below_a_named_folder(folder: Path, reference: str) -> None:
    reference = reference.format(folder)
    result = fetch(reference, folders=[str(folder)])
    assert (result.content_hash, result.data) == (HASH, JPEG)
    again = fetch(reference, folders=[str(folder)], previous=PreviousFetch(HASH, result.etag, ""))
    assert again == FetchedPicture(HASH, None, result.etag)


@pytest.mark.parametrize(
    "reference", ["../secret.jpg", "{}/../secret.jpg", "link.jpg", "file:///etc/passwd",
                  "s3://bucket/a.jpg", "m/../../secret.jpg", "file://{}/%2e%2e/secret.jpg"],
)  # fmt: skip
def test_files_elsewhere_are_not(folder: Path, reference: str) -> None:
    sentence = reason(reference.format(folder), folders=[str(folder)])
    assert "it is not below" in sentence or "there is no such file below" in sentence
    assert "the setup names no folder" in reason(reference.format(folder))


def test_what_is_no_file_says_so(folder: Path) -> None:
    for reference in ("m", "none.jpg", "www.shop.example/a.jpg", "/etc/passwd"):
        assert "there is no such file below" in reason(reference, folders=[str(folder)])
    (folder / "large.jpg").write_bytes(bytes(2000))
    limits = replace(LOOPBACK, max_bytes=1000)
    assert "2,000 bytes" in reason("large.jpg", limits, folders=[str(folder)])
    assert "settings of a bucket" in reason("s3://b/a?endpoint_override=x", folders=["s3://b"])


def test_a_folder_may_be_any_uri_of_pyarrow(folder: Path) -> None:
    root = f"file://{folder}"
    assert fetch("m/tank top.jpg", folders=[root]).data == JPEG
    assert fetch(f"{root}/m/tank%20top.jpg", folders=[root]).data == JPEG


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("data:image/jpeg;base64", "a data: URI has a comma"),
        ("data:image/jpeg;base64,####", "is no base64"),
        ("picture:xyz", "a content hash in hex"),
        (stored_reference(HASH), "not in the home any more"),
    ],
)
def test_a_cell_that_holds_no_bytes_says_so(uri: str, sentence: str) -> None:
    assert sentence in reason(uri)


def test_a_cell_may_hold_the_picture(tmp_path: Path) -> None:
    uri = f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"
    assert fetch(uri) == FetchedPicture(HASH, JPEG)
    assert "and 100 are read" in reason(uri, replace(LOOPBACK, max_bytes=100))
    store = PictureStore(str(tmp_path), 1 << 20)
    reference = stored_reference(store.put(JPEG))
    assert fetch(reference, store=store) == FetchedPicture(HASH, JPEG)


def test_what_was_fetched_lies_in_the_home_until_it_is_too_much(
    host: PictureHost, tmp_path: Path
) -> None:
    store = PictureStore(str(tmp_path), cache_bytes=3 * len(JPEG))
    fetch(f"{host.url}/picture.jpg", store=store)
    assert store.get(HASH) == JPEG
    path = tmp_path / "pictures" / HASH.hex()[:2] / HASH.hex()
    os.utime(path, (1, 1))
    others = [store.put(jpeg(colour)) for colour in ("blue", "green", "white")]
    assert store.trim() == 1
    assert store.get(HASH) is None
    assert all(map(store.get, others))
    assert store.trim() == 0
    first = tmp_path / "pictures" / others[0].hex()[:2] / others[0].hex()
    first.write_bytes(b"damaged")
    assert store.get(others[0]) is None
