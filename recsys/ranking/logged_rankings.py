"""Logged answers as padded arrays: what rankers learn from, and what they are measured by without
position bias.

Legend: B requests, K places of the longest answer, F features. A place without an item is a pad:
its position is 0. The click model is the position-based one: an item is clicked where its place is
looked at and it is wanted, and the one does not depend on the other (Craswell et al. 2008;
Joachims, Swaminathan & Schnabel, WSDM 2017)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.datasets.judgments import GRADES
from recsys.errors import InputError
from recsys.ranking.features import BLOCKS
from recsys.types import Floats, Ints, Mask

#: No place counts more than this many times the first.
CLIP = 10.0
_VECTOR = re.compile(rf"({'|'.join(BLOCKS)})\.\d+")
_VALID = b"ranker valid"


class PositionBias(Protocol):
    """How likely a place is looked at: `examination.Examination`."""

    def at(self, positions: Ints) -> Floats: ...


@dataclass(frozen=True, kw_only=True)
class LoggedRankings:
    """`tables.EXAMPLES`, a row a request, each in order of position. Pads are 0, in `items_BK`
    None.

    `gains_BK` are GRADES of the label; `propensities_BK` the chance with which the item came to its
    place; `scores_BK` what the ranker that made the answer said. `items_BK`, `users_B` (None:
    unknown), `surfaces_B` and `request_ids_B` hold strings, `times_B` datetime64[us] in UTC."""

    names: tuple[str, ...]
    features_BKF: Floats
    gains_BK: Floats
    positions_BK: NDArray[np.int32]
    propensities_BK: Floats
    scores_BK: Floats
    items_BK: NDArray[np.object_]
    users_B: NDArray[np.object_]
    surfaces_B: NDArray[np.object_]
    request_ids_B: NDArray[np.object_]
    times_B: NDArray[np.datetime64]

    def __len__(self) -> int:
        return len(self.positions_BK)

    @classmethod
    def of(cls, examples: pa.Table, names: Sequence[str] | None = None) -> LoggedRankings:
        """Requests in order of first appearance. `names`: see `named`; None takes all the log's
        features.

        Raises InputError where a feature is no finite number, or a propensity none from above 0 to
        1."""
        owner_N = np.asarray(
            examples["request_id"].combine_chunks().dictionary_encode().indices
        ).astype(np.int64)
        position_N = examples["position"].to_numpy()
        order_N = np.lexsort((position_N, owner_N))
        owner_N = owner_N[order_N]
        counts_B = np.bincount(owner_N)
        starts_B = np.cumsum(counts_B) - counts_B
        at = owner_N, np.arange(len(owner_N)) - starts_B[owner_N]
        shape = len(counts_B), int(counts_B.max(initial=0))

        def padded(values_N: NDArray[Any], otherwise: Any = 0) -> NDArray[Any]:
            values_BK = np.full((*shape, *values_N.shape[1:]), otherwise, values_N.dtype)
            values_BK[at] = values_N[order_N]
            return values_BK

        heads = examples.take(pa.array(order_N[starts_B]))
        logged = _logged_names(examples)
        lists = cls(
            names=logged,
            features_BKF=padded(_features(examples, logged)),
            gains_BK=padded(np.array(GRADES, np.float32)[examples["label"].to_numpy()]),
            positions_BK=padded(position_N.astype(np.int32)),
            propensities_BK=padded(_propensities(examples)),
            scores_BK=padded(examples["score"].to_numpy().astype(np.float32)),
            items_BK=padded(_objects(examples["item_id"]), None),
            users_B=_objects(heads["user_id"]),
            surfaces_B=_objects(heads["surface"]),
            request_ids_B=_objects(heads["request_id"]),
            times_B=heads["time"].cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]"),
        )
        return lists if names is None else lists.named(names)

    def named(self, names: Sequence[str]) -> LoggedRankings:
        """With these features, in this order; one that the log does not know is 0, as in
        `joins.label_examples`.

        Raises InputError where it knows none of them.
        """
        if tuple(names) == self.names:
            return self
        place = {name: at for at, name in enumerate(self.names)}
        if names and self.names and not place.keys() & set(names):
            raise InputError(
                f"the log has none of the features {', '.join(names[:5])}: it has {', '.join(self.names[:5])}, "
                "so take the log of the ranker's own surface"
            )
        features_BKF = np.zeros((*self.positions_BK.shape, len(names)), np.float32)
        known = [(to, place[name]) for to, name in enumerate(names) if name in place]
        features_BKF[:, :, [to for to, _ in known]] = self.features_BKF[
            :, :, [at for _, at in known]
        ]
        return replace(self, names=tuple(names), features_BKF=features_BKF)

    def where(self, mask_B: Mask | Ints) -> LoggedRankings:
        """These requests: a mask, or their places."""
        kept = {name: value[mask_B] for name, value in vars(self).items() if name != "names"}
        return replace(self, **kept)

    @property
    def there_BK(self) -> Mask:
        """Which places hold an item."""
        return self.positions_BK > 0

    @property
    def clicked_BK(self) -> Mask:
        """Which items somebody did anything with."""
        return self.gains_BK > 0

    @property
    def teaches_B(self) -> Mask:
        """Which requests say that something is better than something else: those with a gain."""
        return np.any(self.gains_BK > 0, axis=1)

    def looked_BK(self, examination: PositionBias | None) -> Floats:
        """The chance that each place was looked at, whatever came of it; 0 at pads, 1 without an
        examination."""
        if examination is None:
            return self.there_BK.astype(np.float32)
        return np.where(self.there_BK, examination.at(self.positions_BK), 0).astype(np.float32)

    def ips_weights(self, examination: PositionBias | None, clip: float = CLIP) -> Floats:
        """[B, K] 1 / max(chance that the place is looked at, 1 / clip): by this a click stands for
        those that were not made as nobody looked (inverse propensity scoring, Joachims et al.
        2017). 0 at pads; 1 without an examination."""
        if not clip >= 1:
            raise InputError(f"clip is {clip}: give 1 (raw clicks) or more")
        return np.where(
            self.there_BK, 1 / np.maximum(self.looked_BK(examination), 1 / clip), 0
        ).astype(np.float32)

    def seen_BK(self, examination: PositionBias | None) -> Floats:
        """How likely each place was looked at, knowing whether it was clicked: 1 where it was, 0 at
        pads.

        P(looked | no click) = t (1 - g) / (1 - t g) by Bayes' rule in the position-based model,
        with t the place's chance to be looked at and g how often what is looked at is clicked, as a
        mean over these lists."""
        looked_BK = self.looked_BK(examination)
        rate = min(float(self.clicked_BK.sum() / max(looked_BK.sum(), 1)), 0.99)
        unclicked_BK = looked_BK * (1 - rate) / (1 - rate * looked_BK)
        return np.where(self.clicked_BK, 1, unclicked_BK).astype(np.float32)


def is_vector(name: str) -> bool:
    """Whether a feature is one number of a vector (`query.0`, `query.1`, ...)."""
    return _VECTOR.fullmatch(name) is not None


def split(lists: LoggedRankings, share: float = 0.1) -> tuple[LoggedRankings, LoggedRankings]:
    """To train on, and about `share` to choose by: all requests of a user, by hash, are in one of
    both.

    A request without a user goes by its own id.
    """
    told = (
        user if user is not None else request for user, request in zip(*_who(lists), strict=True)
    )
    valid_B = np.fromiter((_hashed(one) < share for one in told), bool, len(lists))
    return lists.where(~valid_B), lists.where(valid_B)


def ips_ndcg(
    scores_BK: Floats,
    lists: LoggedRankings,
    examination: PositionBias | None,
    k: int = 10,
    clip: float = CLIP,
) -> NDArray[np.float64]:
    """[B] what nDCG@k of this order would be if every place had been looked at; NaN for requests
    that teach nothing.

    Gains are weighed by `LoggedRankings.ips_weights`, and divided by the mean over these lists of the best
    that can be had: the mean is self-normalised (Swaminathan & Joachims 2015) and from 0 to 1, one
    value may be above 1. A ratio of a request's own would lose its weight with one click. Ties stay
    in the order that was shown. Raises InputError for scores that are no numbers."""
    if not np.isfinite(scores_BK[lists.there_BK]).all():
        raise InputError(
            "some scores are not finite numbers: this ranker cannot be measured, train it again"
        )
    worth_BK = lists.gains_BK * lists.ips_weights(examination, clip)
    order_BK = np.argsort(np.where(lists.there_BK, -scores_BK, np.inf), axis=1, kind="stable")
    discounts_K = 1 / np.log2(np.arange(2, 2 + min(k, worth_BK.shape[1])))
    best_B = -np.sort(-worth_BK, axis=1)[:, : len(discounts_K)] @ discounts_K
    reached_B = np.take_along_axis(worth_BK, order_BK, axis=1)[:, : len(discounts_K)] @ discounts_K
    teaches_B = lists.teaches_B
    whole = best_B[teaches_B].mean() if teaches_B.any() else np.nan
    return np.where(teaches_B, reached_B / whole, np.nan)


def _logged_names(examples: pa.Table) -> tuple[str, ...]:
    return tuple(json.loads((examples.schema.metadata or {}).get(b"feature_names", b"[]")))


def _features(examples: pa.Table, names: tuple[str, ...]) -> Floats:
    column = examples["features"].combine_chunks()
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if set(lengths) - {len(names)}:
        raise InputError(
            f"examples with {sorted(lengths)} features came under {len(names)} names: take them from "
            "joins.label_examples"
        )
    features_NF = (
        column.flatten()
        .to_numpy(zero_copy_only=False)
        .astype(np.float32)
        .reshape(len(column), len(names))
    )
    wrong_NF = ~np.isfinite(features_NF)
    if wrong_NF.any():
        name = names[int(wrong_NF.any(axis=0).argmax())]
        raise InputError(
            f"{wrong_NF.any(axis=1).sum():,} of {len(column):,} examples have a feature that is no finite number, "
            f"{name} first: mend what computes it, or leave their requests out"
        )
    return features_NF


def _propensities(examples: pa.Table) -> Floats:
    propensity_N = examples["propensity"].to_numpy().astype(np.float32)
    wrong_N = ~((propensity_N > 0) & (propensity_N <= 1))
    if wrong_N.any():
        raise InputError(
            f"a propensity is {propensity_N[wrong_N][0]}, of {wrong_N.sum():,} that are none: "
            "log the chance, above 0 and up to 1, with which an item came to its place"
        )
    return propensity_N


def _objects(column: pa.ChunkedArray) -> NDArray[np.object_]:
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return values


def _who(lists: LoggedRankings) -> tuple[list[str | None], list[str]]:
    return lists.users_B.tolist(), lists.request_ids_B.tolist()


def _hashed(text: str) -> float:
    """A number from 0 to 1 that is always the same for this text."""
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8, person=_VALID).digest()
    return int.from_bytes(digest, "big") / 2**64
