"""A user as a causal transformer reads what he did (SASRec, Kang & McAuley 2018), in one space with
the items.

An item lies at v_i = W c_i + s_i r_i: its content, projected, and a residual learned for it alone,
shrunk by s_i = n_i / (n_i + shrinkage), n_i its events: one that nobody has touched lies where its
content puts it. Loads torch with the module, so it is imported where a trained model is. Legend: B
users, L events, I items, C content features, D dimensions."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from recsys.retrieval.vectors.exact import top_k
from recsys.types import EVENT_TYPES, Floats, Histories, Ints
from recsys.users.content import ContentFeatures
from recsys.users.recency import unit_rows

#: Gaps are told apart by doublings of a minute: the last bucket begins after eight years.
GAPS = 24
MINUTES_A_DAY = 1440.0
#: Amazon Beauty, validation recall@10: 1 gives .133, 2 .136, 4 .135.
CONTENT_SCALE = 2.0
#: Of the items with most events so many are looked through for an unseen item's neighbours.
REFERENCES, NEIGHBOURS = 20_000, 4
#: Amazon Beauty, 5 % of the items unseen, recall@10 of who took one of them: 1 gives .059, 1.1
#: .092; of all others .109 and .105, as the unseen take places from them.
REACH = 1.1
SHAPE, WEIGHTS, CONTENT, ITEMS = (
    "shape.json",
    "weights.safetensors",
    "content.safetensors",
    "items.arrow",
)


@dataclass(frozen=True)
class SequenceConfig:
    """What a network is built by. `length` is how many of the newest events are read."""

    content: int
    dim: int = 256
    layers: int = 2
    heads: int = 2
    length: int = 50
    dropout: float = 0.5


class SASRec(nn.Module):
    """The projection W of content features, and the reader of histories."""

    def __init__(self, shape: SequenceConfig) -> None:
        super().__init__()
        self.shape = shape
        self.project = nn.Linear(shape.content, shape.dim, bias=False)
        self.types, self.gaps = (
            nn.Embedding(len(EVENT_TYPES), shape.dim),
            nn.Embedding(GAPS, shape.dim),
        )
        self.drop, self.enter, self.leave = (
            nn.Dropout(shape.dropout),
            nn.LayerNorm(shape.dim),
            nn.LayerNorm(shape.dim),
        )
        self.blocks = nn.ModuleList([TransformerBlock(shape) for _ in range(shape.layers)])
        for table in (self.types, self.gaps):
            nn.init.normal_(table.weight, std=0.02)

    def place(self, content_IC: Tensor) -> Tensor:
        """[I, D]: where content alone puts items."""
        return self.project(CONTENT_SCALE * content_IC)

    def forward(self, items_BLD: Tensor, types_BL: Tensor, days_BL: Tensor) -> Tensor:
        """[B, L, D]: the user after each event. Pads stand last, where no event sees them."""
        since_BL = torch.cat([torch.zeros_like(days_BL[:, :1]), days_BL.diff(dim=1)], dim=1)
        told_BLD = self.types(types_BL) + self.gaps(gap_buckets(since_BL))
        states_BLD = self.enter(self.drop(items_BLD * math.sqrt(self.shape.dim) + told_BLD))
        for block in self.blocks:
            states_BLD = block(states_BLD)
        return self.leave(states_BLD)


class TransformerBlock(nn.Module):
    """Causal self-attention, a learned bias for each distance, then a feed-forward network
    (pre-LN)."""

    def __init__(self, shape: SequenceConfig) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, shape.dropout
        self.before, self.between = nn.LayerNorm(shape.dim), nn.LayerNorm(shape.dim)
        self.qkv, self.out = nn.Linear(shape.dim, 3 * shape.dim), nn.Linear(shape.dim, shape.dim)
        self.distance = nn.Parameter(torch.zeros(shape.heads, shape.length))
        self.feed = nn.Sequential(
            nn.Linear(shape.dim, 4 * shape.dim),
            nn.GELU(),
            nn.Dropout(shape.dropout),
            nn.Linear(4 * shape.dim, shape.dim),
        )
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, states_BLD: Tensor) -> Tensor:
        batch, length, dim = states_BLD.shape
        places = torch.arange(length, device=states_BLD.device)
        apart_LL = places[:, None] - places[None]
        bias_hLL = self.distance[:, apart_LL.clamp(min=0)].masked_fill(apart_LL < 0, -math.inf)
        parted = (batch, length, 3, self.heads, dim // self.heads)
        q, k, v = self.qkv(self.before(states_BLD)).view(parted).permute(2, 0, 3, 1, 4)
        dropped = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            q, k, v, bias_hLL[None].to(q.dtype), dropped
        )
        states_BLD = states_BLD + self.drop(
            self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        )
        return states_BLD + self.drop(self.feed(self.between(states_BLD)))


def gap_buckets(days: Tensor) -> Tensor:
    """log2(1 + minutes), whole; 0 for two events at the same instant."""
    return torch.log2(1 + days.clamp(min=0) * MINUTES_A_DAY).long().clamp(max=GAPS - 1)


def pad_histories(
    histories: Histories, length: int
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], NDArray[np.int64]]:
    """rows_BL, days_BL (after the first event that is read), types_BL of each user's newest events
    of known items, oldest first and zeros behind; and counts_B. L is as long as the longest, at
    most `length`."""
    known_E = np.flatnonzero(histories.items >= 0)
    owners_E = histories.owners_E[known_E]
    totals_B = np.bincount(owners_E, minlength=len(histories))
    places_E = np.arange(len(known_E)) - np.repeat(np.cumsum(totals_B) - totals_B, totals_B)
    counts_B = np.minimum(totals_B, length)
    places_E -= (totals_B - counts_B)[owners_E]
    kept = places_E >= 0
    owners, places, events = owners_E[kept], places_E[kept], known_E[kept]
    shape = len(histories), max(1, counts_B.max(initial=0))
    rows_BL, types_BL, days_BL = (
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.float64),
    )
    rows_BL[owners, places], types_BL[owners, places] = (
        histories.items[events],
        histories.types[events],
    )
    days_BL[owners, places] = histories.days[events]
    days_BL[owners, places] -= days_BL[owners, 0]
    return rows_BL, days_BL.astype(np.float32), types_BL, counts_B.astype(np.int64)


class SequenceModel:
    """The user model that training left in a folder. On a GPU where there is one."""

    def __init__(
        self, folder: str | Path, device: str | None = None, threads: int | None = None
    ) -> None:
        folder = Path(folder)
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.shape = SequenceConfig(**json.loads((folder / SHAPE).read_text()))
        self.network = SASRec(self.shape)
        weights = load_file(folder / WEIGHTS)
        self.residuals_ID = weights.pop("residuals")
        self.near_RC, self.near_RD = (
            weights.pop(name).astype(np.float32) for name in ("near_content", "near_places")
        )
        self.network.load_state_dict(
            {name: torch.from_numpy(array) for name, array in weights.items()}
        )
        self.network.eval().to(self.device)
        self.content = ContentFeatures.load(folder / CONTENT)
        self.item_ids = pa.ipc.open_file(pa.memory_map(str(folder / ITEMS))).read_all()["item_id"]

    @torch.no_grad()
    def embed_items(self, items: pa.Table, vectors_ID: Floats) -> Floats:
        """[I, d]: content, projected, and the residual. An item that training never saw has none:
        it is completed.

        Its place is the mean direction of its own content and of the NEIGHBOURS most like it that
        training saw, and as far out as these, times REACH: what lies nearer the middle is in
        nobody's list."""
        features_IC = self.content.features(items, vectors_ID)
        places_ID = self.network.place(torch.from_numpy(features_IC).to(self.device)).cpu().numpy()
        known_I = np.asarray(
            pc.fill_null(pc.index_in(items["item_id"], value_set=self.item_ids), -1)
        )
        places_ID[known_I >= 0] += self.residuals_ID[known_I[known_I >= 0]]
        unseen = np.flatnonzero((known_I < 0) & features_IC.any(axis=1))
        places_ID[unseen] = self._completed(unit_rows(features_IC[unseen]), places_ID[unseen])
        return places_ID

    def _completed(self, content_NC: Floats, own_ND: Floats) -> Floats:
        rows_NK, likeness_NK = top_k(content_NC, self.near_RC, min(NEIGHBOURS, len(self.near_RC)))
        shares_NK = np.maximum(likeness_NK, 1e-3) ** 2
        shares_NK /= shares_NK.sum(axis=1, keepdims=True)
        near_NKD = self.near_RD[rows_NK]
        lengths_N1 = (np.linalg.norm(near_NKD, axis=2) * shares_NK).sum(axis=1, keepdims=True)
        return (
            unit_rows((near_NKD * shares_NK[:, :, None]).sum(axis=1) + own_ND)
            * lengths_N1
            * np.float32(REACH)
        )

    @torch.no_grad()
    def encode_history(self, histories: Histories, items_ID: Floats) -> Floats:
        """[B, d] of length 1: the reader's state after the newest event; zeros without one."""
        rows_BL, days_BL, types_BL, counts_B = pad_histories(histories, self.shape.length)
        if not counts_B.any():
            return np.zeros((len(histories), self.shape.dim), np.float32)
        known = np.asarray(items_ID[rows_BL], np.float32), types_BL, days_BL
        states_BLD = (
            self.network(*(torch.from_numpy(array).to(self.device) for array in known))
            .cpu()
            .numpy()
        )
        last_BD = states_BLD[np.arange(len(histories)), np.maximum(counts_B - 1, 0)]
        last_BD[counts_B == 0] = 0
        return unit_rows(last_BD)


