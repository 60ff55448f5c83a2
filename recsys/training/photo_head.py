"""Fits a `PhotoHead` on a shop's own photos of its items: seconds on a CPU.

Legend: I items, N photos, H dimensions of a descriptor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.retrieval.photos import PhotoHead, unit
from recsys.types import Floats, Ints, Mask

#: The catalogue's picture counts as this many photos of its item. Chosen on grocery's valid part
#: of 0, 1, 2 and 4: .770, .784, .797 and .784 of the photos find their product first.
CATALOGUE_PHOTOS = 2.0
#: So many photos of the shop's kind of goods, but of none that it sells, are refused. Chosen on the
#: same part of .01, .05 and .1: .95, .91 and .88 of the photos are answered.
REFUSED_SHARE = 0.01
#: Fewer photos say nothing of the share above.
MIN_CALIBRATED = 100


def fit_photo_head(
    catalogue_IH: Floats, pictured_I: Mask, photos_NH: Floats, rows_N: Ints
) -> tuple[PhotoHead, Floats]:
    """The head; and [I, H] what a photo of each item looks like to it, of length 1, or zeros where
    an item has neither picture nor photo.

    `catalogue_IH` describes the items' catalogue pictures (of those in `pictured_I`), and photo
    n shows item `rows_N[n]`; -1: nobody knows what, and it says only what photos are like.

    A photo of an item looks like the mean of its photos, among which its catalogue picture counts
    as CATALOGUE_PHOTOS, after what all photos have in common, and all catalogue pictures, is taken
    off them. By how much photos of one item differ is a covariance; without photos it is the same
    in all directions."""
    mean_H, catalogue_mean_H = _mean(photos_NH), _mean(catalogue_IH[pictured_I])
    mean_H = mean_H if len(photos_NH) else catalogue_mean_H
    labelled_N = rows_N >= 0
    photos_NH, rows_N = photos_NH[labelled_N] - mean_H, rows_N[labelled_N]
    counts_I1 = np.bincount(rows_N, minlength=len(catalogue_IH))[:, None].astype(np.float32)
    sums_IH = np.zeros_like(catalogue_IH)
    np.add.at(sums_IH, rows_N, photos_NH)
    own_means_IH = sums_IH / np.maximum(counts_I1, np.float32(1))
    residuals_NH = np.asarray(photos_NH - own_means_IH[rows_N], np.float32)
    freedom = len(rows_N) - int((counts_I1 > 0).sum())
    covariance_HH = shrunk_covariance(residuals_NH, freedom)
    whitening_HH = np.linalg.inv(np.linalg.cholesky(covariance_HH)).T.astype(np.float32)
    prior_I1 = CATALOGUE_PHOTOS * pictured_I[:, None].astype(np.float32)
    means_IH = (sums_IH + prior_I1 * (catalogue_IH - catalogue_mean_H)) / np.maximum(
        counts_I1 + prior_I1, 1
    )
    items_IH = unit(means_IH @ whitening_HH)
    bound = _min_cosine(unit(photos_NH @ whitening_HH), items_IH, rows_N)
    return PhotoHead(mean_H=mean_H, whitening_HH=whitening_HH, min_cosine=bound), items_IH


def _mean(vectors_NH: Floats) -> Floats:
    mean_H = vectors_NH.mean(axis=0) if len(vectors_NH) else np.zeros(vectors_NH.shape[1])
    return np.asarray(mean_H, np.float32)


def shrunk_covariance(residuals_NH: Floats, freedom: int) -> NDArray[np.float64]:
    """[H, H]: that of residuals about `len - freedom` means, moved towards a multiple of the
    identity by the share that is best on average (Ledoit & Wolf 2004, eq. 14). The identity where
    there is none."""
    size, dim = residuals_NH.shape
    if freedom < 1 or not np.any(residuals_NH):
        return np.eye(dim)
    x = residuals_NH.astype(np.float64) * np.sqrt(size / freedom)
    sample_HH = x.T @ x / size
    scale = np.trace(sample_HH) / dim
    distance = (sample_HH**2).sum() - dim * scale**2
    noise = (((x**2).sum(axis=1) ** 2).sum() / size - (sample_HH**2).sum()) / size
    share = float(np.clip(noise / distance, 0.01, 1)) if distance > 0 else 1.0
    return (1 - share) * sample_HH + share * scale * np.eye(dim)


def _min_cosine(photos_NH: Floats, items_IH: Floats, rows_N: Ints) -> float | None:
    """Photos whose own item is left out are photos of what the shop might sell and does not: all
    but a few of them are nearer to some other item than this. So a good photo in another light is
    kept, and one of other things refused."""
    if len(rows_N) < MIN_CALIBRATED or len(np.unique(rows_N)) < 2:
        return None
    cosines_NI = photos_NH @ items_IH.T
    cosines_NI[np.arange(len(rows_N)), rows_N] = -1
    return float(np.quantile(cosines_NI.max(axis=1), REFUSED_SHARE))
