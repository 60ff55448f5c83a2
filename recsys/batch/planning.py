"""Begins a night: looks at its inputs once, copies what will change, fixes both in a `Plan`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

from recsys.batch.catalogue_changes import CHANGES, CopiedChanges, copy_changes
from recsys.batch.log_copy import LIVE, copy_log
from recsys.batch.night_key import choices_digest, inputs_digest
from recsys.batch.plan import NightRun, Plan
from recsys.batch.refusal import may_continue
from recsys.config import Setup
from recsys.errors import InputError, NotFoundError, ReleaseError
from recsys.events.item_clicks import dcg_examination
from recsys.interfaces import Chunk, DatasetAdapter, DatedAdapter
from recsys.models.composition import with_models
from recsys.models.store import current_models, models_folder, read_models_manifest
from recsys.privacy.decisions import PrivacyDecisions
from recsys.ranking.examination import Examination
from recsys.release.manifest import Manifest, OtherFormatError, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.version import code_commit
from recsys.training import EXAMINATION, USER_MODEL
from recsys.types import Floats, Ints


def begin(
    setup: Setup,
    until: datetime | None = None,
    version: str | None = None,
    allow: Iterable[str] = (),
) -> NightRun:
    """Plans a new night, or continues the one that was killed before it published.

    A night is continued when it was not refused, and its setup, files, models, encoder space and
    code are what they were, and so are `until` and `version` where they are given; its time and
    events are the plan's. One that was refused is continued where `allow` names all checks that it
    failed. Raises ReleaseError for a version that is published."""
    store, commit, models = ArtifactStore(setup.home), code_commit(), current_models(setup)
    choices = choices_digest(setup)
    setup = with_models(setup, models)
    until = until and until.astimezone(UTC)
    basis = _Basis(
        store=store,
        setup=setup,
        commit=commit,
        models=models,
        space=setup.encoder().space,
        picture_space=setup.pictures.encoder().space if setup.pictures else "",
        choices=choices,
        allow=frozenset(allow),
    )
    for unfinished in reversed(store.unfinished()):
        plan = basis.plan_of(unfinished) if version in (None, unfinished) else None
        if plan and until in (None, plan.now) and basis.continues(plan):
            with closing(setup.event_store()) as events:
                decisions = PrivacyDecisions.load(events)
            return NightRun(
                store=store, setup=setup, plan=plan, decisions=decisions, allow=basis.allow
            )
    until = until or datetime.now(UTC)
    version = version or f"{until:%Y-%m-%dT%H%M%S}"
    basis.clear(version)
    return _plan(basis, version, until)


@dataclass(frozen=True, kw_only=True)
class _Basis:
    """What a night is begun with, as it is now."""

    store: ArtifactStore
    setup: Setup
    commit: str
    models: str | None
    space: str
    picture_space: str
    choices: str
    allow: frozenset[str]

    def plan_of(self, version: str) -> Plan | None:
        """None where there is none, or one that other code wrote."""
        try:
            return Plan.from_json(self.store.read(f"work/{version}/plan.json"))
        except (NotFoundError, TypeError, KeyError, ValueError):
            return None

    def continues(self, plan: Plan) -> bool:
        """Whether a new night would be made of the same as that of the plan, which may go on."""
        names = (plan.setup, plan.commit, plan.space, plan.models, plan.choices)
        if names != (self.setup.name, self.commit, self.space, self.models, self.choices):
            return False
        if plan.picture_space != self.picture_space:
            return False
        if not may_continue(self.store, plan.version, self.allow):
            return False
        dataset = self.setup.dataset(plan.now)
        chunks = [*dataset.item_chunks(), *dataset.event_chunks()]
        return plan.inputs == inputs_digest(dataset, chunks)

    def clear(self, version: str) -> None:
        """Deletes what nights of this setup that were refused left, and a beginning of this one."""
        if version in self.store.versions():
            raise ReleaseError(
                f"release {version} is published already and never changes: give the night another "
                "--until or --version, or none for one of now"
            )
        for unfinished in self.store.unfinished():
            if unfinished == version or self.was_refused(unfinished):
                self.store.abandon(unfinished)

    def was_refused(self, version: str) -> bool:
        plan = self.plan_of(version)
        of_this = plan is not None and plan.setup == self.setup.name
        return of_this and not may_continue(self.store, version, frozenset())


def _plan(basis: _Basis, version: str, until: datetime) -> NightRun:
    """Writes the plan of a new night; what is planned does not change any more."""
    store, setup, models, space = basis.store, basis.setup, basis.models, basis.space
    dataset, choices, previous = setup.dataset(until), setup.night, _previous_manifest(store)
    item_chunks, event_chunks = dataset.item_chunks(), dataset.event_chunks()
    with closing(setup.catalogue_log()) as log:
        changes = copy_changes(log, until)
    items = _require_items(setup, item_chunks, changes)
    item_parts = _parts(items, choices.items_per_shard)
    store.write(f"work/{version}/{CHANGES}", changes.to_arrow(item_parts))
    inputs = inputs_digest(dataset, [*item_chunks, *event_chunks])
    with closing(setup.event_store()) as events:
        events.drain()
        live = copy_log(events, until, store, f"work/{version}", _examination(setup, models))
        decisions = PrivacyDecisions.load(events)
    event_chunks += [Chunk(LIVE, 0, live)] if live else []
    plan = Plan(
        version=version,
        until=until.isoformat(),
        setup=setup.name,
        commit=basis.commit,
        space=space,
        models=models,
        previous=previous.version if previous else None,
        carry_from=previous.version if previous and previous.space == space else None,
        picture_space=basis.picture_space,
        pictures_from=_release_of_same_pictures(basis.picture_space, previous),
        taste_from=_release_of_same_user_space(setup, models, space, previous),
        item_chunks=item_chunks,
        event_chunks=event_chunks,
        item_parts=item_parts,
        text_parts=_parts(items, choices.texts_per_shard),
        user_parts=_parts(sum(c.rows for c in event_chunks), choices.events_per_shard),
        inputs=inputs,
        choices=basis.choices,
        changes=changes.number,
        item_times=_item_times(dataset),
    )
    store.write(f"work/{version}/plan.json", plan.to_json())
    return NightRun(store=store, setup=setup, plan=plan, decisions=decisions, allow=basis.allow)


def _item_times(dataset: DatasetAdapter) -> dict[str, str]:
    times = dataset.item_times() if isinstance(dataset, DatedAdapter) else {}
    return {path: time.isoformat() for path, time in times.items()}


def _require_items(setup: Setup, chunks: list[Chunk], changes: CopiedChanges) -> int:
    """How many items the catalogue has at most."""
    if items := sum(chunk.rows for chunk in chunks) + changes.puts:
        return items
    raise InputError(
        f"the catalogue of setup {setup.name} has no rows: give its dataset a table with items, or "
        "put items"
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


def _release_of_same_pictures(space: str, previous: Manifest | None) -> str | None:
    """The previous release, where it has pictures of this space."""
    return previous.version if previous and space and previous.picture_space == space else None


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
