"""Pictures of the default shop's items: drawings of an open set, tinted into the colours that the
things come in.

The drawings are the files of `drawings/` (Microsoft's Fluent emoji, MIT: `drawings/LICENSE`); a
colour moves the pixels of the drawing's main hue in OKLab, so that shades and highlights stay."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recsys.demo.product_types import Colour, colours, product_types

_Pixels = NDArray[np.float64]
DRAWINGS = Path(__file__).parent / "drawings"
#: Pixels less colourful than this in OKLab are grey; a drawing with few others is tinted in them.
_GREY, _COLOURFUL_SHARE = 0.035, 0.12
#: Hues this near the main one (degrees) are tinted wholly, and at the second distance not at all.
_NEAR, _FAR = 45.0, 75.0
# Björn Ottosson, A perceptual color space for image processing (2020): linear sRGB to LMS, whose
# cube roots become OKLab.
_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def picture_keys() -> list[tuple[str, str]]:
    """Drawing and colour of every distinct picture that the catalogue may name."""
    keys = {(each.picture, colour) for each in product_types() for colour in each.colours or ("",)}
    return sorted(keys)


def picture_name(drawing: str, colour: str) -> str:
    return f"{drawing}-{colour}.webp" if colour else f"{drawing}.webp"


def write_pictures(folder: Path) -> None:
    """All of them, the same bytes whenever it runs."""
    folder.mkdir()
    for drawing, colour in picture_keys():
        data = (DRAWINGS / f"{drawing}.webp").read_bytes()
        if colour:
            data = _webp(tint(Image.open(io.BytesIO(data)), colours()[colour]))
        (folder / picture_name(drawing, colour)).write_bytes(data)


def tint(picture: Image.Image, colour: Colour) -> Image.Image:
    """The picture (RGBA) with its main colour replaced."""
    pixels = np.asarray(picture.convert("RGBA"), np.float64) / 255
    lab, opacity = _to_oklab(pixels[..., :3]), pixels[..., 3]
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360
    weights = _main_part(hue, chroma, opacity)
    total = max((weights * opacity).sum(), 1e-6)
    lightness, strength = (
        float((w * weights * opacity).sum() / total) for w in (lab[..., 0], chroma)
    )
    main = _main_hue(hue, chroma * opacity)
    bend = np.radians(colour.hue + 0.35 * _turn(hue - main))
    ratio = np.clip(chroma / max(strength, _GREY), 0.25, 1.6)
    level = _level(lab[..., 0], lightness, colour.lightness)
    target = np.stack(
        [level, colour.chroma * ratio * np.cos(bend), colour.chroma * ratio * np.sin(bend)], axis=-1
    )
    mixed = lab + weights[..., None] * (target - lab)
    rgba = np.concatenate([_from_oklab(mixed), opacity[..., None]], axis=-1)
    return Image.fromarray(np.round(rgba * 255).astype(np.uint8), "RGBA")


def _level(lightness: _Pixels, mean: float, wish: float) -> _Pixels:
    """Lightness around another mean: shades below it and highlights above keep their room."""
    below = wish * lightness / max(mean, 1e-6)
    above = wish + (lightness - mean) * (1 - wish) / max(1 - mean, 1e-6)
    return np.where(lightness < mean, below, above)


def _main_part(hue: _Pixels, chroma: _Pixels, opacity: _Pixels) -> _Pixels:
    """[H, W] 0..1: how far each pixel is of the main colour."""
    if (opacity * (chroma > _GREY)).sum() < _COLOURFUL_SHARE * opacity.sum():
        return np.clip(1 - (chroma - _GREY) / _GREY, 0, 1)
    distance = np.abs(_turn(hue - _main_hue(hue, chroma * opacity)))
    near = np.clip((_FAR - distance) / (_FAR - _NEAR), 0, 1)
    return near * np.clip(chroma / _GREY - 0.3, 0, 1)


def _main_hue(hue: _Pixels, mass: _Pixels) -> float:
    """The middle of the 30 degrees that have the most colour."""
    bins = np.bincount((hue.ravel() // 10).astype(int) % 36, mass.ravel(), 36)
    smooth = bins + np.roll(bins, 1) + np.roll(bins, -1)
    return 10.0 * int(smooth.argmax()) + 5


def _turn(degrees: _Pixels) -> _Pixels:
    """The same angle between -180 and 180."""
    return (degrees + 180) % 360 - 180


def _to_oklab(rgb: _Pixels) -> _Pixels:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _LMS.T) @ _LAB.T


def _from_oklab(lab: _Pixels) -> _Pixels:
    linear = np.clip((lab @ np.linalg.inv(_LAB).T) ** 3 @ np.linalg.inv(_LMS).T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _webp(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=82, method=2)
    return file.getvalue()
