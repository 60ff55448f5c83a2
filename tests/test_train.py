"""The same training on one worker and on two."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from recsys.batch.train import run_distributed
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError, RecsysError
from recsys.training.classifier import ClassifierRecipe, train_classifier
from recsys.training.schedule import Schedule
from recsys.understanding.intent import IntentClassifier
from tests.test_classifier import LABELS, TEST, TEXTS
from tests.test_encoders import tiny  # noqa: F401

SCHEDULE = Schedule(epochs=3, batch_size=8, learning_rate=0.005, patience=0)


def arguments(base, folder, **changes):
    return {
        "texts": TEXTS,
        "labels": LABELS,
        "base": TransformerEncoder(str(base)),
        "folder": folder,
        "schedule": SCHEDULE,
        "recipe": ClassifierRecipe(dropout=0.0),
        **changes,
    }


def test_one_worker_is_this_process_without_ray():
    assert run_distributed(os.getpid, {}) == os.getpid()
    code = (
        "import sys; from recsys.batch.train import run_distributed\n"
        "assert run_distributed(dict, {'a': 1}) == {'a': 1}; assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_workers():
    with pytest.raises(InputError, match="0 workers cannot train"):
        run_distributed(os.getpid, {}, workers=0)


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_train_as_one(ray_session, tiny, tmp_path):  # noqa: F811
    """The encoder's own dropout draws differ by worker, so the weights do; what they find does
    not."""
    alone = run_distributed(train_classifier, arguments(tiny, tmp_path / "alone"))
    together = run_distributed(
        train_classifier, arguments(tiny, tmp_path / "together"), workers=2, cpus=0.5
    )
    assert together["steps"] == alone["steps"] == 15
    assert together["start"] == pytest.approx(alone["start"], abs=1e-5)
    one_NC, two_NC = (
        IntentClassifier(tmp_path / name).probabilities(TEXTS) for name in ("alone", "together")
    )
    assert (one_NC.argmax(axis=1) == two_NC.argmax(axis=1)).mean() > 0.9
    assert np.isfinite(IntentClassifier(tmp_path / "together").probabilities(TEST)).all()


@pytest.mark.ray
@pytest.mark.slow
def test_a_workers_error_is_told(ray_session, tiny, tmp_path):  # noqa: F811
    with pytest.raises(InputError, match="all 48 texts have the label 'x'"):
        run_distributed(
            train_classifier, arguments(tiny, tmp_path, labels=["x"] * 48), workers=2, cpus=0.5
        )
    with pytest.raises(RecsysError, match="training failed on its workers: invalid literal"):
        run_distributed(partial(int, "two"), {}, workers=2, cpus=0.5)
