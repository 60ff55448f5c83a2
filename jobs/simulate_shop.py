"""Shoppers with known preferences use the running application for eleven days, while it learns by
night; what it learned, and what its log says, is compared with the truth.

python -m jobs.simulate_shop [--quick] starts a local Ray and the application; with --url it uses
one that runs with setup recsys.simulation.shop:setup and the same $NIGHTSHELF_HOME. Prints a line a
day, a table, and last one line of JSON. Exit code 0 only if every floor was reached."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from jobs.serve_local import serve_locally
from recsys.batch.cluster import connect_ray
from recsys.batch.night import run_night
from recsys.batch.planning import begin
from recsys.config import Setup, load
from recsys.datasets.completejourney import CompleteJourney
from recsys.datasets.uci_online_retail import UciOnlineRetail
from recsys.errors import RecsysError
from recsys.evaluation.results import criteria_table, say, summary_line
from recsys.market.click_models import PositionBasedModel
from recsys.market.market import Market
from recsys.simulation.days import SETUP, ShopSimulation, simulate_days
from recsys.simulation.processes import free_port
from recsys.simulation.studies.run import run_studies
from recsys.storage.version import code_commit

DATASETS = {"completejourney": CompleteJourney, "uci_online_retail": UciOnlineRetail}


def main() -> int:
    arguments = _parser().parse_args()
    started, quick = time.perf_counter(), arguments.quick
    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="nightshelf-market-"))).resolve()
    _prepare_environment(None if arguments.url else folder)
    try:
        adapter, model = DATASETS[arguments.dataset](), PositionBasedModel()
        criteria = run_studies(adapter, model, folder, repetitions=60 if quick else 200)
        market, setup = Market.of(adapter, shoppers=500), load(SETUP)
        market.write(Path(setup.home) / "market", datetime.now(UTC))
        with application(setup, arguments.url) as url:
            simulation = ShopSimulation(
                market=market,
                model=model,
                setup=setup,
                folder=folder,
                url=url,
                run_night=lambda log_line: run_night(begin(setup), log_line),
                requests_per_day=1000 if quick else 3000,
                bootstrap_draws=20 if quick else 40,
            )
            criteria += simulate_days(simulation)
    except RecsysError as error:
        print(f"the simulation stopped: {error}", file=sys.stderr)
        return 1
    say(f"\n{criteria_table(criteria)}")
    rows = [criterion.as_row() for criterion in criteria]
    say(summary_line("simulate_shop", arguments.dataset, started, rows))
    return 0 if all(criterion.reached_floor for criterion in criteria) else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset", choices=DATASETS, default="completejourney", help="whose products are sold"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer requests and repetitions: under 15 minutes"
    )
    parser.add_argument(
        "--folder", type=Path, help="of the shop and the picture (default: a new one)"
    )
    parser.add_argument("--url", help="a running application, such as http://127.0.0.1:8000")
    return parser


def _prepare_environment(home: Path | None) -> None:
    """What the application and the jobs inherit."""
    os.environ.setdefault("NIGHTSHELF_COMMIT", code_commit())
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Each shopper has an address of their own: votes are counted by it.
    os.environ.setdefault("NIGHTSHELF_ORIGIN_KEY", secrets.token_hex(8))
    if home:
        os.environ["NIGHTSHELF_HOME"] = str(home)


@contextmanager
def application(setup: Setup, url: str | None) -> Iterator[str]:
    """The URL of a running application, or of one that is served while the block runs."""
    if url:
        say(connect_ray())
        yield url.rstrip("/")
    else:
        with serve_locally(setup, free_port()) as local_url:
            yield local_url


if __name__ == "__main__":
    sys.exit(main())
