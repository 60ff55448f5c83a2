"""Sequence packing: a transformer on a GPU over texts laid end to end in rows of a fixed number of
tokens, without padding.

All rows have one shape, so the layers are compiled once. The model is any of transformers' that
takes an attention function: this one gets each token's bounds of its text, and positions restart
with each text."""

from __future__ import annotations

import copy
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from recsys.encoders.attention import BLOCK_Q, attention
from recsys.encoders.batching import pack_sequences
from recsys.types import Floats, Ints

Tensor = torch.Tensor
#: The name that this module's attention has in transformers.
PACKED = "packed"


class PackedModel:
    """Text vectors of a transformers model on a GPU.

    A forward pass takes `row_tokens`: memory grows with it, and so does speed until the GPU is
    full."""

    def __init__(
        self, model: Any, pooling: str, row_tokens: int = 131_072, compiled: bool = True
    ) -> None:
        """Shares its weights with `model`, which is not changed. `row_tokens` is rounded up to
        whole tiles of `attention`."""
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.row_tokens = row_tokens = -(-row_tokens // BLOCK_Q) * BLOCK_Q
        self.pooling = pooling
        self._model = model = copy.deepcopy(model, shared)
        self._first = _first_position(model)
        self._lock = threading.Lock()
        self._bounds = torch.zeros((2, row_tokens), dtype=torch.int32, device=model.device)
        for module in model.modules():
            module.packed_bounds = self._bounds
        model.set_attn_implementation(PACKED)
        model.config.use_cache = False  # the key-value cache of decoders
        if compiled:
            for layer in _layers(model):
                layer.compile(dynamic=False)

    def encode(self, tokens: pa.ListArray) -> Floats:
        """[N, D] unit vectors; calls run one at a time. ValueError for a text longer than a row."""
        ids, lengths_N = (
            tokens.flatten().to_numpy(),
            tokens.value_lengths().to_numpy().astype(np.int64),
        )
        out_ND = torch.empty(
            (len(tokens), self._model.config.hidden_size), dtype=torch.float32, pin_memory=True
        )
        with self._lock, torch.inference_mode():
            for start, stop, row_3T in pack_sequences(ids, lengths_N, self.row_tokens):
                out_ND[start:stop].copy_(
                    self._vectors(row_3T, lengths_N[start:stop]), non_blocking=True
                )
            torch.cuda.current_stream(self._model.device).synchronize()
        return out_ND.numpy()

    def _vectors(self, row_3T: Ints, lengths_S: Ints) -> Tensor:
        ids_T, begins_T, _ = row = self._to_device(row_3T)
        self._bounds.copy_(row[1:])
        positions_T = (
            torch.arange(self.row_tokens, device=ids_T.device, dtype=torch.int32)
            - begins_T
            + self._first
        )
        hidden_TD = self._model(
            input_ids=ids_T[None], position_ids=positions_T[None]
        ).last_hidden_state[0]
        lengths = self._to_device(lengths_S)
        ends_S = self._to_device(np.cumsum(lengths_S))
        if self.pooling == "cls":
            pooled_SD = hidden_TD[ends_S - lengths].float()
        elif self.pooling == "last":
            pooled_SD = hidden_TD[ends_S - 1].float()
        else:
            tokens_TD = hidden_TD[: lengths_S.sum()].float()
            pooled_SD = torch.segment_reduce(tokens_TD, "mean", lengths=lengths, unsafe=True)
        return torch.nn.functional.normalize(pooled_SD, dim=1)

    def _to_device(self, array: np.ndarray) -> Tensor:
        """Copies from pinned memory, asynchronously."""
        return torch.from_numpy(array).pin_memory().to(self._model.device, non_blocking=True)


def _layers(model: Any) -> list[Any]:
    """The transformer blocks: the first list of several modules."""
    lists = (
        each for each in model.modules() if isinstance(each, torch.nn.ModuleList) and len(each) > 1
    )
    return list(next(lists, []))


def _first_position(model: Any) -> int:
    """0, or in RoBERTa and its descendants the position after the pad's."""
    embeddings = getattr(model, "embeddings", None)
    counts_from_pad = hasattr(embeddings, "create_position_ids_from_input_ids")
    return int(embeddings.padding_idx) + 1 if counts_from_pad else 0  # type: ignore[union-attr]


def _attend(
    module: Any, query: Any, key: Any, value: Any, _: Any, *, scaling: float, **options: Any
) -> tuple[Any, None]:
    """transformers' attention interface. NotImplementedError where the model needs a feature that
    the kernel has not."""
    if unsupported := [name for name in _UNSUPPORTED if options.get(name) is not None]:
        raise NotImplementedError(f"{type(module).__name__} needs {', '.join(unsupported)}")
    begins_T, ends_T = module.packed_bounds
    causal = bool(getattr(module, "is_causal", False))
    hidden = attention(
        query, key, value, begins_T=begins_T, ends_T=ends_T, scale=scaling, causal=causal
    )
    return hidden, None


#: Arguments of the interface that change the attention.
_UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias", "attention_bias")
AttentionInterface.register(PACKED, _attend)
AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
