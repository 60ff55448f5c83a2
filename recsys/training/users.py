"""The user model learned from histories: which item comes next, by a softmax over the catalogue.

Legend: E events, W windows of a history, B windows of a batch, L events of a window, P positions
that are learned from, I items, N items of a softmax, D dimensions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import InputError
from recsys.retrieval.behaviour.sparse import EVENT_WEIGHTS
from recsys.training.loop import FitResult, Positions, Schedule, fit, seed_everything
from recsys.training.workers import from_first, rank
from recsys.types import PURCHASE, Floats, Histories, Ints, Rows
from recsys.users.content import ContentFeatures
from recsys.users.sasrec import SASRec, SequenceConfig
from recsys.users.sequence import pad_histories, save_sequence_model

#: Users whose next item is foretold at each validation.
VALIDATED = 5_000
K = 10
#: Of a batch on a CPU, by length; a GPU computes pads in no time, and waits for small parts.
PARTS = 4


@dataclass(frozen=True)
class UserModelRecipe:
    """How the network is built and trained.

    Up to `full_below` items the softmax is over all of them; above, over the target and `negatives`
    drawn anew for each batch, half of them uniformly and half by popularity. `shrinkage` is that of
    residuals, in events; `residual_dropout` is the share of items that stand without theirs in each
    batch, so that content learns to do without (DropoutNet, Volkovs, Yu & Poutanen 2017)."""

    schedule: Schedule
    dim: int = 256
    layers: int = 2
    heads: int = 2
    length: int = 50
    dropout: float = 0.5
    shrinkage: float = 2.0
    residual_dropout: float = 0.2
    full_below: int = 50_000
    negatives: int = 4_096

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads", "length", "negatives"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: give 1 or more")
        for name in ("dropout", "residual_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}: give a share, 0 to 1")
        if not self.shrinkage >= 0:
            raise InputError(f"shrinkage is {self.shrinkage}: give 0 events or more")
        if self.dim % self.heads:
            raise InputError(
                f"{self.dim} dimensions cannot be shared by {self.heads} heads: give a multiple as dim"
            )

    def with_values(self, values: Mapping[str, float]) -> UserModelRecipe:
        """This recipe with other numbers for fields of it, or of its schedule, by name.

        The seed is not among them: runs are told apart by it. InputError for a name that is no such
        field, and for a fraction where a whole number belongs."""
        own, timed = _numbers(self), _numbers(self.schedule)
        known = own | timed
        if unknown := sorted(set(values) - set(known)):
            raise InputError(
                f"a recipe of the user model has no {', '.join(unknown)}: its numbers are {', '.join(known)}"
            )
        numbers = {
            name: _whole(name, value) if known[name] == "int" else float(value)
            for name, value in values.items()
        }
        schedule: Any = {name: value for name, value in numbers.items() if name in timed}
        changed: Any = {name: value for name, value in numbers.items() if name in own}
        return replace(self, schedule=replace(self.schedule, **schedule), **changed)

    def values(self) -> dict[str, float]:
        """What `with_values` can change, as it is."""
        return {
            name: getattr(part, name) for part in (self, self.schedule) for name in _numbers(part)
        }

    @classmethod
    def here(cls, seed: int = 0, log_dir: Path | None = None) -> UserModelRecipe:
        """For this machine."""
        return (cls.on_gpu if torch.cuda.is_available() else cls.on_cpu)(seed, log_dir)

    @classmethod
    def on_gpu(cls, seed: int = 0, log_dir: Path | None = None) -> UserModelRecipe:
        return cls(Schedule(60, 512, 1e-3, warmup=0.05, patience=8, seed=seed, log_dir=log_dir))

    @classmethod
    def on_cpu(cls, seed: int = 0, log_dir: Path | None = None) -> UserModelRecipe:
        """Half as wide, and a sampled softmax from a few thousand items on."""
        schedule = Schedule(30, 128, 1e-3, warmup=0.05, patience=5, seed=seed, log_dir=log_dir)
        return cls(schedule, dim=128, full_below=2_000, negatives=1_024)


def _numbers(part: UserModelRecipe | Schedule) -> dict[str, str]:
    """Its fields that are numbers, but for the seed, and which kind of number: int or float."""
    found = {
        field.name: str(field.type) for field in fields(part) if field.type in ("int", "float")
    }
    return {name: kind for name, kind in found.items() if name != "seed"}


def _whole(name: str, value: float) -> int:
    if not float(value).is_integer():
        raise InputError(f"{name} is {value}: give a whole number")
    return int(value)


@dataclass(frozen=True)
class NextItemTargets:
    """Users to validate on: what each did before, and the item that came next (row)."""

    asked: Histories
    next_B: Rows


def leave_last_out(histories: Histories, seed: int = 0) -> tuple[Histories, NextItemTargets]:
    """The histories without the newest event of up to VALIDATED users, and those events as what is
    to be foretold.

    Of users with three events or more whose newest is of an item they had not met before.
    """
    lengths, ends = np.diff(histories.offsets), histories.offsets[1:]
    able = np.flatnonzero(lengths >= 3)
    able = able[_is_first(histories)[ends[able] - 1]]
    chosen = np.sort(np.random.default_rng(seed).permutation(able)[:VALIDATED])
    kept_E = np.ones(len(histories.items), bool)
    kept_E[ends[chosen] - 1] = False
    before = histories.where(kept_E)
    return before, NextItemTargets(before.users(chosen), histories.items[ends[chosen] - 1])


def train_user_model(
    histories: Histories,
    valid: NextItemTargets,
    items: pa.Table,
    vectors_ID: Floats,
    folder: Path,
    recipe: UserModelRecipe,
    say: Callable[[str], None] = lambda _: None,
    resume: bool = False,
) -> FitResult:
    """Learns from `histories`, keeps the weights that foretell `valid` best (ndcg@10 over all items
    without those bought), and writes what `users.sequence.SequenceModel` opens to `folder`.

    `items` (columns of `tables.ITEMS`) and `vectors_ID`, their encoded texts, are in the order of
    the histories' rows. Every event is a target unless the same user had the item before - what he
    buys again is another source's - and counts by its type (EVENT_WEIGHTS). Raises InputError where
    there is no such event."""
    content = ContentFeatures.fit(items, vectors_ID)
    features_IC = content.features(items, vectors_ID)
    windows = Windows.of(histories, recipe.length)
    if not len(windows.starts_W):
        raise InputError(
            f"{len(histories):,} histories hold no second item to foretell from a first: wait for more events"
        )
    seed_everything(recipe.schedule.seed)
    events_I = np.bincount(histories.items, minlength=items.num_rows)
    learner = TrainableUserModel(recipe, features_IC, events_I)
    loss, validate = _NextItem(windows, recipe, events_I), _Ndcg(valid, recipe.length)
    fitted = fit(learner, len(windows.starts_W), loss, validate, recipe.schedule, say, resume)
    if rank() == 0:
        item_ids = items["item_id"].combine_chunks()
        save_sequence_model(
            folder,
            learner.network,
            content,
            item_ids,
            features_IC=features_IC,
            residuals_ID=learner.residuals(),
            events_I=events_I,
        )
    from_first(None)  # nobody opens it before it is there
    return fitted


def score_recipe(
    values: Mapping[str, float],
    histories: Histories,
    valid: NextItemTargets,
    items: pa.Table,
    vectors_ID: Floats,
    recipe: UserModelRecipe,
) -> float:
    """ndcg@10 on `valid` of a model trained by the recipe with these values; the model itself is
    thrown away."""
    recipe = recipe.with_values(values)
    with tempfile.TemporaryDirectory(prefix="nightshelf-user-model-") as folder:
        return train_user_model(histories, valid, items, vectors_ID, Path(folder), recipe).best


class TrainableUserModel(nn.Module):
    """The network and what only training needs: each item's content, and its residual."""

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
        self.network, self.dropped = SASRec(config), recipe.residual_dropout
        self.residual = nn.Embedding(len(features_IC), recipe.dim)
        nn.init.normal_(self.residual.weight, std=0.02)
        shrunk_I = events_I / np.maximum(events_I + recipe.shrinkage, 1e-9)
        self.register_buffer("content_IC", torch.from_numpy(features_IC), persistent=False)
        self.register_buffer(
            "shrunk_I", torch.from_numpy(shrunk_I.astype(np.float32)), persistent=False
        )

    def places(self, rows_N: Tensor) -> Tensor:
        """[N, D]: the items' places; in training some stand without their residual."""
        shrunk_N = self.shrunk_I[rows_N]
        if self.training:
            shrunk_N = shrunk_N * (torch.rand_like(shrunk_N) >= self.dropped)
        return self.network.project_content(self.content_IC[rows_N]) + shrunk_N[
            :, None
        ] * self.residual(rows_N)

    def forward(
        self, rows_N: Tensor, batches: list[tuple[Tensor, Tensor, Tensor]]
    ) -> tuple[list[Tensor], Tensor]:
        """User states [B, L, D] of each batch (places in `rows_N`, types, days: [B, L]); the items'
        places [N, D]."""
        places_ND = self.places(rows_N)
        return [
            self.network(places_ND[at_BL], types_BL, days_BL)
            for at_BL, types_BL, days_BL in batches
        ], places_ND

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
        weights_E = np.where(_is_first(histories), EVENT_WEIGHTS[histories.types], 0).astype(
            np.float32
        )
        summed = np.concatenate([[0], np.cumsum(weights_E, dtype=np.float64)])
        kept = summed[stops_W] - summed[starts_W + 1] > 0
        return cls(histories, starts_W[kept], stops_W[kept], weights_E)


