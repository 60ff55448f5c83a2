"""The training loop against least squares, against itself broken off, and against two workers."""

import math
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recsys.errors import InputError, RecsysError
from recsys.training.adapters import adapted, merged
from recsys.training.loop import fit, seed_everything
from recsys.training.schedule import Schedule
from tests.test_encoders import tiny  # noqa: F401

SCHEDULE = Schedule(epochs=8, batch_size=8, learning_rate=0.05, patience=0)
INPUTS_ND = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
TARGETS_N = INPUTS_ND @ np.array([1.0, -2.0, 0.5], np.float32) + 3


class Line(nn.Module):
    """A linear model behind dropout, with weights that no loss reaches."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.head = nn.Linear(3, 1)
        self.dropout = nn.Dropout(dropout)
        self.unused = nn.Linear(2, 2)

    def forward(self, inputs_ND):
        return self.head(self.dropout(inputs_ND))[:, 0]


def made(dropout=0.0):
    seed_everything(1)
    return Line(dropout)


def loss(model, places):
    """Two calls of the model a step, as contrastive losses make."""
    half = (len(places) + 1) // 2
    predicted = torch.cat(
        [model(torch.from_numpy(INPUTS_ND[part])) for part in (places[:half], places[half:])]
    )
    return nn.functional.mse_loss(predicted, torch.from_numpy(TARGETS_N[places]))


def negative_error(model):
    return -loss(model, np.arange(len(INPUTS_ND))).item()


def weights(model):
    return torch.cat([tensor.flatten() for tensor in model.state_dict().values()])


def test_finds_the_line():
    model = made()
    fitted = fit(model, 64, loss, negative_error, replace(SCHEDULE, epochs=40, weight_decay=0))
    np.testing.assert_allclose(model.head.weight.detach()[0], [1, -2, 0.5], atol=0.02)
    assert fitted.best > -0.001 > fitted.start
    assert fitted.steps == 40 * 8


def test_same_seed_same_weights():
    schedules = [SCHEDULE, SCHEDULE, replace(SCHEDULE, seed=5)]
    first, second, other = (_trained(schedule, dropout=0.3) for schedule in schedules)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def _trained(schedule, dropout=0.0, **options):
    model = made(dropout)
    fit(model, 64, loss, negative_error, schedule, **options)
    return weights(model)


def test_every_example_once_an_epoch_in_a_new_order():
    seen = []

    def watched(model, places):
        seen.append(places)
        return loss(model, places)

    fit(made(), 64, watched, negative_error, replace(SCHEDULE, epochs=2))
    first, second = np.concatenate(seen[:8]), np.concatenate(seen[8:])
    assert sorted(first) == sorted(second) == list(range(64))
    assert list(first) != list(second)


def test_the_best_weights_come_back():
    """Validations 0 (as given), 1, 5, 2, 2 ...: the weights after the second epoch are the best."""
    values, snapshots = iter([0, 1, 5, 2, 2, 2, 2, 2, 2]), []

    def validate(model):
        snapshots.append(weights(model).clone())
        return next(values)

    model = made()
    fitted = fit(model, 64, loss, validate, replace(SCHEDULE, patience=3))
    assert (fitted.best, fitted.step, fitted.steps) == (5, 16, 40)
    assert torch.equal(weights(model), snapshots[2])
    assert not torch.equal(weights(model), snapshots[-1])


def test_the_mean_of_the_weights_is_kept():
    """A weight that a loss of slope -1 raises by .1 a step (Adam's first steps): 1.1, 1.15; the
    mean follows by 9/10 and 9/11 of the way, later never by less than a half."""
    model = nn.ParameterDict({"weight": nn.Parameter(torch.ones(1))})
    values = iter(range(9))
    schedule = Schedule(
        epochs=2, batch_size=1, learning_rate=0.1, warmup=0, average=0.5, weight_decay=0
    )
    rates = [schedule.rate(step, 2) for step in range(2)]
    fit(model, 1, lambda m, _: -m["weight"].sum(), lambda _: next(values), schedule)
    mean, weight = 1.0, 1.0
    for step, rate in enumerate(rates):
        weight += 0.1 * rate
        mean += (weight - mean) * 9 / (10 + step)
    assert model["weight"].item() == pytest.approx(mean, abs=1e-6)


def test_weights_as_given_stay_where_training_harms():
    model, values = made(), iter([0, -1, -2])
    given = weights(model).clone()
    fitted = fit(model, 64, loss, lambda _: next(values), replace(SCHEDULE, patience=2))
    assert (fitted.best, fitted.step, fitted.steps) == (0, 0, 16)
    assert torch.equal(weights(model), given)


@pytest.mark.parametrize(("broken_at", "average"), [(1, 0.0), (20, 0.9), (63, 0.0)])
def test_resumed_equals_unbroken(tmp_path, broken_at, average):
    schedule = replace(SCHEDULE, log_dir=tmp_path, evaluations=4, average=average)
    calls = iter(range(1000))

    def breaks(model, places):
        if next(calls) == broken_at:
            raise KeyboardInterrupt
        return loss(model, places)

    with pytest.raises(KeyboardInterrupt):
        fit(made(0.3), 64, breaks, negative_error, schedule)
    said = []
    resumed = _trained(schedule, 0.3, say=said.append, resume=True)
    assert said[0] == f"resumed after step {broken_at - broken_at % 2} of 64"
    assert torch.equal(resumed, _trained(replace(schedule, log_dir=None), 0.3))


def test_a_finished_run_is_not_run_again(tmp_path):
    schedule = replace(SCHEDULE, log_dir=tmp_path)
    finished = _trained(schedule)
    model = made()
    fit(model, 64, _never, _never, schedule, resume=True)
    assert torch.equal(weights(model), finished)


def _never(*_):
    raise AssertionError


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path):
    _trained(replace(SCHEDULE, log_dir=tmp_path))
    with pytest.raises(InputError, match="another schedule"):
        _trained(replace(SCHEDULE, log_dir=tmp_path, learning_rate=1.0), resume=True)


def test_logs_for_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _trained(replace(SCHEDULE, log_dir=tmp_path))
    board = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in board.Scalars("validation")] == list(range(0, 65, 8))
    losses = [event.value for event in board.Scalars("loss")]
    assert losses[-1] < losses[1] / 2


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_rate_rises_then_falls(steps, warmup):
    rates = [
        Schedule(epochs=1, batch_size=1, learning_rate=1, warmup=warmup).rate(step, steps)
        for step in range(steps)
    ]
    top = int(np.argmax(rates))
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top == min(math.ceil(warmup * steps), steps - 1)


def test_biases_do_not_decay_and_the_head_is_faster():
    """With a loss of gradient 0 AdamW only decays: by 1 - rate x decay, the head ten times as
    fast."""
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    schedule = Schedule(
        epochs=1, batch_size=1, learning_rate=0.01, warmup=0, weight_decay=0.5, head_rate=10
    )
    rising = iter(range(9))
    fit(
        model,
        1,
        lambda m, _: 0 * sum(p.sum() for p in m.parameters()),
        lambda _: next(rising),
        schedule,
    )
    shrunk = {
        name: (tensor / before[name]).mean().item() for name, tensor in model.state_dict().items()
    }
    expected = {"body.weight": 0.995, "body.bias": 1, "head.weight": 0.95, "head.bias": 1}
    assert shrunk == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"warmup": 2}, "warmup is 2"),
        ({"average": -0.1}, "average is -0.1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_schedule_is_checked(change, said):
    with pytest.raises(InputError, match=said):
        replace(SCHEDULE, **change)


def test_nothing_to_train_on():
    with pytest.raises(InputError, match="0 examples"):
        fit(made(), 0, loss, negative_error, SCHEDULE)
    with pytest.raises(InputError, match="all are frozen"):
        fit(made().requires_grad_(False), 64, loss, negative_error, SCHEDULE)


def test_a_loss_that_is_no_number():
    with pytest.raises(RecsysError, match="the loss is nan after 8 steps"):
        fit(
            made(),
            64,
            lambda model, places: loss(model, places) * float("nan"),
            negative_error,
            SCHEDULE,
        )


@pytest.mark.slow
def test_two_workers_take_the_steps_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    torch.multiprocessing.spawn(_work, (address, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first["weights"], second["weights"])
    assert first["fitted"] == second["fitted"]
    torch.testing.assert_close(first["weights"], _trained(SCHEDULE), atol=1e-5, rtol=0)
    assert (first["validations"], second["validations"]) == (9, 0)
    assert not set(first["seen"]) & set(second["seen"])


def _work(rank, address, folder):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    seen, validations = [], []

    def watched(model, places):
        if len(seen) < 32:
            seen.extend(places.tolist())
        return loss(model, places)

    def validate(model):
        validations.append(1)
        return negative_error(model)

    model = made()
    fitted = fit(model, 64, watched, validate, SCHEDULE)
    done = {
        "weights": weights(model),
        "fitted": (fitted.best, fitted.step, fitted.steps),
        "seen": seen,
    }
    torch.save({**done, "validations": len(validations)}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("adapters", ["lora", "adalora"])
def test_adapters_learn_while_the_model_is_frozen(tiny, adapters):  # noqa: F811
    pytest.importorskip("peft")
    from transformers import AutoModel

    seed_everything(0)
    plain = AutoModel.from_pretrained(tiny)
    model = adapted(AutoModel.from_pretrained(tiny), adapters, rank=2, steps=40)
    ids_BT = torch.arange(2, 10).reshape(4, 2)
    goal_BD = torch.randn(4, 16)

    def far(model, _):
        return (model(input_ids=ids_BT).last_hidden_state[:, 0] - goal_BD).square().mean()

    schedule = Schedule(
        epochs=40, batch_size=1, learning_rate=0.05, clip=100, evaluations=1, patience=0
    )
    fitted = fit(model, 1, far, lambda model: -far(model, None).item(), schedule)
    assert fitted.best > 0.8 * fitted.start
    learned = model(input_ids=ids_BT).last_hidden_state
    whole = merged(model)
    torch.testing.assert_close(
        whole(input_ids=ids_BT).last_hidden_state, learned, atol=1e-4, rtol=1e-4
    )
    assert whole.state_dict().keys() == plain.state_dict().keys()
    kept = "embeddings.word_embeddings.weight"
    assert torch.equal(whole.state_dict()[kept], plain.state_dict()[kept])


def test_adapters_are_checked():
    assert adapted("model", None) == "model"
    with pytest.raises(InputError, match="AdaLoRA over 5 steps"):
        adapted("model", "adalora", steps=5)
    with pytest.raises(InputError, match="'prefix' are unknown"):
        adapted("model", "prefix")
