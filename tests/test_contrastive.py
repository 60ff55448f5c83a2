"""An encoder that learns which made-up words mean the same, and what it must never take for a wrong
answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets.judgments import USABLE, JudgedPairs
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError
from recsys.training import contrastive
from recsys.training.contrastive import NEGATIVES, TEMPERATURE, tune_encoder
from recsys.training.loop import seed_everything
from recsys.training.pooled import Pooled, Tokens
from recsys.training.schedule import FitResult, Schedule
from tests.toy_kinds import EACH, KINDS, TEXTS, VERBS, bert_folder, judged

SCHEDULE = Schedule(epochs=12, batch_size=32, learning_rate=3e-3, patience=0)
TRAIN, VALID = judged(VERBS[:3]), judged(VERBS[3:], 1)
NONE_QN = np.full((len(TRAIN.queries), 1), -1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TransformerEncoder:
    return TransformerEncoder(
        str(bert_folder(tmp_path_factory.mktemp("bert"))),
        query_prefix="find ",
        item_prefix="red ",
        max_tokens=16,
    )


@pytest.fixture(scope="module")
def tuned(
    encoder: TransformerEncoder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FitResult]:
    folder = tmp_path_factory.mktemp("tuned")
    return folder, tune_encoder(
        encoder, TEXTS, TRAIN, VALID, hard_QN=NONE_QN, folder=folder, schedule=SCHEDULE
    )


def opened(folder: Path) -> TransformerEncoder:
    return TransformerEncoder(str(folder), query_prefix="find ", item_prefix="red ", max_tokens=16)


def recall(encoder: TransformerEncoder) -> float:
    """Recall@10 of queries with a verb that training never saw; each has nine answers."""
    scores_QI = encoder.encode_queries(VALID.queries) @ encoder.encode_items(TEXTS).T
    top_QK = np.argsort(-scores_QI, axis=1)[:, :10]
    kinds_Q = np.arange(len(VALID.queries)) % KINDS
    return float((top_QK // EACH == kinds_Q[:, None]).mean())


def test_tuning_raises_recall(encoder: TransformerEncoder, tuned: tuple[Path, FitResult]) -> None:
    folder, fitted = tuned
    assert fitted.best > 0.95 > 0.3 > fitted.start
    assert recall(opened(folder)) > 0.95 > 0.3 > recall(encoder)


def test_what_is_saved_is_an_encoder_of_another_space(
    encoder: TransformerEncoder, tuned: tuple[Path, FitResult]
) -> None:
    again = opened(tuned[0])
    assert again.dim == encoder.dim
    assert again.space.rsplit("-", 1)[1] != encoder.space.rsplit("-", 1)[1]
    assert again.tokenize(["buy aa3"]).to_pylist() == encoder.tokenize(["buy aa3"]).to_pylist()
    fresh = TransformerEncoder(
        str(encoder.folder), query_prefix="find ", item_prefix="red ", max_tokens=16
    )
    assert fresh.space == encoder.space, "the base is left as it was"
    np.testing.assert_array_equal(fresh.encode_items(TEXTS[:3]), encoder.encode_items(TEXTS[:3]))


def test_low_rank_adapters_end_in_the_same_kind_of_folder(
    encoder: TransformerEncoder, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    schedule = Schedule(epochs=6, batch_size=32, learning_rate=1e-2, patience=0)
    fitted = tune_encoder(
        encoder,
        TEXTS,
        TRAIN,
        VALID,
        hard_QN=NONE_QN,
        folder=tmp_path,
        schedule=schedule,
        adapters="lora",
    )
    assert fitted.best > 2 * fitted.start
    assert recall(opened(tmp_path)) == pytest.approx(fitted.best, abs=0.15)
    assert opened(tmp_path).space != encoder.space


def test_same_seed_same_weights(encoder: TransformerEncoder, tmp_path: Path) -> None:
    schedule = Schedule(epochs=1, batch_size=64, learning_rate=3e-3, patience=0, seed=7)
    for name in ("first", "second"):
        tune_encoder(
            encoder, TEXTS, TRAIN, VALID, hard_QN=NONE_QN, folder=tmp_path / name, schedule=schedule
        )
    first, second = (opened(tmp_path / name).encode_items(TEXTS) for name in ("first", "second"))
    np.testing.assert_array_equal(first, second)


def test_no_usable_pair_is_said(encoder: TransformerEncoder, tmp_path: Path) -> None:
    bad = JudgedPairs.from_unsorted(["aa1", "aa2"], [0, 1], [3, 4], [0.0, 0.25])
    with pytest.raises(
        InputError, match=rf"no pair of the training file is graded {USABLE} or better"
    ):
        tune_encoder(
            encoder, TEXTS, bad, VALID, hard_QN=NONE_QN, folder=tmp_path, schedule=SCHEDULE
        )
    assert not list(tmp_path.iterdir())


def contrast(
    encoder: TransformerEncoder, train: JudgedPairs, hard_QN: np.ndarray
) -> contrastive._Contrast:
    return contrastive._Contrast(encoder, TEXTS, train, train.positives(), hard_QN)


#: "aa0" wants 0 (right), 1 (usable) and not 2; "aa1" wants 1 and 3; "aa2" was judged on 4 alone,
#: and that is wrong.
FEW = JudgedPairs.from_unsorted(
    ["aa0", "aa1", "aa2"], [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 3, 4], [1.0, 0.5, 0.0, 1.0, 0.75, 0.0]
)
HARD_QN = np.array([[0, 2, 5, 6, -1], [1, 3, -1, -1, -1], [4, 7, 8, 9, -1]])


def test_left_out_worked_example(encoder: TransformerEncoder) -> None:
    """The batch asks 0 for 0, 1 for 1, 0 for 1; beside them stand 3, 2, 0 and 1 as negatives."""
    of_B, rows_B = np.array([0, 1, 0]), np.array([0, 1, 1])
    rows_C = np.array([0, 1, 1, 3, 2, 0, 1])
    left_out_BC = contrast(encoder, FEW, HARD_QN)._left_out(of_B, rows_B, rows_C)
    assert left_out_BC.astype(int).tolist() == [
        [0, 1, 1, 0, 0, 1, 1],
        [0, 0, 1, 1, 0, 0, 1],
        [1, 1, 0, 0, 0, 1, 1],
    ]


batches = st.lists(st.integers(0, 239), min_size=1, max_size=12, unique=True)


@settings(max_examples=30, deadline=None)
@given(batches, st.lists(st.integers(0, len(TEXTS) - 1), max_size=12))
def test_left_out_is_what_is_usable_for_the_query_but_not_asked_for(
    encoder, batch, negatives
) -> None:
    good = TRAIN.positives()
    pairs = good[np.array(batch) % len(good)]
    of_B, rows_B = TRAIN.query_P[pairs], TRAIN.rows_P[pairs]
    rows_C = np.concatenate([rows_B, np.array(negatives, np.int64)])
    left_out_BC = contrast(encoder, TRAIN, NONE_QN)._left_out(of_B, rows_B, rows_C)
    positives = set(zip(TRAIN.query_P[good].tolist(), TRAIN.rows_P[good].tolist(), strict=True))
    for at, query in enumerate(of_B.tolist()):
        wanted = [
            (query, row) in positives and place != at for place, row in enumerate(rows_C.tolist())
        ]
        assert left_out_BC[at].tolist() == wanted


def test_mined_negatives_leave_the_judged_out(encoder: TransformerEncoder) -> None:
    few = contrast(encoder, FEW, HARD_QN)
    assert [rows.tolist() for rows in few.hard] == [[5, 6], [], [7, 8, 9]]
    assert [rows.tolist() for rows in few.bad] == [[2], [], [4]]
    seed_everything(0)
    drawn = few._negatives(np.repeat([0, 1, 2], 200)).reshape(3, 200 * NEGATIVES)
    assert set(drawn[0].tolist()) == {2, 5, 6}
    assert set(drawn[2].tolist()) == {4, 7, 8, 9}
    assert len(set(drawn[1].tolist())) > len(TEXTS) / 2, "where there are none, any item"
    assert (drawn[0] == 2).mean() == pytest.approx(contrastive.JUDGED_NEGATIVES, abs=0.08)


class Given(torch.nn.Module):
    """Gives queries and items, in turn, the vectors it was made with."""

    def __init__(self, *vectors: list[list[float]]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.vectors = [torch.tensor(each) for each in vectors]

    def forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        vectors_BD = self.vectors.pop(0)
        assert len(vectors_BD) == len(ids_BT)
        return vectors_BD


def test_the_loss_is_weighed_by_grade_and_skips_other_answers(
    encoder: TransformerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs (aa0, 0) of grade 1, (aa0, 1) of grade .5 with negatives 2 and 5: neither item is
    against the other."""
    few = contrast(encoder, FEW, HARD_QN)
    monkeypatch.setattr(few, "_negatives", lambda of_B: np.array([2, 5]))
    queries = [[1.0, 0.0], [1.0, 0.0]]
    items = [[0.03, 0.0], [0.06, 0.0], [0.0, 1.0], [0.03, 0.0]]
    loss = few(Given(queries, items), np.array([0, 1]))
    one, two, nought = (np.exp(cosine / TEMPERATURE) for cosine in (0.03, 0.06, 0.0))
    first = -np.log(one / (one + nought + one))
    second = -np.log(two / (two + nought + one))
    assert loss.item() == pytest.approx((1.0 * first + 0.5 * second) / 1.5, rel=1e-4)


def test_vectors_come_in_the_order_of_the_texts(encoder: TransformerEncoder) -> None:
    texts = ["aa1 buy red blue c1 c2", "bb2", "find aa3 aa4", "", "c5 c6"]
    model = Pooled(encoder).eval()
    together_ND = contrastive.encode_tokens(model, Tokens(encoder, texts), size=2)
    np.testing.assert_allclose(together_ND, opened_plain(encoder).encode_items(texts), atol=1e-5)


def opened_plain(encoder: TransformerEncoder) -> TransformerEncoder:
    return TransformerEncoder(str(encoder.folder), max_tokens=16)


def test_validation_without_answers_is_nothing(encoder: TransformerEncoder) -> None:
    wrong = JudgedPairs.from_unsorted(["aa1"], [0], [3], [0.0])
    assert contrastive._Recall(encoder, TEXTS, wrong)(Pooled(encoder).eval()) == 0
