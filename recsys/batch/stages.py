"""Stages of a night over Ray Data: resume, progress, retries, and one summary line a stage.

A stage is a pure function of (night, shard number) that writes its files and returns a record of
them. Its result does not depend on where or when it runs; the shard's record, written after its
files, holds their checksums. So a night that was killed goes on where it stopped, and makes the
same bytes."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import ray.data
from ray.data import ActorPoolStrategy
from ray.util.metrics import Counter
from tqdm import tqdm

from recsys import errors
from recsys.batch.plan import NightRun, ShardResult
from recsys.errors import RecsysError
from recsys.release.files import ReleaseFile

#: So many shards are in an actor that has a GPU: one computes while others are read and written.
SHARDS_PER_GPU = 4
#: A row of the dataset: a shard, and what was done about it so far.
Row = dict[str, Any]


class ShardActor(Protocol):
    """Work on shards that needs something loaded: made once per Ray actor.

    `prepared` is what the stage's `prepare` returned, b"" where it has none. On a GPU `process` is
    called by several threads."""

    def __init__(self, night: NightRun) -> None: ...

    def process(self, shard: int, prepared: bytes) -> ShardResult: ...


@dataclass(frozen=True)
class ActorWork:
    """The work of actors of the setup's encoder size (GPU or CPU), after CPU tasks that
    `prepare`."""

    actor: type[ShardActor]
    prepare: Callable[[NightRun, int], bytes] | None = None


@dataclass(frozen=True)
class Stage:
    """`shards` pieces of work under one name: a function for CPU tasks, or actors.

    `leaves` are files of the release that are its shards' parts one below the other: they are
    joined when all shards are finished. Other files of the release are written by the work."""

    name: str
    shards: int
    work: Callable[[NightRun, int], ShardResult] | ActorWork
    leaves: Sequence[ReleaseFile] = ()


@dataclass(kw_only=True)
class StageLine:
    """The summary of a stage, which a person reads and `--plan` learns from. `reused` shards were
    finished by an earlier start of the night. `first_seconds` are those of the first shard: an
    actor starts meanwhile, and a model is loaded."""

    name: str
    rows: int = 0
    seconds: float = 0.0
    first_seconds: float = 0.0
    shards: int = 0
    reused: int = 0
    workers: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = f"{self.rows / self.seconds:,.0f}/s" if self.seconds else "kept"
        reused = f"  {self.reused} of {self.shards} shards kept" if self.reused else ""
        return (
            f"{self.name:<14}{self.rows:>12,} rows {self.seconds:>7.1f} s {rate:>12} "
            f"{len(self.workers):>3} workers{reused}"
        )

    def to_dict(self) -> dict[str, Any]:
        fields = asdict(self) | {"workers": len(self.workers), "kept": self.reused}
        del fields["reused"]
        return fields

    def add(self, result: ShardResult) -> None:
        self.rows += result.rows
        for name, count in result.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


def run_stages(night: NightRun, *stages: Stage) -> dict[str, StageLine]:
    """Runs stages that do not need each other, together, and joins what they leave; their lines.

    A stage of actors runs alone."""
    lines = {stage.name: StageLine(name=stage.name, shards=stage.shards) for stage in stages}
    pending = list[Row]()
    for stage in stages:
        for shard in range(stage.shards):
            if result := read_record(night, stage.name, shard):
                lines[stage.name].add(result)
                lines[stage.name].reused += 1
            else:
                pending.append({"stage": stage.name, "shard": shard})
    if pending:
        _execute(_dataset(night, stages, pending), len(pending), lines)
    for stage in stages:
        for file in stage.leaves:
            night.join_parts(file, stage.shards)
    return lines


def read_record(night: NightRun, stage: str, shard: int) -> ShardResult | None:
    """The shard's record, if it has one and every file in it still has its checksum."""
    path = record_path(night, stage, shard)
    if not night.store.exists(path):
        return None
    result = ShardResult(**json.loads(night.store.read(path)))
    whole = all(
        night.store.exists(file) and night.store.sha256(file) == sha256
        for file, sha256 in result.files.items()
    )
    return result if whole else None


def record_path(night: NightRun, stage: str, shard: int) -> str:
    """Where a shard's record lies; the shard is not finished without it."""
    return night.work_path(f"done/{stage}/{shard:05d}.json")


