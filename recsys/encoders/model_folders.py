"""Folders of Hugging Face models: where an id's lies, which files hold the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recsys.errors import NotFoundError

_WEIGHTS = ("*.safetensors", "*.bin")


def sample_weights(path: Path, digest: Any) -> None:
    """Size and 64 evenly spaced pieces of 16 KiB, first and last included: training moves every
    tensor."""
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        for start in np.linspace(0, max(0, size - 16_384), 64, dtype=np.int64):
            file.seek(int(start))
            digest.update(file.read(16_384))


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: safetensors where there are any."""
    return next(filter(None, (sorted(folder.glob(pattern)) for pattern in _WEIGHTS)), [])


def resolve_model(path_or_id: str) -> Path:
    """The folder itself, or the hub's snapshot of it: from the local cache, else downloaded."""
    folder = Path(path_or_id)
    if not folder.is_dir():
        folder = _snapshot(path_or_id)
    if not (folder / "config.json").exists() or not weight_files(folder):
        raise NotFoundError(
            f"{folder} has no config.json with weights: name a folder that a model was saved to"
        )
    return folder


def _snapshot(model_id: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        cached = Path(snapshot_download(model_id, local_files_only=True))
        if weight_files(cached):
            return cached
    except (OSError, ValueError):
        pass
    try:
        return Path(snapshot_download(model_id, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"there is no encoder at {model_id!r}: "
            "give a folder, or a Hugging Face id that is cached or reachable"
        ) from error
