"""Any Hugging Face vision model as a picture encoder, and CLIP or SigLIP as one of pictures and
words, from a folder or by its id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recsys.encoders.efficientnet import padded_square
from recsys.encoders.model_folders import resolve_model, sample_weights, weight_files
from recsys.errors import InputError, NotFoundError
from recsys.pretrained import load_pretrained
from recsys.types import Floats

PicturePooling = Literal["cls", "mean", "pooler"]
#: Pictures in one call of the model.
CPU_BATCH, GPU_BATCH = 8, 256


class Preparation(NamedTuple):
    """How a model wants its pictures: side in pixels, Pillow's resampling, and what makes a byte to
    a model's number: (byte * scale - mean) / std."""

    side: int
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path) -> Preparation:
        """From the folder's image processor. InputError where that has no one size."""
        fields = _processor_fields(folder)
        side = _side(fields.get("crop_size")) or _side(fields.get("size"))
        if not side:
            raise InputError(
                f"the image processor of {folder} has no one size: name a model of square pictures"
            )
        normal = fields.get("do_normalize", True)
        return cls(
            side=side,
            resample=int(fields.get("resample", Image.Resampling.BICUBIC)),
            scale=float(fields.get("rescale_factor", 1 / 255)),
            mean=tuple(fields["image_mean"]) if normal else (0.0, 0.0, 0.0),
            std=tuple(fields["image_std"]) if normal else (1.0, 1.0, 1.0),
        )


def _processor_fields(folder: Path) -> dict[str, Any]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (path := folder / name).exists():
            fields = json.loads(path.read_bytes())
            return fields.get("image_processor", fields)
    raise NotFoundError(
        f"{folder} has no preprocessor_config.json: save the model's image processor there"
    )


def _side(size: Any) -> int:
    """Of `224`, or of a square's height or shortest edge; 0 where it is none of these."""
    if isinstance(size, dict):
        if size.get("height") != size.get("width"):
            return 0
        size = size.get("height") or size.get("shortest_edge")
    return int(size or 0)


class VisionEncoder:
    """The whole picture, padded to a square with white, through a vision model to a unit vector.

    Making one reads configurations and a MiB of the weights."""

    def __init__(
        self,
        path_or_id: str,
        *,
        pooling: PicturePooling = "cls",
        device: str | None = None,
        threads: int | None = None,
        name: str | None = None,
    ) -> None:
        """`pooling` is of the last hidden states: the first, their mean, or the model's own head; a
        convolutional network's map is averaged. `device` is a GPU where there is one."""
        if pooling not in ("cls", "mean", "pooler"):
            raise InputError(f"pooling {pooling!r} is unknown: use cls, mean or pooler")
        self.folder = resolve_model(path_or_id)
        self.pooling, self.device, self.threads = pooling, device, threads
        self.preparation = Preparation.read(self.folder)
        self.side = self.preparation.side
        self.config = json.loads((self.folder / "config.json").read_bytes())
        self.dim = self._read_dim()
        self.space = f"{name or Path(path_or_id).name}-{self.dim}-{self._fingerprint()}"

    def pixels(self, pictures: Sequence[Image.Image]) -> NDArray[np.uint8]:
        resample = Image.Resampling(self.preparation.resample)
        squares = [np.asarray(padded_square(each, self.side, resample)) for each in pictures]
        return np.stack(squares or [np.empty((0, self.side, self.side, 3), np.uint8)])

    def load(self) -> None:
        _ = self._model

    def encode_pixels(self, pixels_NSSC: NDArray[np.uint8]) -> Floats:
        import torch

        model = self._model
        size = GPU_BATCH if model.device.type == "cuda" else CPU_BATCH
        with torch.inference_mode():
            batches = [
                self._encode(torch.from_numpy(pixels_NSSC[start : start + size]))
                for start in range(0, len(pixels_NSSC), size)
            ]
            if not batches:
                return np.empty((0, self.dim), np.float32)
            return torch.cat(batches).cpu().numpy()  # a GPU is waited for once

    def _encode(self, pixels_NSSC: Any) -> Any:
        import torch

        model = self._model
        pixels_NSSC = pixels_NSSC.to(model.device, non_blocking=True).float()
        mean, std = (torch.tensor(each, device=model.device) for each in self.preparation[3:])
        inputs_NSSC = (pixels_NSSC * self.preparation.scale - mean) / std
        vectors_ND = self._pooled(inputs_NSSC.permute(0, 3, 1, 2).to(model.dtype))
        return torch.nn.functional.normalize(vectors_ND.float(), dim=1)

    def _pooled(self, inputs_NCSS: Any) -> Any:
        output = self._model(pixel_values=inputs_NCSS)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3))
        if self.pooling == "pooler":
            return output.pooler_output
        return hidden[:, 0] if self.pooling == "cls" else hidden.mean(dim=1)

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModel

        return load_pretrained(AutoModel, self.folder, self.device, self.threads)

    def _read_dim(self) -> int:
        sizes = self.config.get("hidden_sizes")
        return int(sizes[-1] if sizes else self.config["hidden_size"])

    def _fingerprint(self) -> str:
        """8 hex digits over config, preparation, pooling and a sample of the weights."""
        digest = hashlib.blake2b(digest_size=4)
        digest.update(json.dumps([self.pooling, self.preparation]).encode())
        digest.update((self.folder / "config.json").read_bytes())
        for path in weight_files(self.folder):
            sample_weights(path, digest)
        return digest.hexdigest()


class JointVisionEncoder(VisionEncoder):
    """CLIP, SigLIP and others whose texts lie in one space with their pictures."""

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """[N, dim] float32, each row of length 1."""
        import torch

        if not texts:
            return np.empty((0, self.dim), np.float32)
        model, tokenizer = self._model, self._tokenizer
        length = self.config.get("text_config", {}).get("max_position_embeddings", 77)
        # SigLIP was trained on texts of one length; CLIP does not mind.
        tokens = tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=min(length, tokenizer.model_max_length),
            return_tensors="pt",
        ).to(model.device)
        with torch.inference_mode():
            vectors_ND = _tensor(model.get_text_features(**tokens)).float()
            return torch.nn.functional.normalize(vectors_ND, dim=1).cpu().numpy()

    def _pooled(self, inputs_NCSS: Any) -> Any:
        return _tensor(self._model.get_image_features(pixel_values=inputs_NCSS))

    def _read_dim(self) -> int:
        text = self.config.get("text_config", {})
        sizes = (self.config.get("projection_dim"), text.get("projection_size"))
        return int(next(filter(None, sizes), 0) or text.get("hidden_size", 768))

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)


def _tensor(output: Any) -> Any:
    """transformers 5 returns an object, 4 a tensor."""
    return getattr(output, "pooler_output", output)


def vision_encoder(path_or_id: str, **options: Any) -> VisionEncoder:
    """A joint encoder where the model has texts, else one of pictures alone."""
    config = json.loads((resolve_model(path_or_id) / "config.json").read_bytes())
    kind = JointVisionEncoder if "text_config" in config else VisionEncoder
    return kind(path_or_id, **options)
