"""Logged rankings as padded arrays: training data of rankers, and counterfactual evaluation without
position bias.

Legend: B requests, K places of the longest answer, F features. A place without an item is a pad:
its position is 0. The click model is the position-based one: an item is clicked where its position
is examined and it is relevant, and the one does not depend on the other (Craswell et al. 2008;
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

#: No click weighs more than this many times one at the first position.
CLIP = 10.0
_VECTOR = re.compile(rf"({'|'.join(BLOCKS)})\.\d+")
_VALID = b"ranker valid"


class PositionBias(Protocol):
    """How likely each position is examined: `examination.Examination`."""

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
        """Requests in order of first appearance. `names`: see `with_features`; None takes all the
        log's features.

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
        return lists if names is None else lists.with_features(names)

    def with_features(self, names: Sequence[str]) -> LoggedRankings:
        """With these features, in this order; one that the log does not know is 0, as in
        `joins.label_examples`.

        Raises InputError where it knows none of them.
        """
        if tuple(names) == self.names:
            return self
        column = {name: at for at, name in enumerate(self.names)}
        if names and self.names and not column.keys() & set(names):
            raise InputError(
                f"the log has none of the features {', '.join(names[:5])}: it has "
                f"{', '.join(self.names[:5])}, so take the log of the ranker's own surface"
            )
        features_BKF = np.zeros((*self.positions_BK.shape, len(names)), np.float32)
        logged = [at for at, name in enumerate(names) if name in column]
        features_BKF[:, :, logged] = self.features_BKF[:, :, [column[names[at]] for at in logged]]
        return replace(self, names=tuple(names), features_BKF=features_BKF)

    def where(self, mask_B: Mask | Ints) -> LoggedRankings:
        """These requests: a mask, or their places."""
        arrays = {name: value[mask_B] for name, value in vars(self).items() if name != "names"}
        return replace(self, **arrays)

    @property
    def present_BK(self) -> Mask:
        """Which places hold an item."""
        return self.positions_BK > 0

    @property
    def clicked_BK(self) -> Mask:
        """Which items somebody did anything with."""
        return self.gains_BK > 0

    @property
    def has_gain_B(self) -> Mask:
        """Requests with a gain: only these say that one item is better than another."""
        return np.any(self.gains_BK > 0, axis=1)

    def examination_BK(self, examination: PositionBias | None) -> Floats:
        """The probability that each position was examined, clicked or not; 0 at pads, 1 without an
        examination."""
        if examination is None:
            return self.present_BK.astype(np.float32)
        return np.where(self.present_BK, examination.at(self.positions_BK), 0).astype(np.float32)

    def ips_weights(self, examination: PositionBias | None, clip: float = CLIP) -> Floats:
        """[B, K] 1 / max(examination probability, 1 / clip): a click stands for those that were not
        made because nobody examined the position (inverse propensity scoring, Joachims et al.
        2017). 0 at pads; 1 without an examination."""
        if not clip >= 1:
            raise InputError(f"clip is {clip}: give 1 (raw clicks) or more")
        return np.where(
            self.present_BK, 1 / np.maximum(self.examination_BK(examination), 1 / clip), 0
        ).astype(np.float32)

    def examination_posterior_BK(self, examination: PositionBias | None) -> Floats:
        """The probability that each position was examined, given whether it was clicked: 1 where it
        was, 0 at pads.

        P(examined | no click) = t (1 - g) / (1 - t g) by Bayes' rule in the position-based model,
        with t the position's examination probability and g the click rate of what is examined, as
        a mean over these lists."""
        examination_BK = self.examination_BK(examination)
        rate = min(float(self.clicked_BK.sum() / max(examination_BK.sum(), 1)), 0.99)
        unclicked_BK = examination_BK * (1 - rate) / (1 - rate * examination_BK)
        return np.where(self.clicked_BK, 1, unclicked_BK).astype(np.float32)


def is_vector(name: str) -> bool:
    """Whether a feature is one number of a vector (`query.0`, `query.1`, ...)."""
    return _VECTOR.fullmatch(name) is not None


