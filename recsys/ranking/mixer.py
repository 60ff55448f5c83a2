"""A learned mixer of sources: a linear model over views of their scores that mean the same in every
shop.

Its weights are learned by `training.mixer` from what users did next. Legend: B requests, N
candidates, F features (one a source), V views of a feature, G groups of items: 0 those new to the
user, 1 those they have had before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys.errors import InputError
from recsys.types import Floats, Ints, Mask

#: The score by the request's largest; the same in logarithms, which part small scores; 1 / log2(1 +
#: its rank among the request's scores), ties sharing the best; whether there is a score; and its
#: size, log(1 + score).
VIEWS = ("share", "log_share", "rank", "brought", "size")
#: The sources that bring what a user had before; all others leave it out.
AGAIN = ("buy_again",)
GROUPS = ("new", "again")


class Mixer:
    """A linear ranker over VIEWS of each source's score, with weights of their own for items that
    the user has had before.

    `weights_GFV` float32; `bias` is added to what any of the sources `again` retrieved (a score
    above 0). A silent source (0) has only views of 0. Raises ValueError where the weights do not
    fit the names."""

    def __init__(
        self,
        feature_names: Sequence[str],
        weights_GFV: Floats,
        bias: float = 0.0,
        again: Sequence[str] = AGAIN,
    ) -> None:
        self.feature_names, self.again = tuple(feature_names), tuple(again)
        self.weights_GFV, self.bias = np.asarray(weights_GFV, np.float32), bias
        self._again_F = np.isin(self.feature_names, self.again)
        shape = (len(GROUPS), len(self.feature_names), len(VIEWS))
        if self.weights_GFV.shape != shape:
            raise ValueError(
                f"weights of shape {self.weights_GFV.shape} came for "
                f"{', '.join(self.feature_names)}: give {shape}, by group, feature and view"
            )

    @classmethod
    def of(
        cls, weights: Mapping[str, float], names: Sequence[str] = (), again: Sequence[str] = AGAIN
    ) -> Mixer:
        """What `LinearRanker` of these weights does, over the features `names`; one without a
        weight counts nothing."""
        names = tuple(names) or tuple(weights)
        weights_GFV = np.zeros((2, len(names), len(VIEWS)), np.float32)
        weights_GFV[:, :, 0] = [weights.get(name, 0.0) for name in names]
        return cls(names, weights_GFV, again=again)

    def score(self, features_BNF: Floats) -> Floats:
        if features_BNF.shape[-1] != len(self.feature_names):
            raise ValueError(
                f"{features_BNF.shape[-1]} features came for the mixer of "
                f"{', '.join(self.feature_names)}: merge exactly these sources, in this order"
            )
        scores_BNG = np.einsum(
            "bnfv,gfv->bng", views(features_BNF), self.weights_GFV, optimize=True
        )
        again_BN = self.is_again(features_BNF)
        return np.where(again_BN, scores_BNG[:, :, 1] + np.float32(self.bias), scores_BNG[:, :, 0])

    def contributions(self, features_BNF: Floats) -> Floats:
        """[B, N, F + 1]: each source's views by the weights of the item's group; last, the group's
        bias."""
        parts_BNFG = np.einsum(
            "bnfv,gfv->bnfg", views(features_BNF), self.weights_GFV, optimize=True
        )
        again_BN1 = self.is_again(features_BNF)[:, :, None]
        parts_BNF = np.where(again_BN1, parts_BNFG[..., 1], parts_BNFG[..., 0])
        return np.concatenate(
            [parts_BNF, np.where(again_BN1, np.float32(self.bias), np.float32(0))], axis=2
        )

    def is_again(self, features_BNF: Floats) -> Mask:
        """[B, N] whether the user has had the item before."""
        return np.any(features_BNF[:, :, self._again_F] > 0, axis=2)

    def save(self, path: Path) -> None:
        """Writes JSON that a person can read: per group and feature a list of weights in the order
        of VIEWS."""
        groups = {
            group: dict(zip(self.feature_names, weights_FV.tolist(), strict=True))
            for group, weights_FV in zip(GROUPS, self.weights_GFV, strict=True)
        }
        content = {
            "views": VIEWS,
            "features": self.feature_names,
            "again": self.again,
            "bias": self.bias,
        }
        path.write_text(json.dumps({**content, "weights": groups}, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Mixer:
        """What `save` wrote. Raises InputError when it was saved by a version of other views."""
        content: dict[str, Any] = json.loads(path.read_text())
        if tuple(content["views"]) != VIEWS:
            raise InputError(
                f"the mixer {path} weighs {content['views']} and not {list(VIEWS)}: train it again"
            )
        names = tuple(content["features"])
        weights_GFV = np.array(
            [[content["weights"][group][name] for name in names] for group in GROUPS], np.float32
        )
        return cls(names, weights_GFV, content["bias"], content["again"])


def views(features_BNF: Floats) -> Floats:
    """[B, N, F, V] float32: the VIEWS of each score. None looks beyond its request or at the
    candidates' order."""
    largest_B1F = np.abs(features_BNF).max(axis=1, keepdims=True, initial=np.finfo(np.float32).tiny)
    share_BNF = features_BNF / largest_B1F
    above_BNF = np.maximum(features_BNF, 0)
    retrieved_BNF = features_BNF > 0
    log_share_BNF = np.log1p(99 * np.maximum(share_BNF, 0)) / np.log(100)
    rank_BNF = retrieved_BNF / np.log2(1 + ranks(features_BNF))
    columns = (share_BNF, log_share_BNF, rank_BNF, retrieved_BNF, np.log1p(above_BNF))
    return np.stack([view_BNF.astype(np.float32) for view_BNF in columns], axis=3)


def ranks(features_BNF: Floats) -> Ints:
    """[B, N, F] places from 1 within a request, highest first; equal scores share the best of their
    places."""
    order_BNF = np.argsort(-features_BNF, axis=1, kind="stable")
    sorted_BNF = np.take_along_axis(features_BNF, order_BNF, axis=1)
    places_1N1 = np.arange(features_BNF.shape[1])[None, :, None]
    starts_BNF = np.ones(features_BNF.shape, bool)
    starts_BNF[:, 1:] = sorted_BNF[:, 1:] != sorted_BNF[:, :-1]
    first_BNF = np.maximum.accumulate(np.where(starts_BNF, places_1N1, 0), axis=1)
    ranks_BNF = np.empty(features_BNF.shape, np.int64)
    np.put_along_axis(ranks_BNF, order_BNF, first_BNF + 1, axis=1)
    return ranks_BNF
