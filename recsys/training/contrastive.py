"""The query/item encoder tuned on judged pairs: in-batch and mined hard negatives, graded
labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recsys.datasets.judgments import GOOD, USABLE, JudgedPairs
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError
from recsys.training.adapters import Adapters
from recsys.training.loop import Positions, fit
from recsys.training.pooled import Pooled, Tokens
from recsys.training.schedule import FitResult, Schedule
from recsys.training.workers import from_first, rank
from recsys.types import Ints

#: Home Depot, recall@10 of the validation queries by vectors alone: .486, with .05 and one negative
#: .483.
TEMPERATURE = 0.03
NEGATIVES = 2
#: Share of the mined negatives that is taken from badly judged items where the query has any.
JUDGED_NEGATIVES = 0.3
POOL = 8_192


def tune_encoder(
    encoder: TransformerEncoder,
    texts: Sequence[str],
    train: JudgedPairs,
    valid: JudgedPairs,
    *,
    hard_QN: Ints,
    folder: Path,
    schedule: Schedule,
    adapters: Adapters | None = None,
    say: Callable[[str], None] = lambda _: None,
    resume: bool = False,
) -> FitResult:
    """Tunes a copy of `encoder` on the good pairs of `train` and saves it to `folder`, as a new
    space.

    `texts` are all item texts; `hard_QN` are mined rows for each query of `train` (-1 pads), best
    first, from which the judged ones are left out. The validation is recall@10 of `valid`'s good
    items among all judged and POOL - more or less - others. The loss is a softmax over the batch's
    items (van den Oord et al., CPC, 2018), each pair weighted by its grade; other good items of the
    query are left out of its sum."""
    good = train.positives()
    if not len(good):
        raise InputError(
            f"no pair of the training file is graded {USABLE} or better: "
            "there is nothing to learn from"
        )
    model = Pooled(encoder, adapters, steps=schedule.steps(len(good)))
    loss = _Contrast(encoder, texts, train, good, hard_QN)
    validate = _Recall(encoder, texts, valid)
    fitted = fit(model, len(good), loss, validate, schedule, say=say, resume=resume)
    if rank() == 0:
        model.save(folder)
    from_first(None)  # nobody opens it before it is there
    return fitted


class _Contrast:
    """The loss over places in `good`."""

    def __init__(
        self,
        encoder: TransformerEncoder,
        texts: Sequence[str],
        train: JudgedPairs,
        good: Ints,
        hard_QN: Ints,
    ) -> None:
        self.train, self.good = train, good
        self.items = Tokens(encoder, texts, encoder.item_prefix)
        self.queries = Tokens(encoder, train.queries, encoder.query_prefix)
        self.width = len(texts)
        self.good_keys = np.unique(train.query_P[good] * self.width + train.rows_P[good])
        self.hard = _unjudged(train, hard_QN, self.width)
        self.bad = [rows[grades < USABLE] for rows, grades in train.by_query()]

    def __call__(self, model: nn.Module, places: Positions) -> Tensor:
        pairs = self.good[places]
        of_B, rows_B = self.train.query_P[pairs], self.train.rows_P[pairs]
        rows_C = np.concatenate([rows_B, self._negatives(of_B)])
        device = next(model.parameters()).device
        queries_BD = model(*self.queries.batch(of_B, device))
        items_CD = model(*self.items.batch(rows_C, device))
        scores_BC = (queries_BD @ items_CD.T).float() / TEMPERATURE
        left_out_BC, grades_B = _on(
            device, self._left_out(of_B, rows_B, rows_C), self.train.grades_P[pairs]
        )
        losses_B = nn.functional.cross_entropy(
            scores_BC.masked_fill(left_out_BC, -1e4),
            torch.arange(len(places), device=device),
            reduction="none",
        )
        return (losses_B * grades_B).sum() / grades_B.sum()

    def _negatives(self, of_B: Ints) -> Ints:
        """NEGATIVES for each: mined, or judged bad. The loop seeds numpy for each step."""
        chosen = []
        for query in np.repeat(of_B, NEGATIVES):
            bad, hard = self.bad[query], self.hard[query]
            pool = (
                bad
                if len(bad) and (not len(hard) or np.random.random() < JUDGED_NEGATIVES)
                else hard
            )
            chosen.append(
                pool[np.random.randint(len(pool))] if len(pool) else np.random.randint(self.width)
            )
        return np.array(chosen, np.int64)

    def _left_out(self, of_B: Ints, rows_B: Ints, rows_C: Ints) -> np.ndarray:
        """Where an item is good for the query, and is not the one asked for."""
        good_BC = np.isin(of_B[:, None] * self.width + rows_C[None, :], self.good_keys)
        good_BC[np.arange(len(of_B)), np.arange(len(of_B))] = False
        return good_BC | (
            (rows_C[None, :] == rows_B[:, None]) & ~np.eye(len(of_B), len(rows_C), dtype=bool)
        )


class _Recall:
    """Recall@10 over a pool of items."""

    def __init__(
        self, encoder: TransformerEncoder, texts: Sequence[str], valid: JudgedPairs
    ) -> None:
        others = np.random.default_rng(0).permutation(len(texts))[:POOL]
        pool = np.unique(np.concatenate([valid.rows_P, others]))
        place = {row: at for at, row in enumerate(pool.tolist())}
        self.items = Tokens(encoder, [texts[row] for row in pool], encoder.item_prefix)
        self.queries = Tokens(encoder, valid.queries, encoder.query_prefix)
        self.truth = [
            np.array([place[row] for row in rows[grades >= GOOD].tolist()], np.int64)
            for rows, grades in valid.by_query()
        ]

    def __call__(self, model: nn.Module) -> float:
        scores_QI = encode_tokens(model, self.queries) @ encode_tokens(model, self.items).T
        top_QK = torch.topk(scores_QI, min(10, scores_QI.shape[1]), dim=1).indices.cpu().numpy()
        recalls = [
            np.isin(truth, top).mean()
            for truth, top in zip(self.truth, top_QK, strict=True)
            if len(truth)
        ]
        return float(np.mean(recalls)) if recalls else 0.0


@torch.no_grad()
def encode_tokens(model: nn.Module, tokens: Tokens, size: int = 256) -> Tensor:
    """[N, D] float32 on the model's device."""
    device, blocks = next(model.parameters()).device, tokens.blocks(size)
    sorted_ND = torch.cat([model(*tokens.batch(block, device)).float() for block in blocks])
    return sorted_ND[torch.from_numpy(np.argsort(np.concatenate(blocks))).to(device)]


def _on(device: torch.device, *arrays: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(array).to(device) for array in arrays]


def _unjudged(train: JudgedPairs, hard_QN: Ints, width: int) -> list[Ints]:
    """The mined rows that nobody judged for the query."""
    keys = np.unique(train.query_P * width + train.rows_P)
    unjudged_QN = (hard_QN >= 0) & ~np.isin(
        np.arange(len(hard_QN))[:, None] * width + hard_QN, keys
    )
    return [rows[mask].astype(np.int64) for rows, mask in zip(hard_QN, unjudged_QN, strict=True)]
