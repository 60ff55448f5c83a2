"""The night in order: ingest, embed, index, rank; then check, and publish.

If anything fails, `current` still names yesterday, and the same command goes on where it stopped
(`planning.begin`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recsys.batch import (
    attributes,
    candidates,
    complements,
    embed,
    indexes,
    ingest,
    item_features,
    item_lists,
    nearest,
    photo_head,
    pictures,
)
from recsys.batch.held_out import evaluate_held_out
from recsys.batch.plan import NightRun
from recsys.batch.publishing import Say, publish
from recsys.batch.quarantine import require_few_repeats, require_titled, require_usable
from recsys.batch.refusal import refusals_recorded
from recsys.batch.stages import Stage, StageLine, run_stages
from recsys.release import files
from recsys.release.manifest import Manifest


def run_night(night: NightRun, say: Say) -> Manifest:
    """Every stage, then the checks, then publishing. Raises ReleaseError, with `current` untouched,
    where the input or the release is not good enough."""
    with refusals_recorded(night):
        return _run_stages(night, say)


def _run_stages(night: NightRun, say: Say) -> Manifest:
    plan, sources = night.plan, night.setup.recommend_ranker().feature_names
    lines: dict[str, StageLine] = {}

    def run(*stages: Stage) -> None:
        for name, line in run_stages(night, *stages).items():
            lines[name] = line
            say(str(line))

    _read_input(night, run, lines)
    attributes.say_unreadable(lines, say)
    run(Stage("embed items", plan.text_parts, embed.ENCODE_TEXTS))
    run(Stage("vectors", plan.item_parts, embed.gather_vectors, [files.ITEM_VECTORS]))
    require_usable(night, lines["vectors"])
    for stages in pictures.picture_stages(night, lines["items"].counts.get("pictures", 0)):
        run(*stages)
    for stage in photo_head.photo_stages(night):
        run(stage)
    run(Stage("places", plan.item_parts, embed.embed_items, [files.TASTE_VECTORS]))
    blocks = len(item_lists.neighbour_blocks(night))
    run(
        Stage("embed users", plan.user_parts, candidates.embed_users, files.EMBEDDED_USERS),
        Stage("co_occurrence", blocks, item_lists.compute_co_occurrence, files.CO_OCCURRENCE),
        *item_features.feature_stages(),
        *indexes.index_stages(night),
    )
    larger_blocks = len(item_lists.similar_blocks(night))
    run(Stage("similar", larger_blocks, item_lists.compute_similar, files.SIMILAR))
    for stage in complements.complement_stages(night):
        run(stage)
    if "follows" in sources:
        run(Stage("follows", blocks, item_lists.compute_follows, files.FOLLOWS))
    if nearest.SOURCE in sources:
        run(nearest.stage(night))
    run(
        Stage("candidates", plan.user_parts, candidates.rank_candidates, files.CANDIDATES),
        Stage("held out", 1, evaluate_held_out),
    )
    return publish(night, lines, say)


def _read_input(night: NightRun, run: Callable[..., None], lines: Mapping[str, StageLine]) -> None:
    """The stages that validate and sort what the shop gives, each followed by its checks."""
    plan = night.plan
    run(
        Stage("read items", len(plan.item_chunks), ingest.read_items),
        Stage("read events", len(plan.event_chunks), ingest.read_events),
    )
    require_usable(night, lines["read items"], lines["read events"])
    require_titled(night, lines["read items"])
    run(Stage("items", plan.item_parts, ingest.sort_items, [files.ITEMS]))
    require_few_repeats(night, lines["items"], "item_id")
    run(Stage("events", plan.user_parts, ingest.sort_events), *attributes.stages(night))
    require_few_repeats(night, lines["events"], "event_id")
