"""The trained sequence model of users: SASRec with items that have content and a residual.

An item's vector is v_i = W c_i + s_i r_i: its content, projected, and a residual learned for the
item alone, shrunk by s_i = n_i / (n_i + shrinkage) with n_i its events: an item without events has
the vector of its content. Loads torch, so it is imported only where a trained model is. Legend: B
users, L events, I items, C content features, D dimensions."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recsys.arrays import Histories
from recsys.retrieval.vectors.exact import top_k
from recsys.types import Floats, Ints
from recsys.users.content import ContentFeatures
from recsys.users.recency import unit_rows
from recsys.users.sasrec import SASRec, SequenceConfig

#: An unseen item's neighbours are searched among so many items with most events.
REFERENCES, NEIGHBOURS = 20_000, 4
#: Amazon Beauty, 5 % of the items unseen, recall@10 of users whose target is one of them: 1 gives
#: .059, 1.1 .092; of all others .109 and .105, as the unseen take places from them.
REACH = 1.1
CONFIG, WEIGHTS = "shape.json", "weights.safetensors"
CONTENT, ITEMS = "content.safetensors", "items.arrow"


def pad_histories(
    histories: Histories, length: int
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], NDArray[np.int64]]:
    """rows_BL, days_BL (since the first event of the row), types_BL of each user's newest events
    of items in the catalogue, oldest first and padded with zeros; and counts_B. L is the length of
    the longest, at most `length`."""
    listed_E = np.flatnonzero(histories.items >= 0)
    owners_E = histories.owners_E[listed_E]
    totals_B = np.bincount(owners_E, minlength=len(histories))
    positions_E = np.arange(len(listed_E)) - np.repeat(np.cumsum(totals_B) - totals_B, totals_B)
    counts_B = np.minimum(totals_B, length)
    positions_E -= (totals_B - counts_B)[owners_E]
    newest_E = positions_E >= 0
    at, events = (owners_E[newest_E], positions_E[newest_E]), listed_E[newest_E]
    shape = len(histories), max(1, counts_B.max(initial=0))
    rows_BL, types_BL = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    days_BL = np.zeros(shape, np.float64)
    rows_BL[at], types_BL[at] = histories.items[events], histories.types[events]
    days_BL[at] = histories.days[events]
    days_BL[at] -= days_BL[at[0], 0]
    return rows_BL, days_BL.astype(np.float32), types_BL, counts_B.astype(np.int64)


class SequenceModel:
    """The user model of a folder that training wrote. On a GPU where there is one."""

    def __init__(
        self, folder: str | Path, device: str | None = None, threads: int | None = None
    ) -> None:
        folder = Path(folder)
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.config = SequenceConfig(**json.loads((folder / CONFIG).read_text()))
        self.network = SASRec(self.config)
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
        """[I, d]: content, projected, plus the residual; of an item that training never saw, which
        has none, an estimate.

        Its direction is the mean of its own content's and of the NEIGHBOURS most similar by content
        that training saw, its length theirs times REACH: shorter vectors are in nobody's list."""
        features_IC = self.content.features(items, vectors_ID)
        content_IC = torch.from_numpy(features_IC).to(self.device)
        vectors_Id = self.network.project_content(content_IC).cpu().numpy()
        rows_I = np.asarray(
            pc.fill_null(pc.index_in(items["item_id"], value_set=self.item_ids), -1)
        )
        vectors_Id[rows_I >= 0] += self.residuals_ID[rows_I[rows_I >= 0]]
        unseen = np.flatnonzero((rows_I < 0) & features_IC.any(axis=1))
        vectors_Id[unseen] = self._estimate(unit_rows(features_IC[unseen]), vectors_Id[unseen])
        return vectors_Id

    def _estimate(self, content_NC: Floats, own_ND: Floats) -> Floats:
        """[N, d]: vectors of unseen items, from their own content and their neighbours'."""
        neighbours = min(NEIGHBOURS, len(self.near_RC))
        rows_NK, similarity_NK = top_k(content_NC, self.near_RC, neighbours)
        weights_NK = np.maximum(similarity_NK, 1e-3) ** 2
        weights_NK /= weights_NK.sum(axis=1, keepdims=True)
        near_NKD = self.near_RD[rows_NK]
        lengths_N1 = (np.linalg.norm(near_NKD, axis=2) * weights_NK).sum(axis=1, keepdims=True)
        directions_ND = unit_rows((near_NKD * weights_NK[:, :, None]).sum(axis=1) + own_ND)
        return directions_ND * lengths_N1 * np.float32(REACH)

    @torch.no_grad()
    def encode_history(self, histories: Histories, items_ID: Floats) -> Floats:
        """[B, d] of length 1: the state after the newest event; zeros without one."""
        rows_BL, days_BL, types_BL, counts_B = pad_histories(histories, self.config.length)
        if not counts_B.any():
            return np.zeros((len(histories), self.config.dim), np.float32)
        inputs = np.asarray(items_ID[rows_BL], np.float32), types_BL, days_BL
        tensors = (torch.from_numpy(array).to(self.device) for array in inputs)
        states_BLD = self.network(*tensors).cpu().numpy()
        last_BD = states_BLD[np.arange(len(histories)), np.maximum(counts_B - 1, 0)]
        last_BD[counts_B == 0] = 0
        return unit_rows(last_BD)


@torch.no_grad()
def save_sequence_model(
    folder: Path,
    network: SASRec,
    content: ContentFeatures,
    item_ids: pa.Array,
    *,
    features_IC: Floats,
    residuals_ID: Floats,
    events_I: Ints,
) -> None:
    """Writes what `SequenceModel` loads. `residuals_ID` are shrunk already; those of items without
    events are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().float().cpu().numpy() for name, tensor in network.state_dict().items()
    }
    seen, most = np.flatnonzero(events_I), np.argsort(-events_I, kind="stable")[:REFERENCES]
    near = most[events_I[most] > 0]
    device = next(network.parameters()).device
    content_RD = network.project_content(torch.from_numpy(features_IC[near]).to(device))
    references = {
        "near_content": unit_rows(features_IC[near]).astype(np.float16),
        "near_places": (content_RD.cpu().numpy() + residuals_ID[near]).astype(np.float16),
    }
    save_file({**weights, **references, "residuals": residuals_ID[seen]}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(asdict(network.config)))
    content.save(folder / CONTENT)
    table = pa.table({"item_id": item_ids.take(pa.array(seen))})
    with pa.ipc.new_file(str(folder / ITEMS), table.schema) as writer:
        writer.write_table(table)
