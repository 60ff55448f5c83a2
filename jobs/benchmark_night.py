"""The night's exact lists at scale, on a generated shop: python -m jobs.benchmark_night --items
1_000_000

Items, users and histories come out of a seed; from there on the stages are the night's own:
nearest, candidates, and the released arrays. Measured for a tenth, three tenths and all of the
users: seconds a stage, time a user; memory of the driver and the workers; what a run costs that
half of the records are missing of; lists against double precision. The last line is JSON; the exit
code is 1 where a list is wrong."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import ray

from recsys.batch import candidates, embed, index, ingest, nearest, synthetic
from recsys.batch.memory import MemorySampler, PeakMemory
from recsys.batch.plan import NightRun
from recsys.batch.stages import Stage, StageLine, read_record, run_stages
from recsys.config import Night, Setup, event_log, tiny
from recsys.errors import InputError, RecsysError
from recsys.pipeline.candidates import depth
from recsys.ranking.linear import LinearRanker
from recsys.storage.artifacts import ArtifactStore
from recsys.storage.version import code_commit

Row = dict[str, Any]
#: The night that the generated shop has.
UNTIL = datetime(2026, 1, 2, tzinfo=UTC)
LISTS = ("candidates_rows", "candidates_features", "candidates_sources")
#: Constant means: the time a user at the largest size is within this of that at any other.
CONSTANT = 0.10


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--n", type=int, default=100, help="items in a list")
    parser.add_argument(
        "--texts", type=int, default=20_000, help="of so many items the texts are encoded too"
    )
    parser.add_argument(
        "--resident",
        type=int,
        default=0,
        help="items a worker holds: 16 million on a GPU, 1 on CPUs",
    )
    parser.add_argument(
        "--home", help="a folder for the work (default: a temporary one); emptied at the end"
    )
    arguments = parser.parse_args()
    begun = time.monotonic()
    try:
        with _folder(arguments.home) as home:
            ray.init(ignore_reinit_error=True)
            rows = measure(Bench.of(home, arguments))
    except RecsysError as error:
        print(f"the benchmark failed: {error}", file=sys.stderr)
        return 1
    print(table(rows))
    summary = {"job": "benchmark_night", "dataset": "generated", "commit": code_commit()}
    print(json.dumps({**summary, "seconds": round(time.monotonic() - begun, 1), "rows": rows}))
    return int(any(row.get("wrong") for row in rows))


@contextmanager
def _folder(home: str | None) -> Iterator[Path]:
    folder = (
        Path(home).expanduser().absolute() if home else Path(tempfile.mkdtemp(prefix="nightshelf-"))
    )
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"{folder} is not empty, and would be emptied: give --home a new folder")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Bench:
    """One run: its sizes, the setup by what Ray has, and what was seen so far."""

    home: Path
    shop: synthetic.SyntheticShop
    texts: int
    setup: Setup
    memory: MemorySampler = field(default_factory=MemorySampler)

    @classmethod
    def of(cls, home: Path, arguments: argparse.Namespace) -> Bench:
        a = arguments
        part = min(100_000, max(64, a.users // 80))
        part = part // 512 * 512 or part  # whole blocks
        shop = synthetic.SyntheticShop(a.items, a.users, a.dim, part, UNTIL)
        return cls(home, shop, a.texts, _setup(home, shop, a.n, a.resident))

    @property
    def sizes(self) -> list[int]:
        """About a tenth, three tenths, all users; the first two in parts that keep all workers busy
        to the end."""
        all_users, together = (
            self.shop.users,
            self.shop.users_per_part * self.setup.night.encoder_workers,
        )
        whole = (max(1, all_users * tenths // 10 // together) * together for tenths in (1, 3))
        return sorted({*(users for users in whole if users < all_users), all_users})

    def night(self, users: int) -> NightRun:
        """The night of the first so many users: one work folder, whose shards of users are the
        larger night's too."""
        shop, choices = replace(self.shop, users=users), self.setup.night
        setup = replace(self.setup, dataset=partial(_shop, shop))
        plan = synthetic.make_plan(
            "generated", shop, "generated", choices.items_per_shard, choices.texts_per_shard
        )
        return NightRun(ArtifactStore(str(self.home)), setup, plan)

    def go(self, night: NightRun, *stages: Stage) -> StageLine:
        self.memory.stage = stages[0].name
        lines = run_stages(night, *stages)
        for line in lines.values():
            print(line, flush=True)
        return lines[stages[0].name]


