"""Bytes to pictures: what each format comes out as, and each bad input its sentence."""

from __future__ import annotations

import io
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from recsys.errors import InputError
from recsys.pictures.decode import decode_picture, read_picture
from recsys.pictures.thumbnails import thumbnail


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it is of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", size),
            chunk(b"IDAT", zlib.compress(bytes(99))),
            chunk(b"IEND", b""),
        ]
    )


def webp_header(side: int) -> bytes:
    """A lossless WebP of one pixel that says it is a square of this side."""
    data = encoded(Image.new("RGB", (1, 1)), "WEBP", lossless=True)
    return data[:21] + struct.pack("<I", (side - 1) | (side - 1) << 14) + data[25:]


def gif_header(side: int) -> bytes:
    size = struct.pack("<HH", side, side)
    return b"GIF89a" + size + b"\0\0\0,\0\0\0\0" + size + b"\0\x02\x02\x44\x01\0;"


def first_pixel(data: bytes) -> tuple[int, ...]:
    return decode_picture(data).getpixel((0, 0))  # type: ignore[return-value]


RED = Image.new("RGB", (40, 30), "red")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_each_format_comes_out_as_its_pixels(kind: str) -> None:
    read = read_picture(encoded(RED, kind))
    assert (read.picture.mode, read.picture.size, read.width, read.height) == (
        "RGB",
        (40, 30),
        40,
        30,
    )
    np.testing.assert_allclose(first_pixel(encoded(RED, kind)), (255, 0, 0), atol=6)


def test_heic_comes_out_as_its_pixels() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC needs the extra pictures")
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "green")).save(stream)
    assert decode_picture(stream.getvalue()).size == (64, 48)
    np.testing.assert_allclose(first_pixel(stream.getvalue()), (0, 128, 0), atol=6)


@pytest.mark.parametrize(
    ("picture", "kind", "pixel"),
    [
        (Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.fromarray(np.full((9, 9), 0x8040, np.uint16)), "PNG", (128, 128, 128)),
        (Image.new("I", (9, 9), 0x8040), "TIFF", (128, 128, 128)),
        (Image.new("L", (1, 1), 7), "PNG", (7, 7, 7)),
        (Image.new("1", (9, 9), 1), "PNG", (255, 255, 255)),
        (RED.quantize(4), "PNG", (255, 0, 0)),
        (Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "WEBP", (255, 255, 255)),
        (Image.new("LA", (9, 9), (0, 128)), "PNG", (127, 127, 127)),
    ],
    ids=[
        "cmyk",
        "16 bit",
        "32 bit",
        "1 x 1",
        "1 bit",
        "palette",
        "alpha",
        "webp alpha",
        "grey alpha",
    ],
)
def test_each_kind_of_pixel_is_rgb_on_white(
    picture: Image.Image, kind: str, pixel: tuple[int, ...]
) -> None:
    np.testing.assert_allclose(first_pixel(encoded(picture, kind)), pixel, atol=3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animated_picture_the_first_frame_is_read(kind: str) -> None:
    later = Image.new("RGB", RED.size, "blue")
    data = encoded(RED, kind, save_all=True, append_images=[later, later])
    np.testing.assert_allclose(first_pixel(data), (255, 0, 0), atol=6)


@pytest.mark.parametrize(
    ("tag", "corner"), [(1, "tl"), (2, "tr"), (3, "br"), (4, "bl"), (5, "tl"), (6, "tr"), (8, "bl")]
)
def test_a_picture_stands_as_its_exif_says_and_keeps_nothing_of_it(tag: int, corner: str) -> None:
    stored = Image.new("RGB", (600, 400), "white")
    stored.paste("red", (0, 0, 300, 200))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = tag, "a phone"
    read = read_picture(encoded(stored, "JPEG", exif=exif), side=300)
    at = {"t": 10, "b": -11, "l": 10, "r": -11}
    pixels = np.asarray(read.picture)
    assert (read.width, read.height) == ((400, 600) if tag > 4 else (600, 400))
    assert max(read.picture.size) == 300
    np.testing.assert_allclose(pixels[at[corner[0]], at[corner[1]]], (255, 0, 0), atol=9)
    assert read.picture.info == {}
    assert not read.picture.getexif()


def test_colours_are_read_by_their_profile() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert first_pixel(encoded(RED, "PNG", icc_profile=swapped)) == (255, 0, 0)  # not of RGB
    assert first_pixel(encoded(RED, "PNG", icc_profile=b"no profile")) == (255, 0, 0)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # The same primaries with the curve x ** 1.4: sRGB's own has that light at 142 / 255.
    lighter = re.sub(rb"sRGB", b"mine", srgb).replace(
        b"para\0\0\0\0\0\3\0\0\0\2", b"para\0\0\0\0\0\0\0\0\0\1"
    )
    grey = Image.new("RGB", (9, 9), (100, 100, 100))
    assert first_pixel(encoded(grey, "PNG", icc_profile=srgb)) == (100, 100, 100)
    assert first_pixel(encoded(grey, "PNG", icc_profile=lighter)) == (142, 142, 142)


PHOTO = encoded(Image.effect_noise((900, 700), 60).convert("RGB"), "JPEG")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"<html>moved</html>", "its 18 bytes are no picture"),
        (b"", "its 0 bytes are no picture"),
        (b"%PDF-1.4", "no picture: give a JPEG"),
        (PHOTO[: len(PHOTO) // 2], "are damaged (image file is truncated"),
        (png_header(20_000, 20_000), "more than the 50,000,000 that are decoded"),
        (png_header(8_000, 8_000), "8,000 x 8,000 pixels, more than the 50,000,000"),
        (webp_header(16_000), "more than the 50,000,000"),
        (gif_header(9_000), "9,000 x 9,000 pixels, more than"),
        (encoded(Image.new("F", (9, 9)), "TIFF"), "floating-point numbers"),
    ],
    ids=["html", "empty", "pdf", "cut off", "png bomb", "bomb", "webp bomb", "gif bomb", "floats"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_used_says_why(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)) as first:
        read_picture(data)
    with pytest.raises(InputError) as second:
        read_picture(data)
    assert str(first.value) == str(second.value)  # no address of an object: nights repeat it


@given(st.integers(0, len(PHOTO) - 1), st.binary(min_size=1, max_size=40))
def test_damaged_bytes_are_a_picture_or_a_sentence(at: int, noise: bytes) -> None:
    data = PHOTO[:at] + noise + PHOTO[at + len(noise) :]
    size, sentence = (64, 64), "its "
    try:
        size = decode_picture(data, 64).size
    except InputError as error:
        sentence = str(error)
    assert max(size) <= 64
    assert sentence.startswith("its ")


def test_many_threads_decode_the_same_pixels() -> None:
    alone = decode_picture(PHOTO).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: decode_picture(PHOTO).tobytes(), range(32))) == {alone}


def test_a_thumbnail_is_small_and_the_same_each_time() -> None:
    picture = decode_picture(PHOTO)
    data = thumbnail(picture)
    with Image.open(io.BytesIO(data)) as small:
        assert (small.format, small.size) == ("WEBP", (256, 199))
    assert data == thumbnail(decode_picture(PHOTO))
    assert picture.size == (512, 398)  # the picture itself stays as it is
