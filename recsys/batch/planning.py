"""Begins a night: looks at its inputs once, copies what will change, fixes both in a `Plan`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from math import ceil

from recsys.batch.log_copy import LIVE, copy_log
from recsys.batch.plan import NightRun, Plan
from recsys.config import Setup
from recsys.errors import InputError, NotFoundError
from recsys.events.item_clicks import dcg_examination
from recsys.interfaces import Chunk
from recsys.models.composition import with_models
from recsys.models.store import current_models, models_folder, read_models_manifest
from recsys.privacy.decisions import PrivacyDecisions
from recsys.ranking.examination import Examination
from recsys.release.manifest import Manifest, OtherFormatError, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.version import code_commit
from recsys.training import EXAMINATION, USER_MODEL
from recsys.types import Floats, Ints


def begin(setup: Setup, until: datetime | None = None, version: str | None = None) -> NightRun:
    """Plans a new night, or continues the one that was killed before it published.

    A night is continued when setup, models, encoder space and code are what they were; its time and
    inputs are the plan's."""
    store, commit, models = ArtifactStore(setup.home), code_commit(), current_models(setup)
    setup = with_models(setup, models)
    space = setup.encoder().space
    for unfinished in reversed(store.unfinished()):
        path = f"work/{unfinished}/plan.json"
        if version in (None, unfinished) and store.exists(path):
            plan = Plan.from_json(store.read(path))
            same_code = (plan.setup, plan.commit) == (setup.name, commit)
            if same_code and (plan.space, plan.models) == (space, models):
                with closing(setup.event_store()) as events:
                    return NightRun(store, setup, plan, PrivacyDecisions.load(events))
    until = (until or datetime.now(UTC)).astimezone(UTC)
    version = version or f"{until:%Y-%m-%dT%H%M%S}"
    return _plan(store, setup, version, until, models=models, space=space, commit=commit)


def _plan(
    store: ArtifactStore,
    setup: Setup,
    version: str,
    until: datetime,
    *,
    models: str | None,
    space: str,
    commit: str,
) -> NightRun:
    """Writes the plan of a new night; what is planned does not change any more."""
    dataset, choices, previous = setup.dataset(until), setup.night, _previous_manifest(store)
    item_chunks, event_chunks = dataset.item_chunks(), dataset.event_chunks()
    items = _require_items(setup, item_chunks)
    with closing(setup.event_store()) as events:
        events.drain()
        live = copy_log(events, until, store, f"work/{version}", _examination(setup, models))
        decisions = PrivacyDecisions.load(events)
    event_chunks += [Chunk(LIVE, 0, live)] if live else []
    plan = Plan(
        version=version,
        until=until.isoformat(),
        setup=setup.name,
        commit=commit,
        space=space,
        models=models,
        previous=previous.version if previous else None,
        carry_from=previous.version if previous and previous.space == space else None,
        taste_from=_release_of_same_user_space(setup, models, space, previous),
        item_chunks=item_chunks,
        event_chunks=event_chunks,
        item_parts=_parts(items, choices.items_per_shard),
        text_parts=_parts(items, choices.texts_per_shard),
        user_parts=_parts(sum(c.rows for c in event_chunks), choices.events_per_shard),
    )
    store.write(f"work/{version}/plan.json", plan.to_json())
    return NightRun(store, setup, plan, decisions)


def _require_items(setup: Setup, chunks: list[Chunk]) -> int:
    """How many rows the catalogue has."""
    if items := sum(chunk.rows for chunk in chunks):
        return items
    raise InputError(
        f"the catalogue of setup {setup.name} has no rows: give its dataset a table with items"
    )


def _parts(rows: int, rows_per_shard: int) -> int:
    return max(1, ceil(rows / rows_per_shard))


def _previous_manifest(store: ArtifactStore) -> Manifest | None:
    """That of the current release; None where code of another format wrote it: this night is then a
    first."""
    try:
        return read_manifest(store, current) if (current := store.current()) else None
    except OtherFormatError:
        return None


def _release_of_same_user_space(
    setup: Setup, models: str | None, space: str, previous: Manifest | None
) -> str | None:
    """The previous release, where the user model places items as it has them."""
    if previous is None or (previous.space, previous.setup) != (space, setup.name):
        return None
    same = _user_model_files(setup, models) == _user_model_files(setup, previous.models)
    return previous.version if same else None


def _user_model_files(setup: Setup, models: str | None) -> dict[str, str]:
    files = _trained_files(setup, models)
    return {path: sha256 for path, sha256 in files.items() if path.startswith(f"{USER_MODEL}/")}


def _trained_files(setup: Setup, models: str | None) -> dict[str, str]:
    """The models' files and their sums; none where nothing was trained, or what was is gone."""
    try:
        return read_models_manifest(setup, models).files if models else {}
    except NotFoundError:
        return {}


def _examination(setup: Setup, models: str | None) -> Callable[[Ints], Floats]:
    """The chance that a position is looked at, as trained; else that of a shop that has not
    measured it."""
    if models and EXAMINATION in _trained_files(setup, models):
        return Examination.load(models_folder(setup, models, (EXAMINATION,)) / EXAMINATION).at
    return dcg_examination
