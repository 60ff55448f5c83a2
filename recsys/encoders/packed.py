"""A transformer on a GPU over texts laid end to end: rows of so many tokens, no pads.

All rows have one shape, so the layers are compiled once. The model is whatever transformers opens:
its attention is told where each token's text begins and ends, and its positions begin anew with
each text."""

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
#: How transformers calls the attention of this module.
PACKED = "packed"


class PackedModel:
    """Vectors of texts by a model of transformers, opened on a GPU.

    `row_tokens` are computed at once: memory grows with it, and so does speed until the GPU is
    full."""

    def __init__(
        self, model: Any, pooling: str, row_tokens: int = 131_072, compiled: bool = True
    ) -> None:
        """Weights are shared with the model, which stays as it is. Rows are filled up to whole
        tiles of `attention`."""
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.row_tokens = row_tokens = -(-row_tokens // BLOCK_Q) * BLOCK_Q
        self.pooling = pooling
        self._model = model = copy.deepcopy(model, shared)
        self._first = _first_position(model)
        self._lock = threading.Lock()
        self._where = torch.zeros((2, row_tokens), dtype=torch.int32, device=model.device)
        for module in model.modules():
            module.packed_where = self._where
        model.set_attn_implementation(PACKED)
        model.config.use_cache = False  # of keys and values, by decoders
        if compiled:
            for layer in _layers(model):
                layer.compile(dynamic=False)

    def encode(self, tokens: pa.ListArray) -> Floats:
        """[N, D] unit vectors; one call at a time works, others wait. ValueError for a text longer
        than a row."""
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
        ids_T, begins_T, _ = there = self._there(row_3T)
        self._where.copy_(there[1:])
        places_T = (
            torch.arange(self.row_tokens, device=ids_T.device, dtype=torch.int32)
            - begins_T
            + self._first
        )
        hidden_TD = self._model(
            input_ids=ids_T[None], position_ids=places_T[None]
        ).last_hidden_state[0]
        lengths, ends_S = self._there(lengths_S), self._there(np.cumsum(lengths_S))
        if self.pooling == "cls":
            pooled_SD = hidden_TD[ends_S - lengths].float()
        elif self.pooling == "last":
            pooled_SD = hidden_TD[ends_S - 1].float()
        else:
            used = hidden_TD[: lengths_S.sum()].float()
            pooled_SD = torch.segment_reduce(used, "mean", lengths=lengths, unsafe=True)
        return torch.nn.functional.normalize(pooled_SD, dim=1)

    def _there(self, array: np.ndarray) -> Tensor:
        """On the GPU, copied while the CPU goes on."""
        return torch.from_numpy(array).pin_memory().to(self._model.device, non_blocking=True)


def _layers(model: Any) -> list[Any]:
    """The blocks of the model: the first list of several modules."""
    lists = (
        each for each in model.modules() if isinstance(each, torch.nn.ModuleList) and len(each) > 1
    )
    return list(next(lists, []))


def _first_position(model: Any) -> int:
    """Of RoBERTa and its children it is the one after the pad's."""
    embeddings = getattr(model, "embeddings", None)
    counts_from_pad = hasattr(embeddings, "create_position_ids_from_input_ids")
    return int(embeddings.padding_idx) + 1 if counts_from_pad else 0  # type: ignore[union-attr]


def _attend(
    module: Any, query: Any, key: Any, value: Any, _: Any, scaling: float, **others: Any
) -> tuple[Any, None]:
    """What transformers calls. NotImplementedError where the model wants more of its attention than
    we give."""
    if wanted := [name for name in _UNKNOWN if others.get(name) is not None]:
        raise NotImplementedError(f"{type(module).__name__} wants {', '.join(wanted)}")
    begins_T, ends_T = module.packed_where
    return attention(
        query, key, value, begins_T, ends_T, scaling, bool(getattr(module, "is_causal", False))
    ), None


#: What some models bend their attention with.
_UNKNOWN = ("sliding_window", "softcap", "s_aux", "position_bias", "attention_bias")
AttentionInterface.register(PACKED, _attend)
AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
