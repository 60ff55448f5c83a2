"""What a setup says of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recsys.interfaces import PictureEncoder


@dataclass(frozen=True, kw_only=True)
class PictureChoices:
    """How the night reads the items' pictures; `encoder` makes vectors of them."""

    encoder: Callable[[], PictureEncoder]
