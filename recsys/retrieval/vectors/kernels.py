"""The Triton kernels of `gpu.GpuFlatIndex`: maxima of groups, the best groups, their items scored
again.

Legend: Q queries, I items, D dimensions, T tiles of BLOCK_I items, G groups of DEPTH items, C
chosen groups. `masked` is nonzero for items that no query may have; `excluded` are the rows that
each query may not have, ascending within a query. Group g of a tile owns its items g % 8 + 8 *
(DEPTH * (g // 8) + 0..DEPTH-1): eight apart, because one thread of a Hopper matrix product holds
columns eight apart, and so needs no other thread for a maximum."""

# No annotations from the future: Triton reads `tl.constexpr` from them.
import triton
import triton.language as tl


@triton.jit
def group_maxima(
    queries, items, masked, maxima, tile_maxima, n_queries, n_items,
    D: tl.constexpr, DEPTH: tl.constexpr, MASKED: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """maxima[q, g] = the largest product of query q with an item of group g that is not masked,
    -inf where all are; tile_maxima[q, t] = the largest of tile t. `queries` and `items` are tensor
    descriptors."""
    tiles_q, tiles_i = tl.cdiv(n_queries, BLOCK_Q), tl.cdiv(n_items, BLOCK_I)
    groups: tl.constexpr = BLOCK_I // DEPTH
    for tile in tl.range(
        tl.program_id(0), tiles_q * tiles_i, tl.num_programs(0), flatten=True, warp_specialize=True
    ):
        tile_q, tile_i = tile % tiles_q, tile // tiles_q
        scores = tl.zeros((BLOCK_Q, BLOCK_I), tl.float32)
        for start in tl.range(0, D, BLOCK_D):
            a = queries.load([tile_q * BLOCK_Q, start])
            b = items.load([tile_i * BLOCK_I, start])
            scores = tl.dot(a, b.T, scores)
        rows_q = tile_q * BLOCK_Q + tl.arange(0, BLOCK_Q)
        rows_i = tile_i * BLOCK_I + tl.arange(0, BLOCK_I)
        valid_i = rows_i < n_items
        if MASKED:
            valid_i = valid_i & (tl.load(masked + rows_i, mask=valid_i, other=1) == 0)
        scores = tl.where(valid_i[None, :], scores, float("-inf"))
        best = tl.max(tl.reshape(scores, (BLOCK_Q, groups // 8, DEPTH, 8)), axis=2)
        best = tl.reshape(best, (BLOCK_Q, groups))
        to = (
            maxima
            + rows_q.to(tl.int64)[:, None] * (tiles_i * groups)
            + tile_i * groups
            + tl.arange(0, groups)[None, :]
        )
        tl.store(to, best, mask=(rows_q < n_queries)[:, None])
        tl.store(
            tile_maxima + rows_q.to(tl.int64) * tiles_i + tile_i,
            tl.max(best, axis=1),
            mask=rows_q < n_queries,
        )


@triton.jit
def _ordered(values):
    """Floats as integers that sort alike."""
    bits = values.to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def _bound(order, nothing, N, C):
    """A bound that at least N of `order` reach and, unless equal ones stand in the way, at most
    C."""
    low, high = nothing, tl.max(order, axis=0)
    bound, count = high, tl.sum((order >= high).to(tl.int32), axis=0)
    while (low < high) & ((count < N) | (count > C)):
        bound = low + ((high.to(tl.int64) - low.to(tl.int64) + 1) // 2).to(tl.int32)
        count = tl.sum((order >= bound).to(tl.int32), axis=0)
        low = tl.where(count >= N, bound, low)
        high = tl.where(count >= N, high, bound - 1)
    return tl.where((count >= N) & (count <= C), bound, low)


@triton.jit
def _slot_of(order, bound, nothing, C):
    """The slot of each that reaches the bound: those above it first, then equal ones while there is
    room, else -1."""
    above, equal = order > bound, (order == bound) & (order > nothing)
    more = tl.sum(above.to(tl.int32), axis=0)
    slot = (
        tl.where(
            above,
            tl.cumsum(above.to(tl.int32), axis=0),
            more + tl.cumsum(equal.to(tl.int32), axis=0),
        )
        - 1
    )
    return tl.where((above | equal) & (slot < C), slot, -1)


@triton.jit
def best_tiles(tile_maxima, chosen, n_tiles, N, C: tl.constexpr, WIDTH: tl.constexpr):
    """chosen[q] = the N to C tiles of the largest maxima of query q; slots without one are left as
    they are."""
    nothing = tl.full((), -2139095041, tl.int32)  # -inf, ordered
    query, tiles = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    order = _ordered(
        tl.load(tile_maxima + query * n_tiles + tiles, mask=tiles < n_tiles, other=float("-inf"))
    )
    slot = _slot_of(order, _bound(order, nothing, N, C), nothing, C)
    tl.store(chosen + query * C + slot, tiles, mask=slot >= 0)


@triton.jit
def best_groups(maxima, tiles, chosen, n_groups, N, C: tl.constexpr, GROUPS: tl.constexpr):
    """chosen[q] = the N to C groups of the largest maxima in the chosen tiles of query q."""
    nothing = tl.full((), -2139095041, tl.int32)
    query, slots = tl.program_id(0).to(tl.int64), tl.arange(0, C * GROUPS)
    tile = tl.load(tiles + query * C + slots // GROUPS)
    groups = tile * GROUPS + slots % GROUPS
    order = _ordered(
        tl.load(maxima + query * n_groups + groups, mask=tile >= 0, other=float("-inf"))
    )
    slot = _slot_of(order, _bound(order, nothing, N, C), nothing, C)
    tl.store(chosen + query * C + slot, groups, mask=slot >= 0)


@triton.jit
def _rows_of(group, slot, DEPTH: tl.constexpr, GROUPS: tl.constexpr):
    """The row of item `slot` (0..DEPTH-1) of a group."""
    inside = group % GROUPS
    return group // GROUPS * (GROUPS * DEPTH) + inside % 8 + 8 * (DEPTH * (inside // 8) + slot)


@triton.jit
def _is_excluded(rows, excluded, low, high, STEPS: tl.constexpr):
    """Whether each row is among excluded[low:high], which is ascending."""
    end = high
    for _ in range(STEPS):
        middle = (low + high) // 2
        before = tl.load(excluded + middle, mask=low < high, other=0x7FFFFFFF) < rows
        low, high = (
            tl.where(before & (low < high), middle + 1, low),
            tl.where(before | (low >= high), high, middle),
        )
    return tl.load(excluded + low, mask=low < end, other=-1) == rows


@triton.jit
def _scores(
    query, rows, valid, queries, items, stride_q, stride_i, D: tl.constexpr, BLOCK_D: tl.constexpr
):
    """fp32 products of pairs; `query` and `rows` [N], or one query for all rows."""
    dims = tl.arange(0, BLOCK_D)
    from_q = queries + query.to(tl.int64)[:, None] * stride_q + dims[None, :]
    from_i = items + rows.to(tl.int64)[:, None] * stride_i + dims[None, :]
    inside = valid[:, None] & (dims < D)[None, :]
    a, b = tl.load(from_q, mask=inside, other=0.0), tl.load(from_i, mask=inside, other=0.0)
    return tl.sum(a.to(tl.float32) * b.to(tl.float32), axis=1)


@triton.jit
def mask_excluded_groups(
    queries, items, masked, owners, excluded, offsets, maxima, n_entries, n_items, n_groups,
    stride_q, stride_i, D: tl.constexpr, BLOCK_D: tl.constexpr, DEPTH: tl.constexpr,
    GROUPS: tl.constexpr, MASKED: tl.constexpr, STEPS: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Maxima of the groups that hold an excluded item, without the excluded ones."""
    entries = tl.program_id(0) * STEP + tl.arange(0, STEP)
    valid = entries < n_entries
    query = tl.load(owners + entries, mask=valid, other=0)
    row = tl.load(excluded + entries, mask=valid, other=0)
    column = row % (GROUPS * DEPTH)
    group = row // (GROUPS * DEPTH) * GROUPS + column // (8 * DEPTH) * 8 + column % 8
    low = tl.load(offsets + query, mask=valid, other=0)
    high = tl.load(offsets + query + 1, mask=valid, other=0)
    best = tl.full((STEP,), float("-inf"), tl.float32)
    for slot in range(DEPTH):
        rows = _rows_of(group, slot, DEPTH, GROUPS)
        is_open = valid & (rows < n_items)
        if MASKED:
            is_open = is_open & (tl.load(masked + rows, mask=is_open, other=1) == 0)
        is_open = is_open & (_is_excluded(rows, excluded, low, high, STEPS) == 0)
        scores = _scores(
            query, rows, is_open, queries, items,
            stride_q=stride_q, stride_i=stride_i, D=D, BLOCK_D=BLOCK_D,
        )  # fmt: skip
        best = tl.maximum(best, tl.where(is_open, scores, float("-inf")))
    tl.store(maxima + query.to(tl.int64) * n_groups + group, best, mask=valid)


@triton.jit
def mask_excluded_tiles(
    owners,
    excluded,
    maxima,
    tile_maxima,
    n_entries,
    n_tiles,
    GROUPS: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
):
    """Maxima of the tiles that hold an excluded item, from those of their groups."""
    entries = tl.program_id(0) * STEP + tl.arange(0, STEP)
    valid = entries < n_entries
    query = tl.load(owners + entries, mask=valid, other=0).to(tl.int64)
    tile = tl.load(excluded + entries, mask=valid, other=0) // TILE
    from_g = maxima + (query * n_tiles + tile)[:, None] * GROUPS + tl.arange(0, GROUPS)[None, :]
    best = tl.max(tl.load(from_g, mask=valid[:, None], other=float("-inf")), axis=1)
    tl.store(tile_maxima + query * n_tiles + tile, best, mask=valid)


@triton.jit
def score_groups(
    queries, items, masked, chosen, excluded, offsets, keys, n_items, stride_q, stride_i,
    D: tl.constexpr, BLOCK_D: tl.constexpr, C: tl.constexpr, DEPTH: tl.constexpr,
    GROUPS: tl.constexpr, MASKED: tl.constexpr, STEPS: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """keys[q, c * DEPTH + j]: the fp32 product with item j of group chosen[q, c], and its row, as
    one integer that sorts by score and, among equals, by falling row; the least integer for no
    item."""
    query, slots = tl.program_id(0).to(tl.int64), tl.program_id(1) * STEP + tl.arange(0, STEP)
    group = tl.load(chosen + query * C + slots // DEPTH)
    rows = _rows_of(group, slots % DEPTH, DEPTH, GROUPS)
    valid = (group >= 0) & (rows < n_items)
    if MASKED:
        valid = valid & (tl.load(masked + rows, mask=valid, other=1) == 0)
    if STEPS:
        low = tl.full((STEP,), 0, tl.int32) + tl.load(offsets + query)
        high = tl.full((STEP,), 0, tl.int32) + tl.load(offsets + query + 1)
        valid = valid & (_is_excluded(rows, excluded, low, high, STEPS) == 0)
    same = tl.full((STEP,), 0, tl.int64) + query
    scores = _scores(
        same, rows, valid, queries, items,
        stride_q=stride_q, stride_i=stride_i, D=D, BLOCK_D=BLOCK_D,
    )  # fmt: skip
    scores += 0.0  # no -0.0
    key = (_ordered(scores).to(tl.int64) << 32) | (0x7FFFFFFF - rows).to(tl.int64)
    tl.store(keys + query * (C * DEPTH) + slots, tl.where(valid, key, -0x7FFFFFFFFFFFFFFF))