@torch.no_grad()
def save_sequence_model(
    folder: Path,
    network: SASRec,
    content: ContentFeatures,
    item_ids: pa.Array,
    features_IC: Floats,
    residuals_ID: Floats,
    events_I: Ints,
) -> None:
    """Writes what `SequenceModel` opens. `residuals_ID` are shrunk already; items without events
    are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().float().cpu().numpy() for name, tensor in network.state_dict().items()
    }
    seen, most = np.flatnonzero(events_I), np.argsort(-events_I, kind="stable")[:REFERENCES]
    near = most[events_I[most] > 0]
    device = next(network.parameters()).device
    places_RD = (
        network.place(torch.from_numpy(features_IC[near]).to(device)).cpu().numpy()
        + residuals_ID[near]
    )
    references = {"near_content": unit_rows(features_IC[near]), "near_places": places_RD}
    kept = {name: array.astype(np.float16) for name, array in references.items()}
    save_file({**weights, **kept, "residuals": residuals_ID[seen]}, folder / WEIGHTS)
    (folder / SHAPE).write_text(json.dumps(asdict(network.shape)))
    content.save(folder / CONTENT)
    table = pa.table({"item_id": item_ids.take(pa.array(seen))})
    with pa.ipc.new_file(str(folder / ITEMS), table.schema) as writer:
        writer.write_table(table)