def _shop(shop: synthetic.SyntheticShop, until: datetime) -> synthetic.SyntheticShop:
    return shop


def _setup(home: Path, shop: synthetic.SyntheticShop, n: int, resident: int) -> Setup:
    has = ray.cluster_resources()
    gpus, cpus = int(has.get("GPU", 0)), int(has.get("CPU", 1))
    choices = Night(
        items_per_shard=131_072,
        texts_per_shard=4_096,
        items_resident=resident or (1 << 24 if gpus else 1 << 20),
        candidates=n,
        encoder_workers=gpus or cpus,
        encoder_cpus=1.0 if gpus else 0.5,  # the other half prepares texts
        encoder_gpus=1.0 if gpus else 0.0,
    )
    ranker = partial(LinearRanker, {nearest.SOURCE: 1.0})
    events = event_log(str(home))
    return Setup(
        name="generated",
        home=str(home),
        dataset=partial(_shop, shop),
        encoder=tiny().encoder,
        event_store=events,
        recommend_ranker=ranker,
        night=choices,
    )


def measure(bench: Bench) -> list[Row]:
    """All rows, the system's first."""
    require_room(bench)
    with bench.memory:
        texts = encode_texts(bench) if bench.texts else []
        make_items(bench)
        sizes, resumed = list[Row](), list[Row]()
        for users in bench.sizes:
            night = bench.night(users)
            bench.go(night, Stage("make users", night.plan.user_parts, synthetic.write_users))
            near = bench.go(night, nearest.stage(night))
            resumed = resumed or [resume(bench, night)]
            sizes.append(lists(bench, night, near))
        checked = check(bench, bench.night(bench.shop.users))
    return [*sizes, *resumed, checked, *texts, *_memory_rows(bench.memory)]


def require_room(bench: Bench) -> None:
    """Raises InputError where the disk has too little room for the largest moment of the run."""
    shop, choices = bench.shop, bench.setup.night
    vectors, shards = 4 * shop.dim, len(nearest.shards_of(shop.items, choices.items_resident))
    a_list, released = 8 * depth(choices.candidates) * shards, 10 * choices.candidates
    user = max(vectors + 200 + a_list + released, 2 * released)
    need = 300 * shop.items + max(
        2 * vectors * shop.items, vectors * shop.items + user * shop.users
    )
    free = shutil.disk_usage(bench.home).free
    print(
        f"{need / 2**30:.1f} GiB of {bench.home} will be needed, {free / 2**30:.1f} GiB are free",
        flush=True,
    )
    if need * 1.05 > free:
        raise InputError(
            f"{shop.items:,} items and {shop.users:,} users need {need / 2**30:.1f} GiB at {bench.home}, where "
            f"{free / 2**30:.1f} GiB are free: give --home a larger disk, or take fewer"
        )


def encode_texts(bench: Bench) -> list[Row]:
    """Items with texts through the stages from the catalogue to vectors, with the default
    encoder."""
    shop, choices = replace(bench.shop, items=bench.texts), bench.setup.night
    setup = replace(bench.setup, dataset=partial(_shop, shop))
    plan = synthetic.make_plan(
        "texts", shop, setup.encoder().space, choices.items_per_shard, choices.texts_per_shard
    )
    night = NightRun(ArtifactStore(str(bench.home)), setup, plan)
    bench.go(night, Stage("read items", len(plan.item_chunks), ingest.read_items))
    bench.go(night, Stage("items", plan.item_parts, ingest.sort_items))
    line = bench.go(
        night, Stage("embed items", plan.text_parts, embed.tokenize_texts, embed.TextEncoderActor)
    )
    bench.go(night, Stage("vectors", plan.item_parts, embed.gather_vectors))
    night.store.delete(night.work_path("")[:-1])
    rate = line.rows / line.seconds
    return [
        {
            "name": "embed items",
            "texts": line.rows,
            "seconds": round(line.seconds, 1),
            "texts_per_s": round(rate),
        }
    ]


def make_items(bench: Bench) -> None:
    """The catalogue and its vectors as files of the release; their parts go."""
    night = bench.night(bench.shop.users)
    bench.go(night, Stage("make items", night.plan.item_parts, synthetic.write_items))
    bench.go(night, Stage("make habits", 1, synthetic.write_item_stats))
    bench.memory.stage = "assemble items"
    index.assemble_table(night, "items", night.plan.item_parts)
    index.assemble_array(night, "item_vectors", night.plan.item_parts)
    for name in ("items", "item_vectors"):
        night.store.delete(night.work_path(name))


