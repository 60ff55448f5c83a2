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
    """`encode_items`, kept in `folder`/logs for who asks again with the same encoder and the same
    texts."""
    digest = blake2b(digest_size=8)
    for text in texts:
        digest.update(text.encode("utf-8", "replace") + b"\0")
    kept = folder / "logs" / f"items-{encoder.space}-{digest.hexdigest()}.npy"
    if kept.exists():
        return np.load(kept, mmap_mode="r")
    vectors_ID = encoder.encode_items(texts)
    kept.parent.mkdir(parents=True, exist_ok=True)
    unfinished = kept.with_name(
        f".{uuid.uuid4().hex}.npy"
    )  # renamed when whole: several workers may write it
    np.save(unfinished, vectors_ID)
    unfinished.replace(kept)
    return vectors_ID