def split_by_user(
    lists: LoggedRankings, share: float = 0.1
) -> tuple[LoggedRankings, LoggedRankings]:
    """To train on, and about `share` to choose by: all requests of a user, by hash, are in one of
    both.

    A request without a user goes by its own id.
    """
    users = zip(lists.users_B.tolist(), lists.request_ids_B.tolist(), strict=True)
    keys = (request if user is None else user for user, request in users)
    valid_B = np.fromiter((_hash01(key) < share for key in keys), bool, len(lists))
    return lists.where(~valid_B), lists.where(valid_B)


def ips_ndcg(
    scores_BK: Floats,
    lists: LoggedRankings,
    examination: PositionBias | None,
    k: int = 10,
    clip: float = CLIP,
) -> NDArray[np.float64]:
    """[B] counterfactual nDCG@k, as if every position had been examined; NaN for requests without a
    gain.

    Gains are weighted by `LoggedRankings.ips_weights`, and divided by the mean over these lists of
    the best that can be had: the mean is self-normalised (Swaminathan & Joachims 2015) and from 0
    to 1, one value may be above 1. A ratio of a request's own would lose its weight with one click.
    Ties stay in the logged order. Raises InputError for scores that are no numbers."""
    if not np.isfinite(scores_BK[lists.present_BK]).all():
        raise InputError(
            "some scores are not finite numbers: this ranker cannot be measured, train it again"
        )
    weighted_gains_BK = lists.gains_BK * lists.ips_weights(examination, clip)
    order_BK = np.argsort(np.where(lists.present_BK, -scores_BK, np.inf), axis=1, kind="stable")
    discounts_K = 1 / np.log2(np.arange(2, 2 + min(k, weighted_gains_BK.shape[1])))
    best_B = -np.sort(-weighted_gains_BK, axis=1)[:, : len(discounts_K)] @ discounts_K
    reached_B = (
        np.take_along_axis(weighted_gains_BK, order_BK, axis=1)[:, : len(discounts_K)] @ discounts_K
    )
    has_gain_B = lists.has_gain_B
    mean_best = best_B[has_gain_B].mean() if has_gain_B.any() else np.nan
    return np.where(has_gain_B, reached_B / mean_best, np.nan)


def _logged_names(examples: pa.Table) -> tuple[str, ...]:
    return tuple(json.loads((examples.schema.metadata or {}).get(b"feature_names", b"[]")))


def _features(examples: pa.Table, names: tuple[str, ...]) -> Floats:
    column = examples["features"].combine_chunks()
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if set(lengths) - {len(names)}:
        raise InputError(
            f"examples with {sorted(lengths)} features came under {len(names)} names: "
            "take them from joins.label_examples"
        )
    features_NF = (
        column.flatten()
        .to_numpy(zero_copy_only=False)
        .astype(np.float32)
        .reshape(len(column), len(names))
    )
    invalid_NF = ~np.isfinite(features_NF)
    if invalid_NF.any():
        name = names[int(invalid_NF.any(axis=0).argmax())]
        count = invalid_NF.any(axis=1).sum()
        raise InputError(
            f"{count:,} of {len(column):,} examples have a feature that is no finite number, "
            f"{name} first: mend what computes it, or leave their requests out"
        )
    return features_NF


def _propensities(examples: pa.Table) -> Floats:
    propensity_N = examples["propensity"].to_numpy().astype(np.float32)
    invalid_N = ~((propensity_N > 0) & (propensity_N <= 1))
    if invalid_N.any():
        raise InputError(
            f"a propensity is {propensity_N[invalid_N][0]}, of {invalid_N.sum():,} that are none: "
            "log the chance, above 0 and up to 1, with which an item came to its place"
        )
    return propensity_N


def _objects(column: pa.ChunkedArray) -> NDArray[np.object_]:
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return values


def _hash01(text: str) -> float:
    """A number from 0 to 1 that is always the same for this text."""
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8, person=_VALID).digest()
    return int.from_bytes(digest, "big") / 2**64
