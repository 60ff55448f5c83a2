"""Pictures of one colour, and an encoder whose vector is the colour."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recsys.types import Floats

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (200, 100, 50)]


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> bytes:
    """A PNG."""
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def write_picture(path: Path, colour: tuple[int, int, int]) -> str:
    """Where it lies."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture(colour))
    return str(path)


class ColourEncoder:
    """Fails on black. Counts what it encodes in the file `log`."""

    dim, side = 12, 2

    def __init__(self, space: str = "colours", log: str = "") -> None:
        self.space, self.log = space, log

    def pixels(self, pictures: Sequence[Image.Image]) -> NDArray[np.uint8]:
        small = [np.asarray(each.resize((2, 2))) for each in pictures]
        return np.stack(small) if small else np.empty((0, 2, 2, 3), np.uint8)

    def load(self) -> None: ...

    def encode_pixels(self, pixels_NSSC: NDArray[np.uint8]) -> Floats:
        flat_ND = pixels_NSSC.reshape(len(pixels_NSSC), 12).astype(np.float32)
        if not flat_ND.any(axis=1).all():
            raise ValueError("black")
        if self.log:
            with open(self.log, "a") as file:
                file.write("x" * len(flat_ND))
        return flat_ND / np.linalg.norm(flat_ND, axis=1, keepdims=True)