def _dataset(night: NightRun, stages: Sequence[Stage], pending: list[Row]) -> ray.data.Dataset:
    """Each row of the dataset is a shard, each block a row: Ray schedules, retries and streams
    whole shards."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = 1800
    # A line an execution, which the stage lines say better.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    shards: ray.data.Dataset = ray.data.from_items(pending, override_num_blocks=len(pending))
    shards.set_name("+".join(stage.name for stage in stages))
    cpus, first = night.choices.task_cpus, stages[0]
    if not isinstance(first.work, ActorWork):
        return shards.map(_task(night, stages), num_cpus=cpus)
    if first.work.prepare is not None:
        shards = shards.map(_preparation(night, first.name, first.work.prepare), num_cpus=cpus)
    return _map_in_actors(night, shards, first.work.actor, len(pending))


def _map_in_actors(
    night: NightRun, shards: ray.data.Dataset, actor: type[ShardActor], pending: int
) -> ray.data.Dataset:
    choices = night.choices
    threads = SHARDS_PER_GPU if choices.encoder_gpus else 1
    return shards.map(
        _ActorOfShards,  # type: ignore[arg-type]
        fn_constructor_args=(night, actor),
        compute=ActorPoolStrategy(
            size=min(choices.encoder_workers, pending),
            # As many wait as are at work: more would wait at a busy actor while another has nothing
            # to do.
            max_tasks_in_flight_per_actor=2 * threads,
            max_concurrent_calls_per_actor=threads,
            enable_true_multi_threading=threads > 1,
        ),
        num_cpus=choices.encoder_cpus,
        num_gpus=choices.encoder_gpus or None,
    )


def _task(night: NightRun, stages: Sequence[Stage]) -> Callable[[Row], Row]:
    work = {stage.name: stage.work for stage in stages if not isinstance(stage.work, ActorWork)}

    def task(row: Row) -> Row:
        return _finish(night, row, time.time(), lambda: work[row["stage"]](night, row["shard"]))

    task.__name__ = task.__qualname__ = "+".join(work)  # what the dashboard shows
    return task


def _preparation(
    night: NightRun, name: str, prepare: Callable[[NightRun, int], bytes]
) -> Callable[[Row], Row]:
    def preparation(row: Row) -> Row:
        started = time.time()
        return row | {"started": started, "prepared": prepare(night, row["shard"])}

    preparation.__name__ = preparation.__qualname__ = f"prepare {name}"
    return preparation


class _ActorOfShards:
    """The Ray actor around a `ShardActor`. An error of its constructor is raised by every shard: an
    actor that fails at its start would be Ray's page of stack traces."""

    def __init__(self, night: NightRun, actor: type[ShardActor]) -> None:
        self.night = night
        self.actor: ShardActor | RecsysError
        try:
            self.actor = actor(night)
        except RecsysError as error:
            self.actor = error

    def __call__(self, row: Row) -> Row:
        started, prepared = row.pop("started", time.time()), row.pop("prepared", b"")
        return _finish(self.night, row, started, lambda: self._process(row["shard"], prepared))

    def _process(self, shard: int, prepared: bytes) -> ShardResult:
        if isinstance(self.actor, RecsysError):
            raise self.actor
        return self.actor.process(shard, prepared)


def _finish(night: NightRun, row: Row, started: float, work: Callable[[], ShardResult]) -> Row:
    """Does the work, writes the shard's record after its files, and reports to the driver.

    A RecsysError travels as its sentence: Ray would wrap it in a page of stack traces and try
    again."""
    result, error, kind = ShardResult(), "", ""
    try:
        result = work()
        record = json.dumps(asdict(result), sort_keys=True).encode()
        night.store.write(record_path(night, row["stage"], row["shard"]), record)
    except RecsysError as refusal:
        error, kind = str(refusal), type(refusal).__name__
    if result.rows:  # Ray's counters refuse a step of 0
        counter = Counter(
            "nightshelf_stage_rows_total", "Rows that a stage of the night finished", ("stage",)
        )
        counter.inc(result.rows, {"stage": row["stage"]})
    return row | {
        "summary": json.dumps({"rows": result.rows, "counts": result.counts}),
        "worker": f"{ray.get_runtime_context().get_node_id()[:8]}:{os.getpid()}",
        "started": started,
        "ended": time.time(),
        "error": error,
        "kind": kind,
    }


def _execute(dataset: ray.data.Dataset, shards: int, lines: dict[str, StageLine]) -> None:
    """Pulls the shards through, a progress bar moving with each."""
    spans: dict[str, list[float]] = {}
    interval = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=shards, desc="+".join(lines), unit="shard", mininterval=interval, leave=False
    ) as bar:
        for row in dataset.iter_rows():
            if row["error"]:
                kind = getattr(errors, row["kind"], RecsysError)
                raise kind(f"{row['stage']}, shard {row['shard']}: {row['error']}")
            line = lines[row["stage"]]
            line.add(ShardResult(**json.loads(row["summary"])))
            line.workers.add(row["worker"])
            spans.setdefault(line.name, []).extend((row["started"], row["ended"]))
            line.first_seconds = line.first_seconds or row["ended"] - row["started"]
            line.seconds = max(spans[line.name]) - min(spans[line.name])
            rows = sum(each.rows for each in lines.values())
            bar.set_postfix_str(f"{rows:,} rows", refresh=False)
            bar.update()
