"""Forgetting many users in one pass over the releases, and checking many receipts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from recsys.config import Setup
from recsys.errors import InputError
from recsys.interfaces import EventStore
from recsys.privacy.forget import erase_users, forget_user
from recsys.privacy.receipts import open_receipt
from recsys.privacy.traces import find_traces
from recsys.storage.artifacts import ArtifactStore


def read_ids(file: Path) -> list[str]:
    """User ids or receipts, one a line, each once. InputError where there is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read ({error}): give a text file, one user id a line"
        ) from error
    ids = list(dict.fromkeys(line for line in lines if line.strip()))
    if not ids:
        raise InputError(f"{file} names nobody: give one user id a line")
    return ids


def forget_users(
    setup: Setup,
    events: EventStore,
    users: Sequence[str],
    *,
    grace_s: float,
    delete_unfinished: bool,
    say: Callable[[str], None],
) -> list[str]:
    """Everybody's receipt, once the releases are without them, which takes `grace_s`. With
    `delete_unfinished` the work of failed nights goes, too: only while no night runs."""
    receipts = [forget_user(setup, events, user).token for user in users]
    for version, rows in erase_users(setup, events, users, grace_s).items():
        say(f"release {version} amended: {rows:,} rows deleted")
    store = ArtifactStore(setup.home)
    for version in store.unfinished() if delete_unfinished else ():
        store.abandon(version)
        say(f"night {version}, which had not ended, deleted")
    time.sleep(grace_s)
    erase_users(setup, events, users, grace_s)
    return receipts


def check_receipts(
    setup: Setup, events: EventStore, receipts: Sequence[str], say: Callable[[str], None]
) -> int:
    """Says of each receipt what is left of its user; for how many something is."""
    incomplete = 0
    for receipt in receipts:
        traces = find_traces(setup, events, *open_receipt(events, receipt))
        places = ", ".join(f"{count:,} in {place}" for place, count in traces.items())
        say(f"{receipt}  {'left: ' + places if places else 'nothing is left'}")
        incomplete += bool(traces)
    return incomplete
