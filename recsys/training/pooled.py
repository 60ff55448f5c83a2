"""A text encoder as a module to train, and texts as batches for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from recsys.encoders.batching import pad_batch
from recsys.encoders.transformer import TransformerEncoder, pool
from recsys.training.adapters import Adapters, adapted, merged
from recsys.training.loop import Positions

#: A CPU runs a batch in pieces of like length: short texts of varied length are mostly padding
#: otherwise.
_PIECES = 4
_TOKENIZER = ("tokenizer*.json", "special_tokens_map.json", "vocab.txt", "*.model")


class Pooled(nn.Module):
    """The model of `base`, pooled to unit vectors exactly as `base` does it, in fp32 weights of its
    own.

    `adapters`, `rank` and `steps` as in `adapters.adapted`.
    """

    def __init__(
        self,
        base: TransformerEncoder,
        adapters: Adapters | None = None,
        rank: int = 16,
        steps: int | None = None,
    ) -> None:
        from transformers import AutoModel

        super().__init__()
        self.base = base
        plain = AutoModel.from_pretrained(base.folder, dtype=torch.float32)
        self.model = adapted(plain, adapters, rank, steps)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """[B, dim], each row of length 1, from token ids and 1 where there is a token, both padded
        on the right."""
        if ids_BT.device.type != "cpu" or len(ids_BT) < 2 * _PIECES:
            return self._vectors(ids_BT, mask_BT)
        lengths_B = mask_BT.sum(dim=1)
        order = lengths_B.argsort(stable=True)
        pieces = [(piece, int(lengths_B[piece[-1]])) for piece in order.tensor_split(_PIECES)]
        sorted_BD = torch.cat(
            [self._vectors(ids_BT[piece, :end], mask_BT[piece, :end]) for piece, end in pieces]
        )
        return sorted_BD[order.argsort()]

    def _vectors(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        hidden_BTD = self.model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
        pooled_BD = pool(hidden_BTD, mask_BT.bool(), mask_BT.sum(dim=1), self.base.pooling)
        return nn.functional.normalize(pooled_BD, dim=1)

    def save(self, folder: Path) -> None:
        """A folder for `TransformerEncoder`, adapters merged into the weights (of this object
        too)."""
        self.model = merged(self.model)
        self.model.save_pretrained(folder)
        for pattern in _TOKENIZER:
            for file in self.base.folder.glob(pattern):
                shutil.copyfile(file, folder / file.name)


class Tokens:
    """Texts behind a prefix, tokenised once, cut out in batches of any places."""

    def __init__(self, base: TransformerEncoder, texts: Sequence[str], prefix: str = "") -> None:
        self._tokens, self._pad = base._tokenize([prefix + text for text in texts]), base.pad

    def __len__(self) -> int:
        return len(self._tokens)

    def blocks(self, size: int) -> list[Positions]:
        """All places, those of like length together, at most `size` in each."""
        lengths_N = self._tokens.value_lengths().to_numpy()
        return np.array_split(np.argsort(lengths_N, kind="stable"), -(-len(self) // size))

    def batch(self, places: Positions, device: Any) -> tuple[Tensor, Tensor]:
        """Ids and mask [B, T] int64, as long as the longest of the batch."""
        ids_BT, lengths_B = pad_batch(self._tokens.take(pa.array(places)), self._pad)
        is_token_BT = np.arange(ids_BT.shape[1]) < lengths_B[:, None]
        return torch.from_numpy(ids_BT).to(device), torch.from_numpy(
            is_token_BT.astype(np.int64)
        ).to(device)
