"""Runs stages over shards with Ray Data: skips what is finished, shows progress, leaves one line a
stage.

A stage is a pure function of (place, shard number) that writes its files and says so. Its result
does not depend on where or when it runs; the shard's record, written after its files, holds their
checksums. So a night that was killed goes on where it stopped, and makes the same bytes."""

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

from recsys.batch.plan import NightRun, ShardResult
from recsys.errors import RecsysError

#: So many shards are in an actor that has a GPU: one computes while others are read and written.
SHARDS_OF_A_GPU = 4


class ShardActor(Protocol):
    """The work of actors, made once per actor: takes what a task prepared (b"" where none does) and
    finishes the shard. On a GPU `finish` is called by several threads."""

    def __init__(self, night: NightRun) -> None: ...

    def process(self, shard: int, prepared: bytes) -> ShardResult: ...


@dataclass(frozen=True)
class Stage:
    """`shards` pieces of work under one name.

    CPU tasks do the `work`, or actors of the setup's encoder size (GPU or CPU) with a `finisher`;
    with both the stage has two steps: tasks prepare (`work` returns bytes), actors finish."""

    name: str
    shards: int
    work: Callable[[NightRun, int], Any] | None = None
    actor: type[ShardActor] | None = None


@dataclass
class StageLine:
    """What a stage did: the summary that a person reads and `--plan` learns from. `first_seconds`
    are those of the first shard: an actor starts meanwhile, and a model is loaded."""

    name: str
    rows: int = 0
    seconds: float = 0.0
    first_seconds: float = 0.0
    shards: int = 0
    kept: int = 0
    workers: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = f"{self.rows / self.seconds:,.0f}/s" if self.seconds else "kept"
        kept = f"  {self.kept} of {self.shards} shards kept" if self.kept else ""
        work = f"{self.rows:>12,} rows {self.seconds:>7.1f} s {rate:>12} {len(self.workers):>3} workers"
        return f"{self.name:<14}{work}{kept}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"workers": len(self.workers)}

    def add(self, result: ShardResult) -> None:
        self.rows += result.rows
        for name, count in result.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


def run_stages(night: NightRun, *stages: Stage) -> dict[str, StageLine]:
    """Runs stages that do not need each other, together; their lines, when all shards are done.

    A stage with a finisher runs alone.
    """
    lines = {stage.name: StageLine(stage.name, shards=stage.shards) for stage in stages}
    pending = []
    for stage in stages:
        for shard in range(stage.shards):
            if result := read_record(night, stage.name, shard):
                lines[stage.name].add(result)
                lines[stage.name].kept += 1
            else:
                pending.append({"stage": stage.name, "shard": shard})
    if pending:
        _drain(_dataset(night, stages, pending), len(pending), lines)
    return lines


def read_record(night: NightRun, stage: str, shard: int) -> ShardResult | None:
    """The shard's record, if it has one and every file in it still has its checksum."""
    path = _record(night, stage, shard)
    if not night.store.exists(path):
        return None
    result = ShardResult(**json.loads(night.store.read(path)))
    whole = all(
        night.store.exists(p) and night.store.sha256(p) == sha256
        for p, sha256 in result.files.items()
    )
    return result if whole else None


def _record(night: NightRun, stage: str, shard: int) -> str:
    return night.work_path(f"done/{stage}/{shard:05d}.json")


