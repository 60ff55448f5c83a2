"""Approximate nearest neighbours: a faiss IVF index, for catalogues where scoring every item takes
too long."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from recsys.arrays import Candidates, Histories, Requests
from recsys.retrieval.vectors.exact import (
    Exclude,
    check_k,
    inner_products,
    mask_zero_queries,
    merge_top_k,
    top_k,
)
from recsys.types import Floats, Ints, Mask, Rows


def build_ivf(items_ID: Floats, seed: int = 0) -> Any:
    """A faiss IVF index by inner product over all rows; the same rows and seed give the same index.

    About 4 sqrt(I) lists, each with at least the 39 training points that faiss asks for.
    """
    faiss = import_faiss()
    items, dim = items_ID.shape
    if not items:
        raise ValueError("there are no items to index: ExactRetriever answers an empty catalogue")
    lists = max(1, min(int(4 * items**0.5), items // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed
    vectors_ID = np.ascontiguousarray(items_ID, np.float32)
    index.train(vectors_ID)
    index.add(vectors_ID)
    return index


def write_ivf(index: Any, path: Path) -> None:
    """The same index gives the same bytes."""
    import_faiss().write_index(index, str(path))


def open_ivf(path: Path) -> Any:
    """The index memory-mapped: processes of one host share its pages."""
    faiss = import_faiss()
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)


class IvfRetriever:
    """Nearest items of the requests' vectors in the probed lists, without purchased ones.

    Falls back to the exact `top_k` where the index does badly: for requests that the probed lists
    leave short, and filters that allow no more rows than a probe would read anyway."""

    def __init__(
        self, source: str, index: Any, items_ID: Floats, probes: int | None = None
    ) -> None:
        """`probes` lists are read per request: by default 1 in 12, at least 8."""
        if index.ntotal != len(items_ID) or index.d != items_ID.shape[1]:
            raise ValueError(
                f"the index holds {index.ntotal} vectors of {index.d} dimensions and the release "
                f"{len(items_ID)} of {items_ID.shape[1]}: build the index from this release"
            )
        self.source = source
        self.index = index
        self.items_ID = items_ID
        self.probes = min(index.nlist, probes or max(8, index.nlist // 12))

    def retrieve(self, requests: Requests, k: int, allowed: Mask | None = None) -> Candidates:
        check_k(k)
        if requests.vectors_BD is None:
            return Candidates.none(self.source, requests.size)
        vectors_BD = np.ascontiguousarray(requests.vectors_BD, np.float32)
        exclude = (requests.histories or Histories.empty(requests.size)).bought()
        probed = len(self.items_ID) * self.probes // self.index.nlist
        if allowed is not None and np.count_nonzero(allowed) <= probed:
            rows_BK, scores_BK = top_k(
                vectors_BD, self.items_ID, k, allowed_I=allowed, exclude=exclude
            )
        else:
            rows_BK, scores_BK = self._search(vectors_BD, k, allowed, exclude)
        return Candidates(self.source, *mask_zero_queries(vectors_BD, rows_BK, scores_BK))

    def score(self, requests: Requests, rows_BN: Rows) -> Floats:
        """Inner products of these rows; 0 where the request has no vector."""
        return inner_products(requests, self.items_ID, rows_BN)

    def _search(
        self, vectors_BD: Floats, k: int, allowed: Mask | None, exclude: Exclude
    ) -> tuple[Rows, Floats]:
        """Over-fetches by the longest exclusion list, drops the excluded, and scores exactly the
        requests left short."""
        fetched = k + int(np.diff(exclude[0]).max(initial=0))
        scores_BN, rows_BN = self.index.search(
            vectors_BD, fetched, params=self._parameters(allowed)
        )
        rows_BN = rows_BN.astype(np.int32)
        unusable_BN = (rows_BN < 0) | _excluded(rows_BN, exclude, len(self.items_ID))
        rows_BN[unusable_BN], scores_BN[unusable_BN] = -1, -np.inf
        rows_BN, scores_BN = merge_top_k([(rows_BN, scores_BN)])
        rows_BK, scores_BK = rows_BN[:, :k].copy(), scores_BN[:, :k].copy()
        short = np.flatnonzero((rows_BK < 0).any(axis=1) & vectors_BD.any(axis=1))
        if len(short):
            rows_BK[short], scores_BK[short] = top_k(
                vectors_BD[short],
                self.items_ID,
                k,
                allowed_I=allowed,
                exclude=_exclusions_of(exclude, short),
            )
        return rows_BK, scores_BK

    def _parameters(self, allowed: Mask | None) -> Any:
        return import_faiss().SearchParametersIVF(nprobe=self.probes, sel=allowed_selector(allowed))


def _excluded(rows_BN: Rows, exclude: Exclude, items: int) -> Mask:
    """Which rows are in their request's exclusion list."""
    offsets, rows = exclude
    owners = np.repeat(np.arange(len(rows_BN)), np.diff(offsets))
    pairs_BN = np.arange(len(rows_BN))[:, None] * items + rows_BN
    return np.isin(pairs_BN, (owners * items + rows)[rows >= 0])


def _exclusions_of(exclude: Exclude, queries: Ints) -> Exclude:
    """The exclusion lists of some queries."""
    offsets, rows = exclude
    lists = [rows[offsets[query] : offsets[query + 1]] for query in queries]
    return np.cumsum([0, *map(len, lists)], dtype=np.int64), np.concatenate(lists)


def allowed_selector(allowed: Mask | None) -> Any:
    """faiss's selector of the allowed rows; None for all."""
    if allowed is None:
        return None
    return import_faiss().IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def import_faiss() -> ModuleType:
    """The optional dependency, imported where it is used."""
    try:
        import faiss
    except ImportError as missing:
        raise ImportError("IvfRetriever needs faiss: pip install faiss-cpu") from missing
    return faiss
