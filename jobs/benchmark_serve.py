"""How fast the application answers, beside the same calls in process and beside plain uvicorn, in
one run.

python -m jobs.benchmark_serve [--quick] starts a local Ray and the default setup on the release of
$NIGHTSHELF_HOME, sends it real HTTP from this machine's own cores, and stops what it started.
Events go to a log of their own, not to the shop's. Prints a table, where a request's time goes, and
last one line of JSON."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from recsys.config import load
from recsys.errors import NotFoundError, RecsysError
from recsys.evaluation.results import say, summary_line
from recsys.release.release import Release
from recsys.simulation.capacity import QUICK, LoadTestSize
from recsys.simulation.processes import ROOT
from recsys.simulation.serving_benchmark import INGRESSES, benchmark_serving, serving_table
from recsys.simulation.traffic import Traffic
from recsys.storage.artifacts import ArtifactStore

SETUP = "tiny"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="about two minutes")
    parser.add_argument("--proxy", choices=(*INGRESSES, "both"), default="both")
    arguments = parser.parse_args()
    started, size = time.perf_counter(), QUICK if arguments.quick else LoadTestSize()
    ingresses = list(INGRESSES) if arguments.proxy == "both" else [arguments.proxy]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end, too
    try:
        with tempfile.TemporaryDirectory(prefix="nightshelf-") as folder:
            prepare_environment(Path(folder))
            setup = load(SETUP)
            traffic = released_traffic(ArtifactStore(setup.home))
            rows = benchmark_serving(SETUP, traffic, ingresses, setup.day.replicas, size)
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    say(serving_table(rows))
    say(summary_line("benchmark_serve", "completejourney", started, rows))
    return 0


def prepare_environment(folder: Path) -> None:
    """What the servers inherit: an event log of their own, and a Ray without authentication."""
    os.environ.update(
        NIGHTSHELF_EVENTS=str(folder / "events.sqlite"),
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        PYTHONPATH=str(ROOT),
    )


def released_traffic(store: ArtifactStore) -> Traffic:
    """Requests drawn from the current release. Raises NotFoundError where there is none."""
    if store.current() is None:
        raise NotFoundError(
            f"{store.uri} has no release: run python -m jobs.nightly --setup {SETUP} first"
        )
    say(f"release {store.current()}; server and client share {os.cpu_count()} cores")
    return Traffic.of(Release.open(store))


if __name__ == "__main__":
    sys.exit(main())
