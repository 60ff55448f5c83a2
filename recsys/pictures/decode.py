"""Bytes to upright RGB pictures without metadata."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from recsys.errors import InputError

#: The longest side of a decoded picture: no model reads more.
MAX_SIDE = 512
#: Of a picture as it is stored, told by its header: 200 MB while it is decoded.
MAX_PIXELS = 50_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
#: How an HEIC begins, from byte 4.
_HEIF = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))
#: 1: JPEGs are reduced while they are decoded, to no less than what is needed. Twice as many
#: pictures a second as with 2; a root mean square of .7 of 255 from none (300 kB photos).
_REDUCING_GAP = 1.0
#: By the EXIF tag of orientation (0x0112).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NEXT = "give a JPEG, PNG, WebP or GIF"
_TOO_MANY = f"more than the {MAX_PIXELS:,} that are decoded: give a smaller picture"


class DecodedPicture(NamedTuple):
    """`width` and `height` are those that it has upright and unreduced."""

    picture: Image.Image
    width: int
    height: int


def decode_picture(data: bytes, side: int = MAX_SIDE) -> Image.Image:
    """The picture of `read_picture`."""
    return read_picture(data, side).picture


def read_picture(data: bytes, side: int = MAX_SIDE) -> DecodedPicture:
    """Turned as its EXIF says, the first of several frames, colours as sRGB, transparency on white,
    at most `side` pixels a side. Many threads may decode at once.

    Raises InputError for what is no picture, is cut off, or has more than MAX_PIXELS."""
    try:
        with _open(data) as stored:
            width, height = stored.size
            if width * height > MAX_PIXELS:
                raise InputError(f"{width:,} x {height:,} pixels, {_TOO_MANY}")
            turn = _TURNS.get(_orientation(stored))
            picture = _in_8_bits(stored)
            picture.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)
            upright = picture if turn is None else picture.transpose(turn)
            if turn is not None and turn in (*_TURNS.values(),)[3:]:
                width, height = height, width
            return DecodedPicture(_on_white(_in_srgb(upright)), width, height)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"its pixels are {_TOO_MANY}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"its {len(data):,} bytes are no picture: {_NEXT}") from error
    except Exception as error:  # damaged bytes lead decoders to raise anything
        reason = error if isinstance(error, OSError) else type(error).__name__
        raise InputError(f"its {len(data):,} bytes are damaged ({reason}): {_NEXT}") from error


def _open(data: bytes) -> Image.Image:
    if data[4:].startswith(_HEIF):
        return _heif_opener()(io.BytesIO(data))
    Image.init()  # so that all of the formats are there to be named
    return Image.open(io.BytesIO(data), formats=_FORMATS)


@cache
def _heif_opener() -> Callable[[io.BytesIO], Image.Image]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise InputError(
            f"HEIC needs pillow-heif: pip install 'nightshelf[pictures]', or {_NEXT}"
        ) from error
    return HeifImageFile


def _orientation(stored: Image.Image) -> int:
    try:
        return int(stored.getexif().get(0x0112, 1))
    except Exception:  # a picture with damaged EXIF is one nevertheless
        return 1


def _in_8_bits(stored: Image.Image) -> Image.Image:
    """In a mode that can be reduced. Pictures of 16 bits keep the upper 8; floats have no scale."""
    if stored.mode.startswith("I"):
        values = np.asarray(stored).astype(np.int64)
        shift = 8 if values.max(initial=0) > 255 else 0
        return Image.fromarray((values >> shift).clip(0, 255).astype(np.uint8))
    if stored.mode == "F":
        raise InputError(f"its pixels are floating-point numbers, of no known scale: {_NEXT}")
    if stored.mode in ("1", "P", "PA", "LA", "La"):
        alpha = stored.has_transparency_data
        return stored.convert("RGBA" if alpha else "RGB")
    return stored


def _in_srgb(picture: Image.Image) -> Image.Image:
    """By its colour profile, where it has another than sRGB that can be read."""
    profile = picture.info.get("icc_profile")
    if not profile or b"sRGB" in profile or picture.mode not in ("RGB", "CMYK", "L"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        changed = ImageCms.profileToProfile(picture, source, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return picture
    return picture if changed is None else changed


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _on_white(picture: Image.Image) -> Image.Image:
    """A new picture, which has nothing of the file but its pixels."""
    ground = Image.new("RGB", picture.size, "white")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground.paste(picture, mask=picture.getchannel("A"))
    else:
        ground.paste(picture.convert("RGB"))
    return ground
