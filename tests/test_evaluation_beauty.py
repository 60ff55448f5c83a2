"""The whole of jobs.evaluate_histories on a twentieth of a real data set, with a model trained on
two cores."""

import json
import sys

import pytest

from jobs import evaluate_histories as job
from recsys.datasets import data_folder
from recsys.errors import NotFoundError


@pytest.mark.realdata
@pytest.mark.slow
def test_a_twentieth_of_beauty(monkeypatch, capsys):
    """recall@10 .005, .058 and .102 on two cores."""
    try:
        data_folder("amazon2014_beauty")
    except NotFoundError as missing:
        pytest.skip(str(missing))
    names = ["popularity", "user_vector", "nightshelf"]
    flags = ["--dataset", "amazon2014_beauty", "--users", ".05", "--seeds", "1", "--only", *names]
    monkeypatch.setattr(sys, "argv", ["evaluate_histories", *flags])
    assert job.main() == 0
    rows = {
        row["name"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    }
    popularity, learned, everything = (rows[name]["recall@10"] for name in names)
    assert 4 * popularity < learned < everything
    assert rows["user_vector"]["recall@10/session-1"] > 2 * popularity
