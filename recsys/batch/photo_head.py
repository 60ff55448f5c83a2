"""The head that photos are searched by, fitted on the catalogue's pictures: an item's main picture
is what the shop shows of it, its others are photos of it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from recsys.batch.plan import NightRun, ShardResult
from recsys.batch.stages import Stage
from recsys.pictures.descriptors import COLOURS, colour_histogram, describe
from recsys.release import files
from recsys.release.arrow import IdMap
from recsys.storage.streams import npy_pieces
from recsys.training.photo_head import fit_photo_head
from recsys.types import Floats, Ints

#: Photos that the head is fitted on, at most: the same number of times a second as many say no
#: more of 1,472 dimensions.
MAX_PHOTOS = 50_000


def photo_stages(night: NightRun) -> list[Stage]:
    """None where the setup reads no pictures."""
    return [Stage("photo head", 1, fit_head)] if night.setup.pictures else []


def fit_head(night: NightRun, shard: int) -> ShardResult:
    """Colours come from thumbnails; a night without these compares photos without colours."""
    pictures, vectors_GE = night.open_table(files.PICTURES), night.open_array(files.PICTURE_VECTORS)
    items = night.open_table(files.ITEMS).num_rows
    rows_G = IdMap(night.open_table(files.ITEMS)["item_id"]).rows(pictures["item_id"])
    main_G = np.asarray(pictures["place"]) == 0
    colours_GC = _colours(night, pictures)
    catalogue_IH = np.zeros((items, vectors_GE.shape[1] + COLOURS), np.float32)
    catalogue_IH[rows_G[main_G]] = describe(vectors_GE[main_G], colours_GC[main_G])
    photos = _photos(~main_G)
    head, photo_vectors_IH = fit_photo_head(
        catalogue_IH,
        np.any(catalogue_IH, axis=1),
        describe(vectors_GE[photos], colours_GC[photos]),
        rows_G[photos],
    )
    if not colours_GC.any():
        whitening_HH = head.whitening_HH.copy()
        whitening_HH[-COLOURS:] = 0
        head = replace(head, whitening_HH=whitening_HH)
    night.assemble(files.PHOTO_HEAD.name, head.to_bytes())
    night.assemble(files.PHOTO_VECTORS.name, npy_pieces([photo_vectors_IH]))
    return ShardResult(len(pictures), counts={"photos": len(photos)})


def _photos(photo_G: NDArray[np.bool_]) -> Ints:
    """Rows of photos, of too many evenly."""
    rows = np.flatnonzero(photo_G)
    return rows[:: max(1, -(-len(rows) // MAX_PHOTOS))]


def _colours(night: NightRun, pictures: pa.Table) -> Floats:
    """[G, COLOURS] of the pictures, zeros where there is no thumbnail."""
    colours_GC = np.zeros((len(pictures), COLOURS), np.float32)
    if not night.is_assembled(files.THUMBNAILS):
        return colours_GC
    rows_of: dict[bytes, list[int]] = {}
    for row, content in enumerate(pictures["content_hash"].to_pylist()):
        rows_of.setdefault(content, []).append(row)
    for batch in night.open_table(files.THUMBNAILS).to_batches():
        for content, thumbnail in zip(*batch.columns, strict=True):
            if rows := rows_of.pop(content.as_py(), []):
                picture = Image.open(io.BytesIO(thumbnail.as_py())).convert("RGB")
                colours_GC[rows] = colour_histogram(picture)
    return colours_GC
