"""The switch on the command line, and the thread that learns."""

from __future__ import annotations

import json
import time

import pytest

from jobs import online_learning
from recsys.models.snapshots import CONTROL, read_control
from recsys.training.influence import OnlineConfig
from serve.online import TrainerReplica
from tests.checkerboard import setup as checkerboard


def ran(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(
        "sys.argv", ["online_learning", *arguments, "--setup", "tests.checkerboard:setup"]
    )
    status = online_learning.main()
    return status, capsys.readouterr().out.splitlines()


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))


def test_freeze_unfreeze_and_reset_are_remembered(monkeypatch, capsys) -> None:
    for action, frozen in (
        ("status", False),
        ("freeze", True),
        ("reset", True),
        ("unfreeze", False),
    ):
        status, lines = ran(monkeypatch, capsys, action)
        assert status == 0
        assert lines[0].startswith("learning is frozen" if frozen else "learning is on")
        assert json.loads(lines[-1])["frozen"] is frozen
    assert read_control(checkerboard()).mark != ""


def test_a_damaged_switch_is_a_sentence(monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "online").mkdir()
    (tmp_path / "online" / CONTROL).write_text("{")
    status, _ = ran(monkeypatch, capsys, "status")
    assert status == 1


def test_the_thread_steps_and_outlives_what_fails(monkeypatch) -> None:
    replica = TrainerReplica(checkerboard(), OnlineConfig(poll_interval_s=0.01))
    steps = []

    def step():
        steps.append(len(steps))
        if len(steps) == 2:
            raise OSError("the bucket is away")

    monkeypatch.setattr(replica.trainer, "step", step)
    deadline = time.monotonic() + 10
    while len(steps) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    replica.check_health()
    assert len(steps) >= 4
    replica.close()
    assert replica.status()["error"] == ""
    with pytest.raises(RuntimeError, match="has died"):
        replica.check_health()