def _is_first(histories: Histories) -> NDArray[np.bool_]:
    """[E]: whether the user had never met the event's item before."""
    keys = histories.owners_E * (1 + int(histories.items.max(initial=0))) + histories.items
    first_E = np.zeros(len(keys), bool)
    first_E[np.unique(keys, return_index=True)[1]] = True
    return first_E


@dataclass(frozen=True)
class _Events:
    """Items, types, days since the window's first event, and weights as targets: [B, L + 1], zeros
    behind."""

    rows_BM: NDArray[np.int64]
    types_BM: NDArray[np.int64]
    days_BM: Floats
    weights_BM: Floats


class _NextItem:
    """The loss over windows: cross-entropy of each target among all items, or among a sample of
    them."""

    def __init__(self, windows: Windows, recipe: UserModelRecipe, events_I: Ints) -> None:
        self.windows, self.length, self.items = windows, recipe.length, len(events_I)
        self.draws = recipe.negatives if self.items > recipe.full_below else 0
        popular_I = events_I / max(1, events_I.sum())
        self.drawn_by_I = 0.5 / self.items + 0.5 * popular_I
        self.cumulative_I = np.cumsum(self.drawn_by_I)

    def __call__(self, model: nn.Module, places: Positions) -> Tensor:
        device = next(model.parameters()).device
        parts = [
            self._events(part)
            for part in self._alike(places, 1 if device.type == "cuda" else PARTS)
        ]
        rows_N, log_odds_N = self._candidates(
            np.concatenate([part.rows_BM.ravel() for part in parts])
        )
        batches, targets, weights = [], [], []
        for part in parts:
            at_BM = torch.from_numpy(np.searchsorted(rows_N, part.rows_BM)).to(device)
            types_BM, days_BM, weights_BM = (
                torch.from_numpy(array).to(device)
                for array in (part.types_BM, part.days_BM, part.weights_BM)
            )
            batches.append((at_BM[:, :-1], types_BM[:, :-1], days_BM[:, :-1]))
            targets.append(at_BM[:, 1:])
            weights.append(weights_BM[:, 1:])
        states, places_ND = model(torch.from_numpy(rows_N).to(device), batches)
        kept = [weights_BL > 0 for weights_BL in weights]
        states_PD = torch.cat(
            [all_BLD[kept_BL] for all_BLD, kept_BL in zip(states, kept, strict=True)]
        )
        targets_P = torch.cat(
            [all_BL[kept_BL] for all_BL, kept_BL in zip(targets, kept, strict=True)]
        )
        weights_P = torch.cat(
            [all_BL[kept_BL] for all_BL, kept_BL in zip(weights, kept, strict=True)]
        )
        with torch.autocast(device.type, enabled=False):  # bf16 would round the logits to 1/16
            logits_PN = states_PD.float() @ places_ND.float().T
        if log_odds_N is not None:
            own_P1 = logits_PN.gather(1, targets_P[:, None])
            logits_PN = (logits_PN + torch.from_numpy(log_odds_N).to(device)).scatter(
                1, targets_P[:, None], own_P1
            )
        losses_P = functional.cross_entropy(logits_PN, targets_P, reduction="none")
        return (losses_P * weights_P).sum() / weights_P.sum()

    def _alike(self, places: Positions, count: int) -> list[Positions]:
        """The batch in parts of like length: padded to the longest, most of it would be pads."""
        lengths = (self.windows.stops_W - self.windows.starts_W)[places]
        parts = np.array_split(places[np.argsort(lengths, kind="stable")], count)
        return [part for part in parts if len(part)]

    def _events(self, places: Positions) -> _Events:
        w, known = self.windows, self.windows.histories
        starts, stops = w.starts_W[places], w.stops_W[places]
        at_BM = starts[:, None] + np.arange((stops - starts).max())
        there_BM = at_BM < stops[:, None]
        at_BM = np.minimum(at_BM, len(known.items) - 1)
        days_BM = (known.days[at_BM] - known.days[starts][:, None]) * there_BM
        rows_BM, types_BM = known.items[at_BM] * there_BM, known.types[at_BM] * there_BM
        weights_BM = (w.weights_E[at_BM] * there_BM).astype(np.float32)
        return _Events(
            rows_BM.astype(np.int64),
            types_BM.astype(np.int64),
            days_BM.astype(np.float32),
            weights_BM,
        )

    def _candidates(self, read: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats | None]:
        """The items of the softmax, ascending, and what is added to their logits; None where they
        are all there are.

        An item that is drawn with probability p stands for 1/p of its like (Horvitz & Thompson
        1952; the logQ correction of Yi et al. 2019); one that is only there to be read stands for
        none. The loop seeds numpy."""
        if not self.draws:
            return np.arange(self.items), None
        drawn = np.searchsorted(
            self.cumulative_I, np.random.random(self.draws) * self.cumulative_I[-1]
        )
        drawn = np.unique(np.minimum(drawn, self.items - 1))
        rows_N = np.union1d(drawn, read)
        log_odds_N = np.full(len(rows_N), -1e9, np.float32)
        chance = -np.expm1(self.draws * np.log1p(-self.drawn_by_I[drawn]))
        log_odds_N[np.searchsorted(rows_N, drawn)] = -np.log(chance)
        return rows_N, log_odds_N


