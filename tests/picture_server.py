"""A host of pictures that behaves as its paths say, on this machine's loopback."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qsl, urlsplit

from PIL import Image


def jpeg(colour: str = "red", size: tuple[int, int] = (80, 60)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "JPEG")
    return stream.getvalue()


JPEG = jpeg()
ETAG, DATE = '"v1"', "Mon, 30 Nov 2026 10:00:00 GMT"


class PictureHost(ThreadingHTTPServer):
    """`requests` by path; `most` of the slow ones at once; `begins` are the times of each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.begins: list[float] = []
        self.open = self.most = 0
        self.lock = threading.Lock()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PictureHost

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        with self.server.lock:
            self.server.requests[url.path] += 1
            self.server.headers.append(dict(self.headers))
            self.server.begins.append(time.monotonic())
        with suppress(OSError):  # the other side may have had enough
            getattr(self, url.path.split("/")[1].partition(".")[0])(**dict(parse_qsl(url.query)))

    def answer(self, status: int = 200, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def picture(self, **_: str) -> None:
        known = self.headers["If-None-Match"] == ETAG or self.headers["If-Modified-Since"] == DATE
        validators = {"ETag": ETAG, "Last-Modified": DATE}
        self.answer(304, **validators) if known else self.answer(200, JPEG, **validators)

    def slow(self) -> None:
        with self.server.lock:
            self.server.open += 1
            self.server.most = max(self.server.most, self.server.open)
        time.sleep(0.05)
        with self.server.lock:
            self.server.open -= 1
        self.answer(200, JPEG)

    def to(self, url: str) -> None:
        self.answer(302, Location=url)

    def circle(self) -> None:
        self.answer(302, Location="/circle")

    def chain(self, n: str) -> None:
        """`n` redirects, then the picture."""
        left = int(n) - 1
        self.answer(302, Location=f"/chain?n={left}" if left else "/picture.jpg")

    def status(self, code: str) -> None:
        self.answer(int(code))

    def flaky(self) -> None:
        first = self.server.requests["/flaky.jpg"] == 1
        self.answer(500) if first else self.answer(200, JPEG)

    def busy(self, after: str) -> None:
        first = self.server.requests["/busy"] == 1
        self.answer(429, Retry_After=after) if first else self.answer(200, JPEG)

    def hang(self) -> None:
        self.server.over.wait(20)

    def drip(self) -> None:
        """A byte of the body at a time."""
        self.send_response(200)
        self.end_headers()
        self._drip(b"x")

    def headers_drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
        self._drip(b"x")

    def _drip(self, byte: bytes) -> None:
        for _ in count():
            if self.server.over.wait(0.05):
                break
            self.wfile.write(byte)
            self.wfile.flush()

    def announced(self) -> None:
        self.answer(200, b"", Content_Length=str(30_000_000))

    def endless(self) -> None:
        """30 MB without a length before them."""
        self.send_response(200)
        self.end_headers()
        for _ in range(480):
            self.wfile.write(bytes(1 << 16))
        self.close_connection = True

    def short(self) -> None:
        """Less than it announces."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(JPEG)))
        self.end_headers()
        self.wfile.write(JPEG[:100])
        self.close_connection = True

    def page(self) -> None:
        self.answer(200, b"<html>log in</html>", Content_Type="text/html")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def picture_host() -> Iterator[PictureHost]:
    host = PictureHost()
    thread = threading.Thread(target=host.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.over.set()
        host.shutdown()
        host.server_close()
        thread.join()
