"""A night's stages in this process, one shard after the other: the same files without Ray."""

from __future__ import annotations

from collections.abc import Iterator

from recsys.batch.plan import NightRun, ShardResult
from recsys.batch.stages import ActorWork, Stage, StageLine


def in_this_process(run: NightRun, *stages: Stage) -> dict[str, StageLine]:
    """Takes the place of `run_stages`."""
    lines = {stage.name: StageLine(name=stage.name, shards=stage.shards) for stage in stages}
    for stage in stages:
        for result in shard_results(run, stage):
            lines[stage.name].add(result)
        for file in stage.leaves:
            run.join_parts(file, stage.shards)
    return lines


def shard_results(run: NightRun, stage: Stage) -> Iterator[ShardResult]:
    work, shards = stage.work, range(stage.shards)
    if not isinstance(work, ActorWork):
        return (work(run, shard) for shard in shards)
    actor, prepare = work.actor(run), work.prepare or (lambda run, shard: b"")
    return (actor.process(shard, prepare(run, shard)) for shard in shards)
