"""Sequence packing: a transformer on a GPU over texts laid end to end in rows of a fixed number of
tokens, without padding.

All rows have one shape, so the layers are compiled once. The model is any of transformers' that
takes an attention function: this one is torch's flex attention with a mask of the texts' bounds,
and positions restart with each text. Legend: N texts, S texts of a row, T tokens of a row, Q blocks
of BLOCK tokens, D dimensions."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from recsys.encoders.batching import pack_sequences
from recsys.types import Floats, Ints

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import FlexKernelOptions

Tensor = torch.Tensor
#: The name that this module's attention has in transformers.
PACKED = "packed"
#: Tokens of a block of queries, which reads the blocks of keys that share a text with it. Titles of
#: 42 tokens on an H200: 128 gives 255 k texts/s, 64 293 k.
BLOCK = 64
#: Arguments of transformers' interface that change the attention.
UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias", "attention_bias")
_KERNEL: FlexKernelOptions = {"BLOCK_M": BLOCK, "BLOCK_N": 32}
#: Compiled with the layer that calls it, or alone. Uncompiled it would make all [T, T] scores.
_flex_attention = torch.compile(flex_attention, dynamic=False)


class PackedModel:
    """Text vectors of a transformers model on a GPU.

    A forward pass takes `row_tokens`: memory grows with it, and so does speed until the GPU is
    full."""

    def __init__(self, model: Any, pooling: str, row_tokens: int = 131_072) -> None:
        """Shares its weights with `model`, which is not changed. `row_tokens` is rounded up to
        whole blocks."""
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.row_tokens = row_tokens = -(-row_tokens // BLOCK) * BLOCK
        self.pooling = pooling
        self._model = model = copy.deepcopy(model, shared)
        self._first = _first_position(model)
        self._lock = threading.Lock()
        causal = any(getattr(module, "is_causal", False) for module in model.modules())
        self._mask = PackedMask(row_tokens, causal, model.device)
        for module in model.modules():
            module.packed_mask = self._mask.blocks
        model.set_attn_implementation(PACKED)
        model.config.use_cache = False  # the key-value cache of decoders
        for layer in _layers(model):
            layer.compile(dynamic=False)

    def encode(self, tokens: pa.ListArray) -> Floats:
        """[N, D] unit vectors; calls run one at a time. ValueError for a text longer than a row."""
        ids, lengths_N = (
            tokens.flatten().to_numpy(),
            tokens.value_lengths().to_numpy().astype(np.int64),
        )
        shape, on_gpu = (
            (len(tokens), self._model.config.hidden_size),
            self._model.device.type == "cuda",
        )
        out_ND = torch.empty(shape, dtype=torch.float32, pin_memory=on_gpu)
        with self._lock, torch.inference_mode():
            for start, stop, row_3T in pack_sequences(ids, lengths_N, self.row_tokens):
                out_ND[start:stop].copy_(
                    self._vectors(row_3T, lengths_N[start:stop]), non_blocking=True
                )
            if on_gpu:
                torch.cuda.current_stream(self._model.device).synchronize()
        return out_ND.numpy()

    def _vectors(self, row_3T: Ints, lengths_S: Ints) -> Tensor:
        device = self._model.device
        ids_T, begins_T, _ = _to_device(row_3T, device)
        self._mask.update(row_3T[1:])
        tokens_T = torch.arange(self.row_tokens, device=device, dtype=torch.int32)
        positions_T = tokens_T - begins_T + self._first
        hidden_TD = self._model(
            input_ids=ids_T[None], position_ids=positions_T[None]
        ).last_hidden_state[0]
        lengths = _to_device(lengths_S, device)
        ends_S = _to_device(np.cumsum(lengths_S), device)
        if self.pooling == "cls":
            pooled_SD = hidden_TD[ends_S - lengths].float()
        elif self.pooling == "last":
            pooled_SD = hidden_TD[ends_S - 1].float()
        else:
            used_TD = hidden_TD[: lengths_S.sum()].float()
            pooled_SD = torch.segment_reduce(used_TD, "mean", lengths=lengths, unsafe=True)
        return torch.nn.functional.normalize(pooled_SD, dim=1)


class PackedMask:
    """The block mask of a row: a token attends to its own text, with `causal` to what precedes it.

    Its tensors stay the same and are overwritten for each row, so nothing is compiled again."""

    def __init__(self, row_tokens: int, causal: bool, device: torch.device | str) -> None:
        count = row_tokens // BLOCK
        bounds_2T = torch.zeros((2, row_tokens), dtype=torch.int32, device=device)

        def same_text(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            inside = (key >= bounds_2T[0][query]) & (key < bounds_2T[1][query])
            return inside & (key <= query) if causal else inside

        self._bounds_2T = bounds_2T
        self.blocks = BlockMask.from_kv_blocks(
            torch.zeros((1, 1, count), dtype=torch.int32, device=device),
            torch.zeros((1, 1, count, count), dtype=torch.int32, device=device),
            BLOCK_SIZE=BLOCK,
            mask_mod=same_text,
        )

    def update(self, bounds_2T: Ints) -> None:
        """For a row whose token t belongs to the text from bounds_2T[0, t] to bounds_2T[1, t]."""
        device = self._bounds_2T.device
        self._bounds_2T.copy_(_to_device(bounds_2T, device))
        counts_Q, indices_QK = key_blocks(bounds_2T)
        self.blocks.kv_num_blocks[0, 0].copy_(_to_device(counts_Q, device))
        width = indices_QK.shape[1]
        self.blocks.kv_indices[0, 0, :, :width].copy_(_to_device(indices_QK, device))


def key_blocks(bounds_2T: Ints) -> tuple[Ints, Ints]:
    """For each block of queries how many blocks of keys its texts lie in, and which: counts_Q and
    indices_QK, of whose rows the first counts_Q count."""
    bounds_2QB = bounds_2T.reshape(2, -1, BLOCK)
    first_Q, last_Q = bounds_2QB[0, :, 0] // BLOCK, (bounds_2QB[1, :, -1] - 1) // BLOCK
    counts_Q = last_Q - first_Q + 1
    indices_QK = first_Q[:, None] + np.arange(counts_Q.max())
    return counts_Q.astype(np.int32), np.minimum(indices_QK, len(counts_Q) - 1).astype(np.int32)


def _to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A copy; to a GPU asynchronous, from pinned memory."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


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
    """transformers' attention interface: [1, T, H, D] from queries [1, H, T, D], keys and values
    [1, H or fewer, T, D]. NotImplementedError for what flex attention or the mask cannot do."""
    if unsupported := [name for name in UNSUPPORTED if options.get(name) is not None]:
        raise NotImplementedError(f"{type(module).__name__} needs {', '.join(unsupported)}")
    if query.shape[-1] < 16:
        raise NotImplementedError(f"heads of {query.shape[-1]} dimensions: flex attention needs 16")
    hidden = _flex_attention(
        query,
        key,
        value,
        block_mask=module.packed_mask,
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
        kernel_options=_KERNEL,
    )
    return hidden.transpose(1, 2), None


AttentionInterface.register(PACKED, _attend)
AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
