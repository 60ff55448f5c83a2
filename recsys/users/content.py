"""Content features of items, before any event: text, words and price.

Three parts are concatenated: the language model's vector; latent semantic analysis of the words of
its fields (Deerwester et al. 1990), which separates items that the language model finds alike, and
knows the shop's own codes; the logarithm of its price. Legend: I items, W word
buckets, K latent dimensions, C = D + K + 1 features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recsys.retrieval.text.tfidf import inverse_document_frequencies, term_counts, tfidf_vectors
from recsys.types import Floats, Mask
from recsys.users.recency import unit_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LATENT = 128
#: Most items that the statistics are taken from.
SAMPLE = 100_000
#: Added to the covariance's diagonal, as a share of its mean: few items predict little.
RIDGE = 0.05


@dataclass(frozen=True, kw_only=True)
class ContentFeatures:
    """A catalogue's statistics, from which the features of its items are computed: `inverse_W`
    document frequencies, `latent_WK`, `mean_C` and `covariance_CC`.

    `price_mean` and `price_deviation` are of log(1 + price).
    """

    inverse_W: Floats
    latent_WK: Floats
    price_mean: float
    price_deviation: float
    mean_C: Floats
    covariance_CC: Floats

    @classmethod
    def fit(
        cls, items: pa.Table, vectors_ID: Floats, latent: int = LATENT, seed: int = 0
    ) -> ContentFeatures:
        """From the catalogue (columns of `tables.ITEMS`) and its encoded texts, or SAMPLE items of
        it."""
        if items.num_rows > SAMPLE:
            chosen = np.sort(
                np.random.default_rng(seed).choice(items.num_rows, SAMPLE, replace=False)
            )
            items, vectors_ID = items.take(chosen), vectors_ID[chosen]
        counts_IW = term_counts(items)
        inverse_W = inverse_document_frequencies(counts_IW)
        latent_WK = _latent(tfidf_vectors(counts_IW, inverse_W), latent, seed)
        logs = _log_prices(items)
        logs = logs[~np.isnan(logs)]
        unfitted = cls(
            inverse_W=inverse_W,
            latent_WK=latent_WK,
            price_mean=float(logs.mean()) if len(logs) else 0.0,
            price_deviation=(float(logs.std()) or 1.0) if len(logs) else 1.0,
            mean_C=np.zeros(0, np.float32),
            covariance_CC=np.zeros((0, 0), np.float32),
        )
        mean_C, covariance_CC = _moments(*unfitted._parts(items, vectors_ID))
        return replace(unfitted, mean_C=mean_C, covariance_CC=covariance_CC)

    def save(self, path: Path) -> None:
        """As safetensors."""
        arrays = {name: np.atleast_1d(value) for name, value in vars(self).items()}
        save_file(arrays, path)

    @classmethod
    def load(cls, path: Path) -> ContentFeatures:
        """What `save` wrote."""
        arrays = load_file(path)
        mean, deviation = (float(arrays.pop(f"price_{name}")[0]) for name in ("mean", "deviation"))
        return cls(price_mean=mean, price_deviation=deviation, **arrays)

    def features(self, items: pa.Table, vectors_ID: Floats) -> Floats:
        """[I, C] float32, centred; a missing part (price, words or vector) is imputed, not zeroed.

        It is the missing part's conditional mean given the observed ones under one Gaussian over
        all three, m + S_mo (S_oo + ridge)^-1 (x_o - o), fitted to the catalogue. An item without
        any part is the mean."""
        parts_IC, observed_IC = self._parts(items, vectors_ID)
        centred_IC = np.where(observed_IC, parts_IC - self.mean_C, 0).astype(np.float32)
        starts = [0, vectors_ID.shape[1], vectors_ID.shape[1] + self.latent_WK.shape[1]]
        patterns_I3 = observed_IC[:, starts]
        for pattern in product((False, True), repeat=3):
            rows = np.flatnonzero((patterns_I3 == pattern).all(axis=1))
            if len(rows) and any(pattern) and not all(pattern):
                observed_C = observed_IC[rows[0]]
                centred_IC[np.ix_(rows, ~observed_C)] = centred_IC[
                    np.ix_(rows, observed_C)
                ] @ self._imputation(observed_C)
        return centred_IC

    def _imputation(self, observed_C: Mask) -> Floats:
        """[o, m]: the regression of the missing features on the observed ones."""
        covariance_oo = self.covariance_CC[np.ix_(observed_C, observed_C)].astype(np.float64)
        covariance_oo[np.diag_indices_from(covariance_oo)] += RIDGE * np.mean(
            np.diag(covariance_oo)
        )
        return np.linalg.solve(
            covariance_oo, self.covariance_CC[np.ix_(observed_C, ~observed_C)]
        ).astype(np.float32)

    def _parts(self, items: pa.Table, vectors_ID: Floats) -> tuple[Floats, Mask]:
        """The concatenated parts, zeros where one is missing; and which are observed."""
        words_IK = unit_rows(tfidf_vectors(term_counts(items), self.inverse_W) @ self.latent_WK)
        prices_I = ((_log_prices(items) - self.price_mean) / self.price_deviation)[:, None]
        # A price is one number among hundreds: its whole spread is one length of a text.
        prices_I1 = np.clip(prices_I, -3, 3) / 3
        observed = vectors_ID.any(axis=1), words_IK.any(axis=1), ~np.isnan(prices_I1[:, 0])
        widths = vectors_ID.shape[1], words_IK.shape[1], 1
        parts_IC = np.concatenate(
            [vectors_ID, words_IK, np.nan_to_num(prices_I1)], axis=1, dtype=np.float32
        )
        return parts_IC, np.repeat(np.stack(observed, axis=1), widths, axis=1)


def _latent(weighted_IW: csr_array, latent: int, seed: int) -> Floats:
    """[W, K]: the right singular vectors of the largest singular values, zeros where there are
    fewer."""
    from scipy.sparse.linalg import svds

    most = min(latent, min(weighted_IW.shape) - 1)
    latent_WK = np.zeros((weighted_IW.shape[1], latent), np.float32)
    if most > 0 and weighted_IW.nnz:
        _, sizes, vectors = svds(weighted_IW, most, random_state=seed)
        real = (
            sizes > 1e-4 * sizes.max()
        )  # vectors of the others are arbitrary, on words that no item has
        latent_WK[:, : real.sum()] = vectors[real][::-1].T
    return latent_WK


def _log_prices(items: pa.Table) -> NDArray[np.float64]:
    """log(1 + price), NaN without one."""
    prices = np.asarray(items["price"].cast(pa.float64()).to_numpy(), np.float64)
    return np.log1p(np.where(prices >= 0, prices, np.nan))


def _moments(parts_IC: Floats, observed_IC: Mask) -> tuple[Floats, Floats]:
    """Mean and covariance, each entry over the items that have both."""
    counts_C = np.maximum(observed_IC.sum(axis=0), 1)
    mean_C = parts_IC.sum(axis=0, dtype=np.float64) / counts_C
    centred_IC = np.where(observed_IC, parts_IC - mean_C, 0).astype(np.float32)
    weights_IC = observed_IC.astype(np.float32)
    together_CC = np.maximum(weights_IC.T @ weights_IC, 1)
    return mean_C.astype(np.float32), (centred_IC.T @ centred_IC / together_CC).astype(np.float32)
