"""A night's exact candidate lists at scale, over a synthetic shop: the night's own stages, timed
for a tenth, three tenths and all of the users; memory, resuming, and the lists checked."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import ray

from recsys.batch import candidates, embed, ingest, nearest, synthetic
from recsys.batch.memory import MemorySampler, PeakMemory
from recsys.batch.plan import NightRun, Plan
from recsys.batch.stages import Stage, StageLine, read_record, record_path, run_stages
from recsys.config import Night, Setup, event_log, tiny
from recsys.errors import InputError
from recsys.evaluation.results import Column, Row, say, text_table
from recsys.pipeline.candidates import retrieval_depth
from recsys.ranking.linear import LinearRanker
from recsys.release import files
from recsys.storage.artifacts import ArtifactStore

#: The time of the synthetic shop's night.
UNTIL = datetime(2026, 1, 2, tzinfo=UTC)
#: The time a user is constant where at each size it is within this share of that at the largest.
TOLERANCE = 0.10


@dataclass(kw_only=True)
class NightBenchmark:
    """A synthetic shop, the setup that fits this Ray, and memory so far. `texts` items are encoded
    too, by the default encoder."""

    home: Path
    shop: synthetic.SyntheticShop
    setup: Setup
    texts: int
    memory: MemorySampler = field(default_factory=MemorySampler)

    @property
    def sizes(self) -> list[int]:
        """About a tenth, three tenths, and all users; the first two in whole rounds of shards,
        which keep all workers busy to the end."""
        users = self.shop.users
        round_of_shards = self.shop.users_per_part * self.setup.night.encoder_workers
        rounds = (max(1, users * tenths // 10 // round_of_shards) for tenths in (1, 3))
        return sorted(
            {*(n * round_of_shards for n in rounds if n * round_of_shards < users), users}
        )

    def night(self, users: int) -> NightRun:
        """The night of the first `users`. All sizes share one work folder: the shards of a smaller
        night are the larger one's too."""
        shop, options = replace(self.shop, users=users), self.setup.night
        plan = synthetic.make_plan(
            "generated", shop, "generated", options.items_per_shard, options.texts_per_shard
        )
        return self._run(shop, plan)

    def text_night(self) -> NightRun:
        """A night whose items have texts."""
        shop, options = replace(self.shop, items=self.texts), self.setup.night
        space = self.setup.encoder().space
        plan = synthetic.make_plan(
            "texts", shop, space, options.items_per_shard, options.texts_per_shard
        )
        return self._run(shop, plan)

    def _run(self, shop: synthetic.SyntheticShop, plan: Plan) -> NightRun:
        setup = replace(self.setup, dataset=partial(_dataset, shop))
        return NightRun(store=ArtifactStore(str(self.home)), setup=setup, plan=plan)

    def run_stage(self, night: NightRun, stage: Stage) -> StageLine:
        self.memory.stage = stage.name
        line = run_stages(night, stage)[stage.name]
        say(str(line))
        return line