def _dataset(
    night: NightRun, stages: Sequence[Stage], pending: list[dict[str, Any]]
) -> ray.data.Dataset:
    """Each row of the dataset is a shard, each block a row: Ray schedules, retries and streams
    whole shards."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = 1800
    logging.getLogger("ray.data").setLevel(
        logging.WARNING
    )  # a line an execution, which the stage lines say better
    choices = night.choices
    shards: ray.data.Dataset = ray.data.from_items(pending, override_num_blocks=len(pending))
    shards.set_name("+".join(stage.name for stage in stages))
    first = stages[0]
    if first.actor is None:
        return shards.map(_task(night, stages), num_cpus=choices.task_cpus)
    if first.work is not None:
        shards = shards.map(_prepare(night, first.name, first.work), num_cpus=choices.task_cpus)
    threads = SHARDS_OF_A_GPU if choices.encoder_gpus else 1
    return shards.map(
        _Finish,  # type: ignore[arg-type]
        fn_constructor_args=(night, first.actor),
        compute=ActorPoolStrategy(
            size=min(choices.encoder_workers, len(pending)),
            # As many wait as are at work: more would wait at a busy actor while another has nothing
            # to do.
            max_tasks_in_flight_per_actor=2 * threads,
            max_concurrent_calls_per_actor=threads,
            enable_true_multi_threading=threads > 1,
        ),
        num_cpus=choices.encoder_cpus,
        num_gpus=choices.encoder_gpus or None,
    )


def _task(night: NightRun, stages: Sequence[Stage]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    works = {stage.name: stage.work for stage in stages if stage.work}

    def task(row: dict[str, Any]) -> dict[str, Any]:
        return _finish(night, row, time.time(), lambda: works[row["stage"]](night, row["shard"]))

    task.__name__ = task.__qualname__ = "+".join(works)  # what the dashboard shows
    return task


def _prepare(
    night: NightRun, name: str, work: Callable[[NightRun, int], bytes]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        started = time.time()
        return row | {"started": started, "prepared": work(night, row["shard"])}

    prepare.__name__ = prepare.__qualname__ = f"prepare {name}"
    return prepare


class _Finish:
    """The actor of a stage with a finisher. One that refuses to be made refuses the shards: an
    actor that fails at its start would be Ray's page of stack traces."""

    def __init__(self, night: NightRun, actor: type[ShardActor]) -> None:
        self.night = night
        self.made: ShardActor | RecsysError
        try:
            self.made = actor(night)
        except RecsysError as refused:
            self.made = refused

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        started, prepared = row.pop("started", time.time()), row.pop("prepared", b"")
        return _finish(self.night, row, started, lambda: self._work(row["shard"], prepared))

    def _work(self, shard: int, prepared: bytes) -> ShardResult:
        if isinstance(self.made, RecsysError):
            raise self.made
        return self.made.process(shard, prepared)


def _finish(
    night: NightRun, row: dict[str, Any], started: float, work: Callable[[], ShardResult]
) -> dict[str, Any]:
    """Does the work, writes the shard's record after its files, and tells the driver.

    What our own code refuses travels as its sentence: Ray would wrap it in a page of stack traces
    and try again."""
    result, error = ShardResult(), ""
    try:
        result = work()
        night.store.write(
            _record(night, row["stage"], row["shard"]),
            json.dumps(asdict(result), sort_keys=True).encode(),
        )
    except RecsysError as refused:
        error = str(refused)
    if result.rows:  # Ray's counters refuse a step of 0
        counter = Counter(
            "nightshelf_stage_rows_total", "Rows that a stage of the night finished", ("stage",)
        )
        counter.inc(result.rows, {"stage": row["stage"]})
    worker = f"{ray.get_runtime_context().get_node_id()[:8]}:{os.getpid()}"
    summary = json.dumps({"rows": result.rows, "counts": result.counts})
    ended = time.time()
    return row | {
        "summary": summary,
        "worker": worker,
        "started": started,
        "ended": ended,
        "error": error,
    }


def _drain(dataset: ray.data.Dataset, shards: int, lines: dict[str, StageLine]) -> None:
    """Pulls the shards through, a progress bar moving with each."""
    spans: dict[str, list[float]] = {}
    interval = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=shards, desc="+".join(lines), unit="shard", mininterval=interval, leave=False
    ) as bar:
        for row in dataset.iter_rows():
            if row["error"]:
                raise RecsysError(f"{row['stage']}, shard {row['shard']}: {row['error']}")
            line, result = lines[row["stage"]], ShardResult(**json.loads(row["summary"]))
            line.add(result)
            line.workers.add(row["worker"])
            spans.setdefault(line.name, []).extend((row["started"], row["ended"]))
            line.first_seconds = line.first_seconds or row["ended"] - row["started"]
            line.seconds = max(spans[line.name]) - min(spans[line.name])
            bar.set_postfix_str(
                f"{sum(each.rows for each in lines.values()):,} rows", refresh=False
            )
            bar.update()
