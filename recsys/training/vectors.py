"""The catalogue's vectors, computed once for training and evaluation."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from recsys.interfaces import Encoder
from recsys.types import Floats


def item_vectors(encoder: Encoder, texts: Sequence[str], folder: Path) -> Floats:
    """`encode_items`, cached in `folder`/logs for who asks again with the same encoder and the same
    texts."""
    digest = blake2b(digest_size=8)
    for text in texts:
        digest.update(text.encode("utf-8", "replace") + b"\0")
    cached = folder / "logs" / f"items-{encoder.space}-{digest.hexdigest()}.npy"
    if cached.exists():
        return np.load(cached, mmap_mode="r")
    vectors_ID = encoder.encode_items(texts)
    cached.parent.mkdir(parents=True, exist_ok=True)
    unfinished = cached.with_name(
        f".{uuid.uuid4().hex}.npy"
    )  # renamed when whole: several workers may write it
    np.save(unfinished, vectors_ID)
    unfinished.replace(cached)
    return vectors_ID