def resume(bench: Bench, night: NightRun) -> Row:
    """The search once more, without every second record and what it tells of: only that is done, to
    the same bytes."""
    stage = nearest.stage(night)
    before = [read_record(night, stage.name, shard) for shard in range(stage.shards)]
    for shard, result in list(enumerate(before))[::2]:
        for path in (
            night.work_path(f"done/{stage.name}/{shard:05d}.json"),
            *(result.files if result else ()),
        ):
            night.store.remove(path)
    line = bench.go(night, stage)
    same = before == [read_record(night, stage.name, shard) for shard in range(stage.shards)]
    wrong = int(not same or line.kept != stage.shards // 2)
    return {
        "name": "resume",
        "shards": stage.shards,
        "kept": line.kept,
        "same_bytes": same,
        "wrong": wrong,
    }


def lists(bench: Bench, night: NightRun, near: StageLine) -> Row:
    """Candidates and the released arrays of a place whose lists lie there; the row of its size.
    Whatever the next size makes anew goes."""
    ranked = bench.go(night, Stage("candidates", night.plan.user_parts, candidates.rank_candidates))
    last = night.plan.user_parts == bench.night(bench.shop.users).plan.user_parts
    spent = ("nearest_rows", "nearest_scores", *(("users", "user_vectors") if last else ()))
    written = sum(_bytes(night, name) for name in ("nearest_rows", "nearest_scores", *LISTS))
    for name in spent:
        night.store.delete(night.work_path(name))
    bench.memory.stage, started = "assemble lists", time.monotonic()
    for name in LISTS:
        index.assemble_array(night, name, night.plan.user_parts)
        written += night.store.size(night.release_path(f"{name}.npy"))
        night.store.delete(night.work_path(name))
    for stage in ("nearest", "candidates"):
        night.store.delete(night.work_path(f"done/{stage}"))
    assemble_s, users = time.monotonic() - started, ranked.rows
    seconds = near.seconds + ranked.seconds + assemble_s
    shop = bench.shop
    return {
        "name": "nightshelf",
        "items": shop.items,
        "users": users,
        "nearest_s": round(near.seconds, 2),
        "candidates_s": round(ranked.seconds, 2),
        "assemble_s": round(assemble_s, 2),
        "users_per_s": round(users / seconds, 1),
        "us_per_user": round(1e6 * seconds / users, 1),
        "tflops": round(2e-12 * users * shop.items * shop.dim / near.seconds, 3),
        "workers": len(near.workers),
        "written_mib": round(written / 2**20, 1),
    }


def _bytes(night: NightRun, name: str) -> int:
    return sum(night.store.size(path) for path in night.store.files(night.work_path(name)))


def check(bench: Bench, night: NightRun) -> Row:
    line = bench.go(
        night,
        Stage("check", min(synthetic.CHECKED_PARTS, night.plan.user_parts), synthetic.check_lists),
    )
    found, wanted = line.counts["found"], line.counts["wanted"]
    recall = round(found / max(1, wanted), 5)
    return {"name": "check", "users": line.rows, "wrong": line.counts["wrong"], "recall": recall}


def _memory_rows(memory: MemorySampler) -> Iterator[Row]:
    yield {"name": "driver", **_mib(memory.driver), "growth_mib": round(memory.growth() / 2**20, 1)}
    for stage, peak in memory.workers.items():
        if stage:
            yield {"name": f"worker/{stage}", **_mib(peak)}


def _mib(peak: PeakMemory) -> Row:
    return {f"{name}_mib": round(value / 2**20) for name, value in vars(peak).items()}


def table(rows: list[Row]) -> str:
    """For people: the sizes as columns of figures, then a line each for everything else."""
    sizes = [row for row in rows if row["name"] == "nightshelf"]
    names = [name for name in sizes[0] if name != "name"]
    lines = ["", "".join(f"{name:>14}" for name in names)]
    lines += ["".join(f"{row[name]:>14,}" for name in names) for row in sizes]
    last = sizes[-1]["us_per_user"]
    worst = max(abs(row["us_per_user"] / last - 1) for row in sizes)
    verdict = "constant" if worst <= CONSTANT else "NOT constant"
    lines.append(
        f"time a user is {verdict}: within {worst:.1%} of that at {sizes[-1]['users']:,} users"
    )
    for row in rows:
        if row["name"] != "nightshelf":
            told = "  ".join(f"{name} {value:,}" for name, value in row.items() if name != "name")
            lines.append(f"{row['name']:<24}{told}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
