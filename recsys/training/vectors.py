"""The catalogue's vectors, computed once for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recsys.interfaces import Encoder
from recsys.training.workers import rank
from recsys.types import Floats


def item_vectors(encoder: Encoder, texts: Sequence[str], folder: Path) -> Floats:
    """`encode_items`, kept in `folder`/logs for who asks again."""
    kept = folder / "logs" / f"items-{encoder.space}.npy"
    if kept.exists() and len(vectors_ID := np.load(kept, mmap_mode="r")) == len(texts):
        return vectors_ID
    vectors_ID = encoder.encode_items(texts)
    if rank() == 0:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, vectors_ID)
    return vectors_ID
