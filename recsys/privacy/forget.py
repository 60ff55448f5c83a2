"""Requests to be forgotten: the user leaves the log at once, and releases by `erase_users`.

From the moment `forget_user` returns every replica treats the user as unknown: the privacy state
says so, and the live log holds nothing of them. What lies elsewhere is erased after that; the
receipt lets anybody check (`traces.find_traces`)."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime

from recsys.config import Setup
from recsys.errors import NotFoundError, ReleaseError
from recsys.interfaces import EventStore
from recsys.models.snapshots import erase_votes
from recsys.privacy.decisions import PrivacyDecisions
from recsys.privacy.erasure import GRACE_S, delete_replaced_files, erase_users_from_release
from recsys.privacy.receipts import Receipt, seal_receipt
from recsys.privacy.traces import find_log_traces, find_traces, stale_copies
from recsys.storage.artifacts import ArtifactStore

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def forget_user(
    setup: Setup, events: EventStore, user_id: str, now: datetime | None = None
) -> Receipt:
    """From here on what the user did until `now` does not exist: not for answers, not in the log,
    not for the next night. What releases still hold, `erase_users` erases."""
    now = now or datetime.now(UTC)
    events.set_privacy_state(user_id, replace(events.privacy_state(user_id), forgotten=now))
    deleted = {f"log/{name}": count for name, count in events.forget(user_id).items() if count}
    left = find_traces(setup, events, user_id, now)
    return Receipt(seal_receipt(events, user_id, now), now, deleted, left)


def erase_users(
    setup: Setup, events: EventStore, only: Collection[str] | None = None, grace_s: float = GRACE_S
) -> dict[str, int]:
    """Erases from releases, snapshots and copies the users whose decisions rule them out, `only`
    these where given; rows by release.

    Deletes the files that earlier erasures replaced, `grace_s` after the last of them, and what was
    written to the log of `only` while they were being forgotten."""
    store, decisions = ArtifactStore(setup.home), PrivacyDecisions.load(events)
    rows = dict[str, int]()
    for user_id in only or ():
        forgotten = events.privacy_state(user_id).forgotten
        if forgotten and any(find_log_traces(events, user_id, forgotten).values()):
            events.forget(user_id)  # a user who came back within these seconds begins anew again
    for version in store.versions():
        # A release of another format, or pruned just now: `find_traces` sees those.
        with suppress(ReleaseError, NotFoundError):
            if erased := erase_users_from_release(store, version, decisions, only):
                rows[version] = erased
            delete_replaced_files(store, version, grace_s)
    gone = {key for key, state in decisions.states.items() if not state.allows(_EPOCH)}
    erase_votes(setup, gone)
    for copy in stale_copies(store):
        store.drop(copy)
    return rows


def finish_erasures(setup: Setup) -> dict[str, int]:
    """`erase_users` for everybody: a night ends and a training begins with it."""
    with closing(setup.event_store()) as events:
        return erase_users(setup, events)
