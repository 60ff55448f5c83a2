"""Training on one worker and on several: test_loop has the steps of two, test_train_search what two learn."""

import os
import subprocess
import sys

import pytest
from ray.train import WorkerGroupError

from recsys.batch.train import _result, distributed
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError, RecsysError
from recsys.training.classifier import train_classifier
from recsys.training.loop import Schedule
from tests.test_classifier import TEXTS
from tests.test_encoders import tiny  # noqa: F401


def test_one_worker_is_this_process_without_ray():
    assert distributed(os.getpid, {}) == os.getpid()
    code = (
        "import sys; from recsys.batch.train import distributed\n"
        "assert distributed(dict, {'a': 1}) == {'a': 1}; assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_workers():
    with pytest.raises(InputError, match="0 workers cannot train"):
        distributed(os.getpid, {}, workers=0)


@pytest.mark.ray
@pytest.mark.slow
def test_a_workers_error_is_told(ray_session, tiny, tmp_path):  # noqa: F811
    base, schedule = TransformerEncoder(str(tiny)), Schedule(epochs=3, batch_size=8, learning_rate=0.005, patience=0)
    arguments = {"texts": TEXTS, "labels": ["x"] * 48, "base": base, "folder": tmp_path, "schedule": schedule}
    with pytest.raises(InputError, match="all 48 texts have the label 'x'"):
        distributed(train_classifier, arguments, workers=2, cpus=0.5)


class Failing:
    """A trainer whose second worker meets an error that is not ours."""

    def fit(self):
        raise WorkerGroupError("...", {1: ValueError("invalid literal")})


def test_an_error_that_is_not_ours_is_told():
    with pytest.raises(RecsysError, match="training failed on its workers: invalid literal"):
        _result(Failing())
