"""Learns `retrieval.compatibility` from baskets: maximum likelihood by L-BFGS, in seconds.

Legend as there; X examples, N of the items that nobody took."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Histories
from recsys.errors import InputError
from recsys.retrieval.compatibility import CHANNELS, Behaviour, Compatibility, ItemContent
from recsys.types import EVENT_TYPES, PURCHASE, Floats, Ints, Mask

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: Bounds of what is learned from: examples, items that they are told from, items of one basket.
EXAMPLES, NEGATIVES, BASKET = 2_500, 2_500, 24
MIN_EXAMPLES = 100
#: Of the squares, per example.
WEIGHT_PENALTY, FORM_PENALTY = 1e-4, 3e-4
STEPS = 60
#: Where all items sell alike, one that was taken out has one basket fewer than the others.
NEVER_NEGATIVE = ("baskets", "popular")
#: A channel that varies less says nothing.
MIN_DEVIATION = 1e-4


#: Of a log the first so many events are looked at.
EVENTS = 1_000_000


def sample_baskets(parts: Iterable[Histories], item_count: int) -> csr_array:
    """[R, I] of ones: what a user bought on one UTC day, or took a step towards buying where too
    few were bought together. Parts are disjoint in users, and any of them are like all."""
    from scipy.sparse import csr_array

    sample: list[NDArray[np.float64]] = []
    count, first_user = 0, 0
    for part in parts:
        users_E = first_user + part.owners_E
        sample.append(np.stack([users_E, np.floor(part.days), part.items, part.types]))
        first_user, count = first_user + len(part), count + len(part.items)
        if count >= EVENTS:
            break
    events_4E = np.concatenate([np.empty((4, 0)), *sample], axis=1)[:, :EVENTS]
    events_4E = events_4E[:, events_4E[2] >= 0]
    for types in ([PURCHASE], [PURCHASE, EVENT_TYPES.index("cart")], None):
        chosen = events_4E if types is None else events_4E[:, np.isin(events_4E[3], types)]
        user_days, owners_E = np.unique(chosen[:2], axis=1, return_inverse=True)
        cells = np.unique(np.stack([owners_E.ravel(), chosen[2]]).astype(np.int64), axis=1)
        sizes_R = np.bincount(cells[0], minlength=user_days.shape[1])
        if types is None or sizes_R[sizes_R > 1].sum() >= MIN_EXAMPLES:
            break
    offsets = np.concatenate([[0], np.cumsum(sizes_R)])
    values = np.ones(cells.shape[1], np.float32), cells[1], offsets
    return csr_array(values, shape=(len(sizes_R), item_count))


@dataclass(frozen=True, kw_only=True)
class _Examples:
    """`negatives_XNF` and `targets_XF` are channels, `context_XS` the mean style of the rest of a
    basket; `closed_XN` are items of the basket, which are no negatives."""

    negatives_XNF: Floats
    targets_XF: Floats
    context_XS: Floats
    negative_style_NS: Floats
    target_style_XS: Floats
    closed_XN: Mask


def fit_compatibility(
    content: ItemContent, behaviour: Behaviour, baskets_RI: csr_array, seed: int = 0
) -> Compatibility:
    """`baskets_RI` are those that `behaviour` counted, or some of them. Raises InputError where
    they hold fewer than MIN_EXAMPLES items that are not alone."""
    examples = _examples(content, behaviour, baskets_RI, np.random.default_rng(seed))
    return _maximise(examples)


def _examples(
    content: ItemContent, behaviour: Behaviour, baskets_RI: csr_array, rng: np.random.Generator
) -> _Examples:
    negatives = np.sort(_some(rng, baskets_RI.shape[1], NEGATIVES))
    sizes_R = np.diff(baskets_RI.indptr)
    parts: list[tuple[NDArray[np.floating], ...]] = []
    count = 0
    for basket in rng.permutation(np.flatnonzero(sizes_R > 1)):
        items_M = baskets_RI.indices[baskets_RI.indptr[basket] : baskets_RI.indptr[basket + 1]]
        items_M = items_M[np.sort(_some(rng, len(items_M), BASKET))]
        parts.append(_of_basket(content, behaviour, items_M, negatives))
        if (count := count + len(items_M)) >= EXAMPLES:
            break
    if count < MIN_EXAMPLES:
        raise InputError(
            f"baskets of two and more hold {count} items: what goes together is learned from "
            f"{MIN_EXAMPLES}; leave Night.complements at 0 until there are more"
        )
    channels, targets, context, style, closed = (
        np.concatenate(each) for each in zip(*parts, strict=True)
    )
    return _Examples(
        negatives_XNF=channels,
        targets_XF=targets,
        context_XS=context,
        negative_style_NS=content.style_IS[negatives],
        target_style_XS=style,
        closed_XN=closed,
    )


def _some(rng: np.random.Generator, count: int, most: int) -> NDArray[np.int64]:
    return np.arange(count) if count <= most else rng.choice(count, most, replace=False)


def _of_basket(
    content: ItemContent, behaviour: Behaviour, items_M: Ints, negatives: Ints
) -> tuple[NDArray[np.floating], ...]:
    """Of each item of a basket: the channels of the negatives, its own, the rest's mean style, its
    style, and which negatives are in the basket."""
    right_N = np.concatenate([negatives, items_M])
    own_N = np.isin(right_N, items_M)
    channels_MNF = np.concatenate(
        [content.likeness(items_M, right_N), behaviour.channels(items_M, right_N, own_N)], axis=2
    )
    rest = len(items_M) - 1
    means_MNF = (channels_MNF.sum(axis=0) - channels_MNF) / np.float32(rest)
    places = np.arange(len(items_M))
    style_MS = content.style_IS[items_M]
    return (
        means_MNF[:, : len(negatives)],
        means_MNF[places, len(negatives) + places],
        (style_MS.sum(axis=0) - style_MS) / rest,
        style_MS,
        np.broadcast_to(own_N[: len(negatives)], (len(items_M), len(negatives))),
    )


def _maximise(examples: _Examples) -> Compatibility:
    from scipy.optimize import minimize

    deviation_F = examples.negatives_XNF.std(axis=(0, 1), dtype=np.float64)
    varies_F = deviation_F > MIN_DEVIATION
    scale_F = np.where(varies_F, deviation_F, 1).astype(np.float32)
    style = examples.context_XS.shape[1]
    bounds: list[tuple[float | None, float | None]] = [
        ((0 if name in NEVER_NEGATIVE else None) if varies else 0, None if varies else 0)
        for name, varies in zip(CHANNELS, varies_F.tolist(), strict=True)
    ]
    optimum = minimize(
        _loss_of(examples, scale_F),
        np.zeros(len(CHANNELS) + style * style),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds + [(None, None)] * (style * style),
        options={"maxiter": STEPS},
    )
    return Compatibility(
        weights_F=(optimum.x[: len(CHANNELS)] / scale_F).astype(np.float32),
        form_SS=optimum.x[len(CHANNELS) :].reshape(style, style).astype(np.float32),
    )


def _loss_of(
    examples: _Examples, scale_F: Floats
) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
    """Mean negative log likelihood with its penalties, and its gradient; parameters are the weights
    of the scaled channels, then the form's rows."""
    channels, count = len(scale_F), len(examples.targets_XF)
    context_XS, styles_NS = examples.context_XS, examples.negative_style_NS
    own_style_XS = examples.target_style_XS
    flat_EF = examples.negatives_XNF.reshape(-1, channels)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        values = parameters.astype(np.float32)
        weights_F = values[:channels] / scale_F
        form_SS = values[channels:].reshape(context_XS.shape[1], -1)
        queries_XS = context_XS @ form_SS
        logits_XN = queries_XS @ styles_NS.T
        logits_XN += (flat_EF @ weights_F).reshape(logits_XN.shape)
        logits_XN[examples.closed_XN] = -np.inf
        own_X = examples.targets_XF @ weights_F + (queries_XS * own_style_XS).sum(axis=1)
        highest_X = np.maximum(logits_XN.max(axis=1), own_X)
        odds_XN = np.exp(logits_XN - highest_X[:, None])
        own_odds_X = np.exp(own_X - highest_X)
        total_X = odds_XN.sum(axis=1) + own_odds_X
        odds_XN /= total_X[:, None]
        own_X_gradient = own_odds_X / total_X - 1
        by_weight_F = odds_XN.ravel() @ flat_EF
        by_weight_F = (by_weight_F + own_X_gradient @ examples.targets_XF) / scale_F
        expected_XS = odds_XN @ styles_NS + own_X_gradient[:, None] * own_style_XS
        gradient = np.concatenate([by_weight_F, (context_XS.T @ expected_XS).ravel()])
        penalties = np.full(len(parameters), FORM_PENALTY)
        penalties[:channels] = WEIGHT_PENALTY
        value = float((highest_X + np.log(total_X) - own_X).mean(dtype=np.float64))
        value += float((penalties * parameters**2).sum())
        return value, gradient / count + 2 * penalties * parameters

    return loss