def make_benchmark(
    home: Path, *, items: int, users: int, dim: int, list_size: int, resident: int, texts: int
) -> NightBenchmark:
    """A benchmark of these sizes; `resident` items are held by a worker, 0 for as many as fit a GPU
    or a CPU's memory."""
    users_per_part = min(100_000, max(64, users // 80))
    users_per_part = users_per_part // 512 * 512 or users_per_part  # whole blocks
    shop = synthetic.SyntheticShop(
        items=items, users=users, dim=dim, users_per_part=users_per_part, until=UNTIL
    )
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    setup = Setup(
        name="generated",
        home=str(home),
        dataset=partial(_dataset, shop),
        encoder=tiny().encoder,
        event_store=event_log(str(home)),
        recommend_ranker=partial(LinearRanker, {nearest.SOURCE: 1.0}),
        night=Night(
            items_per_shard=131_072,
            texts_per_shard=4_096,
            items_resident=resident or (1 << 24 if gpus else 1 << 20),
            candidates=list_size,
            encoder_workers=gpus or cpus,
            encoder_cpus=1.0 if gpus else 0.5,  # the other half prepares texts
            encoder_gpus=1.0 if gpus else 0.0,
        ),
    )
    return NightBenchmark(home=home, shop=shop, setup=setup, texts=texts)


def _dataset(shop: synthetic.SyntheticShop, until: datetime) -> synthetic.SyntheticShop:
    return shop


def benchmark_night(benchmark: NightBenchmark) -> list[Row]:
    """All rows, those of the system first: `nightshelf` for each size. `wrong` counts errors."""
    require_disk_space(benchmark)
    with benchmark.memory:
        text_rows = [encode_texts(benchmark)] if benchmark.texts else []
        assemble_items(benchmark)
        size_rows, resume_rows = list[Row](), list[Row]()
        for users in benchmark.sizes:
            night = benchmark.night(users)
            make_users = Stage("make users", night.plan.user_parts, synthetic.write_users)
            benchmark.run_stage(night, make_users)
            search = benchmark.run_stage(night, nearest.stage(night))
            resume_rows = resume_rows or [resume_search(benchmark, night)]
            size_rows.append(assemble_lists(benchmark, night, search))
        check_row = check_released_lists(benchmark)
    return [*size_rows, *resume_rows, check_row, *text_rows, *_memory_rows(benchmark.memory)]


def require_disk_space(benchmark: NightBenchmark) -> None:
    """Raises InputError where the disk has too little room for the largest moment of the run."""
    shop, options, home = benchmark.shop, benchmark.setup.night, benchmark.home
    vector, shards = 4 * shop.dim, len(nearest.shards_of(shop.items, options.items_resident))
    shard_list, released_list = 8 * retrieval_depth(options.candidates), 10 * options.candidates
    user = max(vector + 200 + shard_list * shards + released_list, 2 * released_list)
    vectors = vector * shop.items
    need = (300 * shop.items + max(2 * vectors, vectors + user * shop.users)) / 2**30
    free = shutil.disk_usage(home).free / 2**30
    say(f"{need:.1f} GiB of {home} will be needed, {free:.1f} GiB are free")
    if need * 1.05 > free:
        raise InputError(
            f"{shop.items:,} items and {shop.users:,} users need {need:.1f} GiB at {home}, where"
            f" {free:.1f} GiB are free: give --home a larger disk, or take fewer"
        )


def encode_texts(benchmark: NightBenchmark) -> Row:
    """The stages from the catalogue to vectors, with the default encoder."""
    night = benchmark.text_night()
    plan = night.plan
    benchmark.run_stage(night, Stage("read items", len(plan.item_chunks), ingest.read_items))
    benchmark.run_stage(night, Stage("items", plan.item_parts, ingest.sort_items))
    encode = Stage("embed items", plan.text_parts, embed.ENCODE_TEXTS)
    line = benchmark.run_stage(night, encode)
    benchmark.run_stage(night, Stage("vectors", plan.item_parts, embed.gather_vectors))
    night.store.delete(night.work_path("")[:-1])
    rate = round(line.rows / line.seconds)
    times = {"texts": line.rows, "seconds": round(line.seconds, 1), "texts_per_s": rate}
    return {"name": "embed items", **times}


def assemble_items(benchmark: NightBenchmark) -> None:
    """The catalogue and its vectors as files of the release; their parts are deleted."""
    night = benchmark.night(benchmark.shop.users)
    parts = night.plan.item_parts
    benchmark.run_stage(night, Stage("make items", parts, synthetic.write_items))
    benchmark.run_stage(night, Stage("make habits", 1, synthetic.write_item_stats))
    benchmark.memory.stage = "assemble items"
    for file in (files.ITEMS, files.ITEM_VECTORS):
        night.join_parts(file, parts)
        night.store.delete(night.work_path(str(file)))


def resume_search(benchmark: NightBenchmark, night: NightRun) -> Row:
    """Deletes every second record of the search with its files, and runs it again: only those
    shards are searched, to the same bytes."""
    stage = nearest.stage(night)
    before = [read_record(night, stage.name, shard) for shard in range(stage.shards)]
    for shard, result in list(enumerate(before))[::2]:
        night.store.remove(record_path(night, stage.name, shard))
        for path in result.files if result else ():
            night.store.remove(path)
    line = benchmark.run_stage(night, stage)
    same = before == [read_record(night, stage.name, shard) for shard in range(stage.shards)]
    return {
        "name": "resume",
        "shards": stage.shards,
        "kept": line.reused,
        "same_bytes": same,
        "wrong": int(not same or line.reused != stage.shards // 2),
    }


def assemble_lists(benchmark: NightBenchmark, night: NightRun, search: StageLine) -> Row:
    """The candidates and the released arrays of a night that was searched: the row of its size.
    Files that the next size writes anew are deleted."""
    parts, shop = night.plan.user_parts, benchmark.shop
    rank = Stage("candidates", parts, candidates.rank_candidates)
    ranking = benchmark.run_stage(night, rank)
    written = sum(_bytes(night, str(name)) for name in (*nearest.PARTS, *files.CANDIDATES))
    last_size = parts == benchmark.night(shop.users).plan.user_parts
    for name in (*nearest.PARTS, *(files.EMBEDDED_USERS if last_size else ())):
        night.store.delete(night.work_path(str(name)))
    benchmark.memory.stage, started = "assemble lists", time.monotonic()
    for file in files.CANDIDATES:
        night.join_parts(file, parts)
        written += night.store.size(night.release_path(file.name))
        night.store.delete(night.work_path(str(file)))
    for stage in ("nearest", "candidates"):
        night.store.delete(night.work_path(f"done/{stage}"))
    assemble_s, users = time.monotonic() - started, ranking.rows
    seconds = search.seconds + ranking.seconds + assemble_s
    return {
        "name": "nightshelf",
        "items": shop.items,
        "users": users,
        "nearest_s": round(search.seconds, 2),
        "candidates_s": round(ranking.seconds, 2),
        "assemble_s": round(assemble_s, 2),
        "users_per_s": round(users / seconds, 1),
        "us_per_user": round(1e6 * seconds / users, 1),
        "tflops": round(2e-12 * users * shop.items * shop.dim / search.seconds, 3),
        "workers": len(search.workers),
        "written_mib": round(written / 2**20, 1),
    }


def _bytes(night: NightRun, name: str) -> int:
    return sum(night.store.size(path) for path in night.store.files(night.work_path(name)))


def check_released_lists(benchmark: NightBenchmark) -> Row:
    """The released lists of some users against a search in double precision."""
    night = benchmark.night(benchmark.shop.users)
    parts = min(synthetic.CHECKED_PARTS, night.plan.user_parts)
    line = benchmark.run_stage(night, Stage("check", parts, synthetic.check_lists))
    recall = round(line.counts["found"] / max(1, line.counts["wanted"]), 5)
    return {"name": "check", "users": line.rows, "wrong": line.counts["wrong"], "recall": recall}


def _memory_rows(memory: MemorySampler) -> Iterator[Row]:
    yield {"name": "driver", **_mib(memory.driver), "growth_mib": round(memory.growth() / 2**20, 1)}
    for stage, peak in memory.workers.items():
        if stage:
            yield {"name": f"worker/{stage}", **_mib(peak)}


def _mib(peak: PeakMemory) -> Row:
    return {f"{name}_mib": round(value / 2**20) for name, value in vars(peak).items()}


def night_table(rows: list[Row]) -> str:
    """The sizes as a table, whether the time a user is constant, and a line for each other row."""
    sizes = [row for row in rows if row["name"] == "nightshelf"]
    table = text_table(sizes, [Column(name, ",") for name in sizes[0] if name != "name"])
    largest = sizes[-1]
    deviation = max(abs(row["us_per_user"] / largest["us_per_user"] - 1) for row in sizes)
    verdict = "constant" if deviation <= TOLERANCE else "NOT constant"
    lines = [
        f"time a user is {verdict}: within {deviation:.1%} of that at {largest['users']:,} users"
    ]
    for row in rows:
        if row["name"] != "nightshelf":
            values = (f"{name} {value:,}" for name, value in row.items() if name != "name")
            lines.append(f"{row['name']:<24}{'  '.join(values)}")
    return "\n".join([table, *lines])
