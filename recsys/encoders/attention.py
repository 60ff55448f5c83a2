"""Attention over packed sequences (variable-length attention): a Triton kernel for many short
texts.

Flash attention gives each text a tile of 128 queries of its own, of which a product's title fills a
third. Here a tile is 64 tokens of the row, of however many texts, and reads the keys of these texts
only."""

# No annotations from the future: Triton reads `tl.constexpr` from them.
from typing import Any

import torch
import triton
import triton.language as tl

BLOCK_Q = 64
BLOCK_K = 32


@triton.jit
def attend(
    queries, keys, values, out, begins, ends, scale,
    q_stride_h, q_stride_t, k_stride_h, k_stride_t, v_stride_h, v_stride_t, o_stride_h, o_stride_t,
    SHARED: tl.constexpr, CAUSAL: tl.constexpr, D: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out[t, h] = softmax(scale * queries[t, h] @ keys[begins[t]:ends[t], h // SHARED].T) @
    values[.., h // SHARED].

    `scale` is in powers of two. The softmax is computed online over blocks of keys (Milakov and
    Gimelshein, 2018)."""
    head, rows = tl.program_id(1).to(tl.int64), tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    dims, scale = tl.arange(0, BLOCK_D), tl.cast(scale, tl.float32)  # compiled code passes doubles
    begin, end = tl.load(begins + rows), tl.load(ends + rows)
    if CAUSAL:
        end = tl.minimum(end, rows + 1)
    inside = (dims < D)[None, :]
    q = tl.load(
        queries + head * q_stride_h + rows[:, None] * q_stride_t + dims[None, :],
        mask=inside,
        other=0.0,
    )
    from_k, from_v = keys + head // SHARED * k_stride_h, values + head // SHARED * v_stride_h
    top = tl.full((BLOCK_Q,), -1e30, tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    sums = tl.zeros((BLOCK_Q, BLOCK_D), tl.float32)
    for low in range(tl.min(begin, axis=0), tl.max(end, axis=0), BLOCK_K):
        columns = low + tl.arange(0, BLOCK_K)
        in_range = (columns < tl.max(end, axis=0))[:, None] & inside
        k = tl.load(
            from_k + columns[:, None] * k_stride_t + dims[None, :], mask=in_range, other=0.0
        )
        v = tl.load(
            from_v + columns[:, None] * v_stride_t + dims[None, :], mask=in_range, other=0.0
        )
        same_text = (columns[None, :] >= begin[:, None]) & (columns[None, :] < end[:, None])
        scores = tl.where(same_text, tl.dot(q, k.T) * scale, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, axis=1))
        weights, decay = tl.exp2(scores - new_top[:, None]), tl.exp2(top - new_top)
        total = total * decay + tl.sum(weights, axis=1)
        sums = tl.dot(weights.to(v.dtype), v, sums * decay[:, None])
        top = new_top
    sums = sums / total[:, None]
    to = out + head * o_stride_h + rows[:, None] * o_stride_t + dims[None, :]
    tl.store(to, sums.to(out.dtype.element_ty), mask=inside)


def attention(
    queries: Any, keys: Any, values: Any, *, begins_T: Any, ends_T: Any, scale: float, causal: bool
) -> torch.Tensor:
    """[1, T, H, D] from queries [1, H, T, D], keys and values [1, H or fewer, T, D]; T is a
    multiple of `BLOCK_Q`.

    Token t attends to tokens begins_T[t] to ends_T[t], none after itself where `causal`.
    """
    _, heads, tokens, dim = queries.shape
    out = torch.empty((1, tokens, heads, dim), dtype=queries.dtype, device=queries.device)
    attend[(tokens // BLOCK_Q, heads)](
        queries, keys, values, out, begins_T, ends_T, scale * 1.4426950408889634,
        queries.stride(1), queries.stride(2), keys.stride(1), keys.stride(2),
        values.stride(1), values.stride(2), out.stride(2), out.stride(1),
        SHARED=heads // keys.shape[1], CAUSAL=causal, D=dim,
        BLOCK_D=max(16, triton.next_power_of_2(dim)), BLOCK_Q=BLOCK_Q, BLOCK_K=BLOCK_K,
        num_warps=4, num_stages=3,
    )  # fmt: skip
    return out