class _Ndcg:
    """ndcg@K of the next item, ranked among all that the user had not bought."""

    def __init__(self, valid: NextItemTargets, length: int) -> None:
        chosen = np.random.default_rng(0).permutation(len(valid.asked))[:VALIDATED]
        chosen = chosen[
            np.argsort(np.diff(valid.asked.offsets)[chosen], kind="stable")
        ]  # blocks of like length
        self.asked = valid.asked.users(chosen)
        self.next_B, self.length = valid.next_B[chosen].astype(np.int64), length

    def __call__(self, model: nn.Module) -> float:
        assert isinstance(model, TrainableUserModel)
        device, gains = next(model.parameters()).device, []
        places_ID = model.places(torch.arange(len(model.shrunk_I), device=device)).float()
        for start in range(0, len(self.asked), 512):
            asked = self.asked.slice(start, min(start + 512, len(self.asked)))
            rows_BL, days_BL, types_BL, counts_B = (
                torch.from_numpy(array).to(device) for array in pad_histories(asked, self.length)
            )
            states = model.network(places_ID[rows_BL], types_BL, days_BL)
            last_BD = states[
                torch.arange(len(asked), device=device), (counts_B - 1).clamp(min=0)
            ].float()
            scores_BI = last_BD @ places_ID.T
            had = asked.types == PURCHASE
            scores_BI[
                torch.from_numpy(asked.owners_E[had]), torch.from_numpy(asked.items[had]).long()
            ] = -torch.inf
            next_B = torch.from_numpy(self.next_B[start : start + 512]).to(device)
            ranks_B = (scores_BI > scores_BI.gather(1, next_B[:, None])).sum(dim=1)
            gains.append(torch.where(ranks_B < K, 1 / torch.log2(ranks_B + 2.0), 0.0))
        return float(torch.cat(gains).mean()) if gains else 0.0
