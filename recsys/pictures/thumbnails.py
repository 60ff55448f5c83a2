"""Small copies of pictures, for pages and the console."""

from __future__ import annotations

import io

from PIL import Image

#: The longest side in pixels.
THUMBNAIL_SIDE = 256
_QUALITY = 80


def thumbnail(picture: Image.Image) -> bytes:
    """WebP without metadata, at most THUMBNAIL_SIDE a side; the same bytes of the same picture."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    small.info.clear()
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=_QUALITY, method=4)
    return stream.getvalue()
