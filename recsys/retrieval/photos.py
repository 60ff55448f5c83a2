"""Which items a photo shows: cosines after a learned whitening of descriptors.

Legend: I items, N photos, H dimensions of a descriptor (`pictures.descriptors`)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.types import Floats


@dataclass(frozen=True, kw_only=True)
class PhotoHead:
    """`mean_H` of photos; `whitening_HH`, after which photos of one item differ by as much in all
    directions.

    A photo whose cosine to every item is below `min_cosine` shows none of them; None: there were
    too few photos to say where that begins."""

    mean_H: Floats
    whitening_HH: Floats
    min_cosine: float | None

    def queries(self, descriptors_NH: Floats) -> Floats:
        """[N, H] of length 1: cosines to what photos of the items look like (`fit_photo_head`) are
        inner products."""
        return unit((descriptors_NH - self.mean_H) @ self.whitening_HH)

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        bound = np.nan if self.min_cosine is None else self.min_cosine
        np.savez(
            buffer, mean=self.mean_H, whitening=self.whitening_HH, min_cosine=np.float64(bound)
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> PhotoHead:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            bound = float(arrays["min_cosine"])
            return cls(
                mean_H=arrays["mean"],
                whitening_HH=arrays["whitening"],
                min_cosine=None if np.isnan(bound) else bound,
            )


def unit(vectors_NH: NDArray[np.floating[Any]]) -> Floats:
    """Of length 1; zeros stay."""
    lengths_N1 = np.maximum(np.linalg.norm(vectors_NH, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors_NH / lengths_N1, np.float32)
