"""Next-item prediction over histories: windows, full or sampled softmax loss, NDCG@10.

Legend: E events, W windows of a history, B windows of a batch, L events of a window (M with the
one before), P positions that are targets, I items, N items of a softmax, C content features,
D dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recsys.arrays import Histories
from recsys.retrieval.behaviour.sparse import EVENT_WEIGHTS
from recsys.training.loop import Positions
from recsys.training.splits import VALIDATED, NextItemTargets, is_first_interaction
from recsys.training.user_recipe import UserModelRecipe
from recsys.types import PURCHASE, Floats, Ints
from recsys.users.sasrec import SASRec, SequenceConfig
from recsys.users.sequence import pad_histories

K = 10
#: Parts of a batch on a CPU, by length; a GPU computes pads in no time, and waits for small parts.
PARTS = 4
_BLOCK = 512


class TrainableUserModel(nn.Module):
    """The network and what only training needs: each item's content features, and its residual."""

    content_IC: Tensor
    shrunk_I: Tensor

    def __init__(self, recipe: UserModelRecipe, features_IC: Floats, events_I: Ints) -> None:
        super().__init__()
        config = SequenceConfig(
            content=features_IC.shape[1],
            dim=recipe.dim,
            layers=recipe.layers,
            heads=recipe.heads,
            length=recipe.length,
            dropout=recipe.dropout,
        )
        self.network, self.residual_dropout = SASRec(config), recipe.residual_dropout
        self.residual = nn.Embedding(len(features_IC), recipe.dim)
        nn.init.normal_(self.residual.weight, std=0.02)
        shrunk_I = events_I / np.maximum(events_I + recipe.shrinkage, 1e-9)
        self.register_buffer("content_IC", torch.from_numpy(features_IC), persistent=False)
        self.register_buffer(
            "shrunk_I", torch.from_numpy(shrunk_I.astype(np.float32)), persistent=False
        )

    def embed_items(self, rows_N: Tensor) -> Tensor:
        """[N, D] item embeddings; in training some are without their residual (DropoutNet)."""
        shrunk_N = self.shrunk_I[rows_N]
        if self.training:
            shrunk_N = shrunk_N * (torch.rand_like(shrunk_N) >= self.residual_dropout)
        content_ND = self.network.project_content(self.content_IC[rows_N])
        return content_ND + shrunk_N[:, None] * self.residual(rows_N)

    def forward(
        self, rows_N: Tensor, batches: list[tuple[Tensor, Tensor, Tensor]]
    ) -> tuple[list[Tensor], Tensor]:
        """User states [B, L, D] of each batch (positions in `rows_N`, types, days: [B, L]), and the
        item embeddings [N, D]."""
        items_ND = self.embed_items(rows_N)
        states = [
            self.network(items_ND[at_BL], types_BL, days_BL) for at_BL, types_BL, days_BL in batches
        ]
        return states, items_ND

    @torch.no_grad()
    def residuals(self) -> Floats:
        """[I, D], shrunk."""
        return (self.shrunk_I[:, None] * self.residual.weight).float().cpu().numpy()


