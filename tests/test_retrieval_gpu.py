"""The top-k of a GPU beside a double precision reference: every k, dimension, mask and list of
exclusions."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def unit(rows: int, dim: int):  # type: ignore[no-untyped-def]
    return torch.nn.functional.normalize(torch.randn(rows, dim, device="cuda"), dim=1).bfloat16()


@pytest.mark.parametrize("k", [1, 10, 100, 1000])
@pytest.mark.parametrize("dim", [64, 100, 128, 384, 768, 1024])
def test_every_size_is_exact(k: int, dim: int) -> None:
    check(unit(300, dim), unit(50_003, dim), k)


@pytest.mark.parametrize("longest", [0, 1, 30, 1000, 10_000])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("k", [100, 1000])
def test_what_is_excluded_or_closed_never_comes(longest: int, masked: bool, k: int) -> None:
    check(unit(200, 384), unit(50_000, 384), k, longest, masked)


@pytest.mark.parametrize(
    ("queries", "items", "k"), [(1, 100_000, 10), (7, 90, 100), (100, 300, 100), (3, 1, 1)]
)
def test_few_queries_and_few_items(queries: int, items: int, k: int) -> None:
    check(unit(queries, 64), unit(items, 64), k, longest=5, masked=True)


def test_many_equal_items() -> None:
    items = unit(30_000, 384)
    items[1000:6000] = items[1000]
    check(unit(100, 384), items, 100)


def test_queries_in_blocks_are_queries_at_once() -> None:
    from recsys.retrieval.vectors.gpu import GpuFlatIndex

    items, queries = GpuFlatIndex(unit(20_000, 128)), unit(700, 128)
    at_once, in_blocks = (items.top_k(queries, 20, budget_bytes=budget) for budget in (1 << 34, 1))
    assert torch.equal(at_once[0], in_blocks[0])
    assert torch.equal(at_once[1], in_blocks[1])


def test_nan_is_refused() -> None:
    from recsys.retrieval.vectors.gpu import GpuFlatIndex

    with pytest.raises(ValueError, match="NaN"):
        GpuFlatIndex(torch.full((3, 8), torch.nan))


def check(queries, items, k: int, longest: int = 0, masked: bool = False) -> None:  # type: ignore[no-untyped-def]
    """Scores are the reference's, each row has its score, nothing comes twice. Half of the
    exclusions are the best."""
    from recsys.retrieval.vectors.gpu import GpuFlatIndex

    random, users = np.random.default_rng(0), len(queries)
    reference = queries.double() @ items.double().T
    allowed, exclude = (torch.rand(len(items), device="cuda") < 0.7 if masked else None), None
    if allowed is not None:
        reference[:, ~allowed] = -torch.inf
    if longest:
        counts = random.integers(0, min(longest, len(items)) + 1, users)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        owners, rows = (
            np.repeat(np.arange(users), counts),
            random.integers(-1, len(items), offsets[-1]),
        )
        best = torch.topk(reference, min(longest, len(items)), dim=1).indices.cpu().numpy()
        half = random.random(len(owners)) < 0.5
        rows[half] = best[owners[half], (np.arange(len(owners)) - offsets[owners])[half]]
        exclude, known = (offsets, rows), rows >= 0
        reference[
            torch.as_tensor(owners[known]).cuda(), torch.as_tensor(rows[known]).cuda()
        ] = -torch.inf
    rows_QK, scores_QK = GpuFlatIndex(items).top_k(queries, k, allowed_I=allowed, exclude=exclude)
    reference = torch.nn.functional.pad(reference, (0, max(0, k - len(items))), value=-torch.inf)
    wanted_QK = torch.topk(reference, k, dim=1).values
    there_QK = torch.isfinite(wanted_QK)
    own_QK = torch.gather(reference, 1, rows_QK.clamp(min=0))
    assert (rows_QK[~there_QK] == -1).all()
    assert torch.isneginf(scores_QK[~there_QK]).all()
    assert (scores_QK.double() - wanted_QK)[there_QK].abs().max() < 2e-6
    assert (scores_QK.double() - own_QK)[there_QK].abs().max() < 2e-6
    for found in rows_QK.tolist():
        kept = [row for row in found if row >= 0]
        assert len(set(kept)) == len(kept)
