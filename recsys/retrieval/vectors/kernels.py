"""The Triton kernels of `gpu.GpuFlatIndex`: maxima of groups, the best groups, their items scored
again.

Legend: Q queries, I items, D dimensions, T tiles of BLOCK_I items, G groups of DEPTH items, C
chosen ones. Group g of a tile owns its items g % 8 + 8 * (DEPTH * (g // 8) + 0..DEPTH-1): eight
apart, because one thread of a Hopper matrix product holds columns eight apart, and so needs no
other thread for a maximum."""

# No annotations from the future: Triton reads `tl.constexpr` from them.
import triton
import triton.language as tl


@triton.jit
def group_maxima(
    queries, items, closed, maxima, tile_maxima, n_queries, n_items,
    D: tl.constexpr, DEPTH: tl.constexpr, MASKED: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """maxima[q, g] = the largest product of query q with an item of group g that is not closed,
    -inf where none is; tile_maxima[q, t] = the largest of tile t. `queries` and `items` are tensor
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
        there_i = rows_i < n_items
        if MASKED:
            there_i = there_i & (tl.load(closed + rows_i, mask=there_i, other=1) == 0)
        scores = tl.where(there_i[None, :], scores, float("-inf"))
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
def _place(order, bound, nothing, C):
    """Where each goes that reaches the bound: those above it first, then equal ones while there is
    room, else -1."""
    above, equal = order > bound, (order == bound) & (order > nothing)
    more = tl.sum(above.to(tl.int32), axis=0)
    place = (
        tl.where(
            above,
            tl.cumsum(above.to(tl.int32), axis=0),
            more + tl.cumsum(equal.to(tl.int32), axis=0),
        )
        - 1
    )
    return tl.where((above | equal) & (place < C), place, -1)


@triton.jit
def best_tiles(tile_maxima, chosen, n_tiles, N, C: tl.constexpr, WIDTH: tl.constexpr):
    """chosen[q] = the N to C tiles of the largest maxima of query q; places without one are left as
    they are."""
    nothing = tl.full((), -2139095041, tl.int32)  # -inf, ordered
    query, tiles = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    order = _ordered(
        tl.load(tile_maxima + query * n_tiles + tiles, mask=tiles < n_tiles, other=float("-inf"))
    )
    place = _place(order, _bound(order, nothing, N, C), nothing, C)
    tl.store(chosen + query * C + place, tiles, mask=place >= 0)


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
    place = _place(order, _bound(order, nothing, N, C), nothing, C)
    tl.store(chosen + query * C + place, groups, mask=place >= 0)


@triton.jit
def _rows_of(group, place, DEPTH: tl.constexpr, GROUPS: tl.constexpr):
    """The row of item `place` (0..DEPTH-1) of a group."""
    inside = group % GROUPS
    return group // GROUPS * (GROUPS * DEPTH) + inside % 8 + 8 * (DEPTH * (inside // 8) + place)


@triton.jit
def _is_listed(rows, listed, low, high, STEPS: tl.constexpr):
    """Whether each row is among listed[low:high], which rises."""
    end = high
    for _ in range(STEPS):
        middle = (low + high) // 2
        before = tl.load(listed + middle, mask=low < high, other=0x7FFFFFFF) < rows
        low, high = (
            tl.where(before & (low < high), middle + 1, low),
            tl.where(before | (low >= high), high, middle),
        )
    return tl.load(listed + low, mask=low < end, other=-1) == rows


@triton.jit
def _scores(
    query, rows, there, queries, items, stride_q, stride_i, D: tl.constexpr, BLOCK_D: tl.constexpr
):
    """fp32 products of pairs; `query` and `rows` [N], or one query for all rows."""
    dims = tl.arange(0, BLOCK_D)
    from_q = queries + query.to(tl.int64)[:, None] * stride_q + dims[None, :]
    from_i = items + rows.to(tl.int64)[:, None] * stride_i + dims[None, :]
    inside = there[:, None] & (dims < D)[None, :]
    a, b = tl.load(from_q, mask=inside, other=0.0), tl.load(from_i, mask=inside, other=0.0)
    return tl.sum(a.to(tl.float32) * b.to(tl.float32), axis=1)


@triton.jit
def close_groups(
    queries, items, closed, owners, listed, offsets, maxima, n_entries, n_items, n_groups, stride_q, stride_i,
    D: tl.constexpr, BLOCK_D: tl.constexpr, DEPTH: tl.constexpr, GROUPS: tl.constexpr, MASKED: tl.constexpr,
    STEPS: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Maxima of the groups that hold an excluded item, without the excluded ones."""
    entries = tl.program_id(0) * STEP + tl.arange(0, STEP)
    there = entries < n_entries
    query = tl.load(owners + entries, mask=there, other=0)
    row = tl.load(listed + entries, mask=there, other=0)
    column = row % (GROUPS * DEPTH)
    group = row // (GROUPS * DEPTH) * GROUPS + column // (8 * DEPTH) * 8 + column % 8
    low = tl.load(offsets + query, mask=there, other=0)
    high = tl.load(offsets + query + 1, mask=there, other=0)
    best = tl.full((STEP,), float("-inf"), tl.float32)
    for place in range(DEPTH):
        rows = _rows_of(group, place, DEPTH, GROUPS)
        open_ = there & (rows < n_items)
        if MASKED:
            open_ = open_ & (tl.load(closed + rows, mask=open_, other=1) == 0)
        open_ = open_ & (_is_listed(rows, listed, low, high, STEPS) == 0)
        scores = _scores(query, rows, open_, queries, items, stride_q, stride_i, D, BLOCK_D)
        best = tl.maximum(best, tl.where(open_, scores, float("-inf")))
    tl.store(maxima + query.to(tl.int64) * n_groups + group, best, mask=there)


@triton.jit
def close_tiles(
    owners,
    listed,
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
    there = entries < n_entries
    query = tl.load(owners + entries, mask=there, other=0).to(tl.int64)
    tile = tl.load(listed + entries, mask=there, other=0) // TILE
    from_g = maxima + (query * n_tiles + tile)[:, None] * GROUPS + tl.arange(0, GROUPS)[None, :]
    best = tl.max(tl.load(from_g, mask=there[:, None], other=float("-inf")), axis=1)
    tl.store(tile_maxima + query * n_tiles + tile, best, mask=there)


@triton.jit
def score_groups(
    queries, items, closed, chosen, listed, offsets, keys, n_items, stride_q, stride_i,
    D: tl.constexpr, BLOCK_D: tl.constexpr, C: tl.constexpr, DEPTH: tl.constexpr, GROUPS: tl.constexpr,
    MASKED: tl.constexpr, STEPS: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """keys[q, c * DEPTH + j]: the fp32 product with item j of group chosen[q, c], and its row, as
    one integer that sorts by score and, among equals, by falling row; the least integer for no
    item."""
    query, slots = tl.program_id(0).to(tl.int64), tl.program_id(1) * STEP + tl.arange(0, STEP)
    group = tl.load(chosen + query * C + slots // DEPTH)
    rows = _rows_of(group, slots % DEPTH, DEPTH, GROUPS)
    there = (group >= 0) & (rows < n_items)
    if MASKED:
        there = there & (tl.load(closed + rows, mask=there, other=1) == 0)
    if STEPS:
        low = tl.full((STEP,), 0, tl.int32) + tl.load(offsets + query)
        high = tl.full((STEP,), 0, tl.int32) + tl.load(offsets + query + 1)
        there = there & (_is_listed(rows, listed, low, high, STEPS) == 0)
    same = tl.full((STEP,), 0, tl.int64) + query
    scores = (
        _scores(same, rows, there, queries, items, stride_q, stride_i, D, BLOCK_D) + 0.0
    )  # no -0.0
    key = (_ordered(scores).to(tl.int64) << 32) | (0x7FFFFFFF - rows).to(tl.int64)
    tl.store(keys + query * (C * DEPTH) + slots, tl.where(there, key, -0x7FFFFFFFFFFFFFFF))
