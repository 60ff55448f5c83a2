"""Forgets many users at once: `python -m jobs.forget_users FILE`, one user id a line.

Each gets a receipt; all of them are erased from the releases in one pass. With --check the file
holds receipts, and each is checked again: the exit code is 1 while anything is left."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import closing
from pathlib import Path

from recsys.config import load
from recsys.errors import RecsysError
from recsys.evaluation.results import say
from recsys.privacy.bulk import check_receipts, forget_users, read_ids
from recsys.privacy.erasure import GRACE_S


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a user id a line; with --check, a receipt a line")
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    parser.add_argument("--check", action="store_true", help="only look whether anything is left")
    parser.add_argument(
        "--grace", type=float, default=GRACE_S, help="seconds that replicas get to open what is new"
    )
    parser.add_argument(
        "--unfinished",
        action="store_true",
        help="delete what failed nights left, too: only while no night runs",
    )
    return parser.parse_args()


def main() -> int:
    arguments, started = _parse_arguments(), time.perf_counter()
    try:
        setup, lines = load(arguments.setup), read_ids(arguments.file)
        with closing(setup.event_store()) as events:
            receipts = lines
            if not arguments.check:
                receipts = forget_users(
                    setup,
                    events,
                    lines,
                    grace_s=arguments.grace,
                    delete_unfinished=arguments.unfinished,
                    say=say,
                )
            left = check_receipts(setup, events, receipts, say)
    except RecsysError as error:
        print(error, file=sys.stderr)
        return 1
    summary = {
        "job": "forget_users",
        "setup": setup.name,
        "users": len(receipts),
        "left": left,
        "seconds": round(time.perf_counter() - started, 1),
    }
    say(json.dumps(summary))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
