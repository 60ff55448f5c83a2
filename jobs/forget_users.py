"""Forgets many users at once: `python -m jobs.forget_users FILE`, one user id a line.

Each gets a receipt; all of them leave the releases in one amendment. With --check the file holds
receipts, and each is looked into again: the exit code is 1 while anything is left."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from recsys.config import Setup, load
from recsys.errors import InputError, RecsysError
from recsys.interfaces import EventStore
from recsys.privacy import forget as forgetting
from recsys.privacy.erasure import GRACE_S
from recsys.storage.artifacts import ArtifactStore


def main() -> int:
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
    args = parser.parse_args()
    started = time.perf_counter()
    try:
        setup = load(args.setup)
        lines = read(args.file)
        events = setup.event_store()
        try:
            receipts = lines if args.check else forgotten(setup, events, lines, args)
            remains = check(setup, events, receipts)
        finally:
            events.close()
    except RecsysError as error:
        print(error, file=sys.stderr)
        return 1
    seconds = round(time.perf_counter() - started, 1)
    summary = {
        "job": "forget_users",
        "setup": setup.name,
        "users": len(receipts),
        "left": remains,
        "seconds": seconds,
    }
    print(json.dumps(summary))
    return 1 if remains else 0


def read(file: Path) -> list[str]:
    """The lines that are not empty, each once."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read ({error}): give a text file, one user id a line"
        ) from error
    found = list(dict.fromkeys(line for line in lines if line.strip()))
    if not found:
        raise InputError(f"{file} names nobody: give one user id a line")
    return found


def forgotten(
    setup: Setup, events: EventStore, users: list[str], args: argparse.Namespace
) -> list[str]:
    """Everybody's receipt, once the releases are without them."""
    receipts = [forgetting.forget(setup, events, user).token for user in users]
    for version, rows in forgetting.erase(setup, events, users, args.grace).items():
        print(f"release {version} amended: {rows:,} rows deleted", flush=True)
    store = ArtifactStore(setup.home)
    for version in store.unfinished() if args.unfinished else ():
        store.abandon(version)
        print(f"night {version}, which had not ended, deleted", flush=True)
    time.sleep(args.grace)
    forgetting.erase(setup, events, users, args.grace)
    return receipts


def check(setup: Setup, events: EventStore, receipts: list[str]) -> int:
    """Prints each receipt with what is left of its user; of how many something is."""
    remains = 0
    for receipt in receipts:
        left = forgetting.left(setup, events, *forgetting.unsealed(events, receipt))
        told = ", ".join(f"{count:,} in {place}" for place, count in left.items())
        print(f"{receipt}  {'left: ' + told if told else 'nothing is left'}")
        remains += bool(left)
    return remains


if __name__ == "__main__":
    sys.exit(main())
