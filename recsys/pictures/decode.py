"""Bytes to upright RGB pictures."""

from __future__ import annotations

import io

from PIL import Image, ImageOps, UnidentifiedImageError

from recsys.errors import InputError

#: The longest side of a decoded picture: no model reads more.
MAX_SIDE = 512


def decode_picture(data: bytes) -> Image.Image:
    """Turned as its EXIF says, transparency on white, at most MAX_SIDE pixels a side. Raises
    InputError for what is no picture."""
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        picture.thumbnail((MAX_SIDE, MAX_SIDE))
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{len(data):,} bytes are no picture ({error}): give a JPEG") from error
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        ground.alpha_composite(picture)
        picture = ground
    return picture.convert("RGB")