@dataclass(frozen=True)
class Windows:
    """Histories cut into windows of L + 1 events, newest first, so that each event follows another
    in one of them.

    Window w is events starts_W[w]:stops_W[w]; `weights_E` says how much each event counts as a
    target."""

    histories: Histories
    starts_W: NDArray[np.int64]
    stops_W: NDArray[np.int64]
    weights_E: Floats

    @classmethod
    def of(cls, histories: Histories, length: int) -> Windows:
        ends, counts = histories.offsets[1:], np.diff(histories.offsets)
        pieces = -(-np.maximum(counts - 1, 0) // length)
        owners = np.repeat(np.arange(len(histories)), pieces)
        before = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        stops_W = ends[owners] - before * length
        starts_W = np.maximum(stops_W - length - 1, histories.offsets[:-1][owners])
        weights_E = np.where(
            is_first_interaction(histories), EVENT_WEIGHTS[histories.types], 0
        ).astype(np.float32)
        summed = np.concatenate([[0], np.cumsum(weights_E, dtype=np.float64)])
        has_target_W = summed[stops_W] - summed[starts_W + 1] > 0
        return cls(histories, starts_W[has_target_W], stops_W[has_target_W], weights_E)


@dataclass(frozen=True)
class _Events:
    """Items, types, days since the window's first event, and weights as targets: [B, L + 1], padded
    with zeros behind."""

    rows_BM: NDArray[np.int64]
    types_BM: NDArray[np.int64]
    days_BM: Floats
    weights_BM: Floats


class NextItemLoss:
    """The loss over windows: cross-entropy of each target among all items, or among a sample of
    them."""

    def __init__(self, windows: Windows, recipe: UserModelRecipe, events_I: Ints) -> None:
        self.windows, self.items = windows, len(events_I)
        self.draws = recipe.negatives if self.items > recipe.full_below else 0
        popular_I = events_I / max(1, events_I.sum())
        self.probability_I = 0.5 / self.items + 0.5 * popular_I
        self.cumulative_I = np.cumsum(self.probability_I)

    def __call__(self, model: nn.Module, positions: Positions) -> Tensor:
        device = next(model.parameters()).device
        parts = self._by_length(positions, 1 if device.type == "cuda" else PARTS)
        batches = [self._events(part) for part in parts]
        rows_N, log_odds_N = self._candidates(np.concatenate([b.rows_BM.ravel() for b in batches]))
        inputs, targets, weights = [], [], []
        for batch in batches:
            at_BM, types_BM, days_BM, weights_BM = (
                torch.from_numpy(array).to(device)
                for array in (
                    np.searchsorted(rows_N, batch.rows_BM),
                    batch.types_BM,
                    batch.days_BM,
                    batch.weights_BM,
                )
            )
            inputs.append((at_BM[:, :-1], types_BM[:, :-1], days_BM[:, :-1]))
            targets.append(at_BM[:, 1:])
            weights.append(weights_BM[:, 1:])
        states, items_ND = model(torch.from_numpy(rows_N).to(device), inputs)
        masks = [weights_BL > 0 for weights_BL in weights]
        states_PD, targets_P, weights_P = (
            torch.cat([part[mask_BL] for part, mask_BL in zip(values, masks, strict=True)])
            for values in (states, targets, weights)
        )
        losses_P = _softmax_loss(states_PD, items_ND, targets_P, log_odds_N)
        return (losses_P * weights_P).sum() / weights_P.sum()

    def _by_length(self, positions: Positions, count: int) -> list[Positions]:
        """The batch in parts of similar length: padded to the longest, most of it would be pads."""
        lengths = (self.windows.stops_W - self.windows.starts_W)[positions]
        parts = np.array_split(positions[np.argsort(lengths, kind="stable")], count)
        return [part for part in parts if len(part)]

    def _events(self, positions: Positions) -> _Events:
        windows, histories = self.windows, self.windows.histories
        starts, stops = windows.starts_W[positions], windows.stops_W[positions]
        at_BM = starts[:, None] + np.arange((stops - starts).max())
        mask_BM = at_BM < stops[:, None]
        at_BM = np.minimum(at_BM, len(histories.items) - 1)
        days_BM = (histories.days[at_BM] - histories.days[starts][:, None]) * mask_BM
        return _Events(
            (histories.items[at_BM] * mask_BM).astype(np.int64),
            (histories.types[at_BM] * mask_BM).astype(np.int64),
            days_BM.astype(np.float32),
            (windows.weights_E[at_BM] * mask_BM).astype(np.float32),
        )

    def _candidates(self, context: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats | None]:
        """The items of the softmax, ascending, and what is added to their logits; None where they
        are the whole catalogue.

        A negative sampled with probability p stands for 1/p of its like (Horvitz & Thompson 1952;
        the logQ correction of Yi et al. 2019); an item that is only in the `context` stands for
        none. The loop seeds numpy."""
        if not self.draws:
            return np.arange(self.items), None
        sampled = np.searchsorted(
            self.cumulative_I, np.random.random(self.draws) * self.cumulative_I[-1]
        )
        sampled = np.unique(np.minimum(sampled, self.items - 1))
        rows_N = np.union1d(sampled, context)
        log_odds_N = np.full(len(rows_N), -1e9, np.float32)
        inclusion = -np.expm1(self.draws * np.log1p(-self.probability_I[sampled]))
        log_odds_N[np.searchsorted(rows_N, sampled)] = -np.log(inclusion)
        return rows_N, log_odds_N


def _softmax_loss(
    states_PD: Tensor, items_ND: Tensor, targets_P: Tensor, log_odds_N: Floats | None
) -> Tensor:
    """[P] cross-entropies; the correction spares each position's own target."""
    device = states_PD.device
    with torch.autocast(device.type, enabled=False):  # bf16 would round the logits to 1/16
        logits_PN = states_PD.float() @ items_ND.float().T
    if log_odds_N is not None:
        own_P1 = logits_PN.gather(1, targets_P[:, None])
        logits_PN = (logits_PN + torch.from_numpy(log_odds_N).to(device)).scatter(
            1, targets_P[:, None], own_P1
        )
    return functional.cross_entropy(logits_PN, targets_P, reduction="none")


class NextItemNdcg:
    """NDCG@K of the next item, ranked among all that the user had not bought."""

    def __init__(self, valid: NextItemTargets, length: int) -> None:
        sample = np.random.default_rng(0).permutation(len(valid.histories))[:VALIDATED]
        lengths = np.diff(valid.histories.offsets)[sample]
        sample = sample[np.argsort(lengths, kind="stable")]  # blocks of similar length
        self.histories = valid.histories.users(sample)
        self.next_B, self.length = valid.next_B[sample].astype(np.int64), length

    def __call__(self, model: nn.Module) -> float:
        assert isinstance(model, TrainableUserModel)
        device, gains = next(model.parameters()).device, []
        items_ID = model.embed_items(torch.arange(len(model.shrunk_I), device=device)).float()
        for start in range(0, len(self.histories), _BLOCK):
            block = self.histories.slice(start, min(start + _BLOCK, len(self.histories)))
            rows_BL, days_BL, types_BL, counts_B = (
                torch.from_numpy(array).to(device) for array in pad_histories(block, self.length)
            )
            states_BLD = model.network(items_ID[rows_BL], types_BL, days_BL)
            newest_B = (counts_B - 1).clamp(min=0)
            scores_BI = (
                states_BLD[torch.arange(len(block), device=device), newest_B].float() @ items_ID.T
            )
            bought_E = block.types == PURCHASE
            scores_BI[
                torch.from_numpy(block.owners_E[bought_E]),
                torch.from_numpy(block.items[bought_E]).long(),
            ] = -torch.inf
            next_B = torch.from_numpy(self.next_B[start : start + _BLOCK]).to(device)
            ranks_B = (scores_BI > scores_BI.gather(1, next_B[:, None])).sum(dim=1)
            gains.append(torch.where(ranks_B < K, 1 / torch.log2(ranks_B + 2.0), 0.0))
        return float(torch.cat(gains).mean()) if gains else 0.0
