"""One night: `python -m jobs.nightly --setup tiny`, here or through `ray job submit --working-dir
.`."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

from recsys.batch.cluster import connect_ray
from recsys.batch.estimate import estimate
from recsys.batch.night import run_night
from recsys.batch.planning import begin
from recsys.config import load
from recsys.errors import RecsysError
from recsys.release.checks import ALLOWABLE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    parser.add_argument(
        "--plan", action="store_true", help="say what the night would refuse and cost; do nothing"
    )
    parser.add_argument("--until", type=instant, help="the night's time, ISO 8601 (default: now)")
    parser.add_argument("--version", help="the release's name (default: the night's time)")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=ALLOWABLE,
        metavar="CHECK",
        help="publish once although this check fails: " + ", ".join(ALLOWABLE),
    )
    args = parser.parse_args()
    started = time.monotonic()
    try:
        setup = load(args.setup)
        if args.plan:
            plan = estimate(setup, args.until or datetime.now(UTC))
            print(plan)
            return int(plan.refused)
        print(connect_ray(), flush=True)
        place = begin(setup, args.until, args.version, args.allow)
        print(f"night {place.plan.version} of setup {setup.name} into {setup.home}", flush=True)
        manifest = run_night(place, lambda line: print(line, flush=True))
    except RecsysError as error:
        print(f"the night failed, the release that was current still is: {error}", file=sys.stderr)
        return 1
    counts = ", ".join(f"{count:,} {name}" for name, count in manifest.counts.items() if count)
    print(f"published {manifest.version}: {counts}, {time.monotonic() - started:.0f} s")
    return 0


def instant(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
