"""Child processes end with their block; waiting ends with a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from recsys.errors import RecsysError
from recsys.simulation.processes import (
    child_process,
    free_port,
    is_listening,
    poll,
    run_command,
    stream_command,
    wait_for_health,
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_child_ends_with_its_block(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        with child_process(python("import time; time.sleep(60)"), log) as process:
            assert process.poll() is None
        assert process.returncode == -15
        stubborn = (
            "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True)\nwhile 1: 0"
        )
        with child_process(python(stubborn), log, grace_s=0.2) as process:
            for _ in poll(0.05, 10, "the child does not start"):
                if (tmp_path / "log").read_text():
                    break
    assert process.wait(10) == -9


def test_output_is_streamed_and_a_failure_has_its_exit_code() -> None:
    lines = []
    with pytest.raises(RecsysError, match="ended with exit code 3"):
        lines.extend(stream_command(python("print('a'); print('b'); raise SystemExit(3)")))
    stream = stream_command(python("import sys; print('a'); print('b', file=sys.stderr)"))
    assert sorted(stream) == ["a\n", "b\n"]


def test_a_command_sees_the_environment_that_is_added() -> None:
    job = run_command(python("import os; print(os.environ['A'])"), {"A": "1"})
    assert (job.returncode, job.stdout) == (0, "1\n")


def test_waiting_ends_with_a_sentence() -> None:
    port = free_port()
    assert not is_listening(port)
    with pytest.raises(RecsysError, match="does not serve release v1 after 0 s: look at its log"):
        wait_for_health(f"http://127.0.0.1:{port}", "v1", limit_s=0.2)
    with pytest.raises(RecsysError, match="does not answer: its process has ended"):
        wait_for_health(f"http://127.0.0.1:{port}", is_running=lambda: False)
