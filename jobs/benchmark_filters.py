"""Searches with filters on attributes, in process: python -m jobs.benchmark_filters

The live release gets ten attributes from a seed. Each text is searched without filters, with one
and with ten, in turn, and with facets too; filters differ from text to text. Ten wide filters leave
a third of the catalogue, ten narrow ones a thousandth. The last line is JSON."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import numpy as np
import pyarrow as pa
from numpy.random import Generator

from jobs.serve_plain import open_shop
from recsys.attributes.columns import DECLARATION
from recsys.attributes.declaration import Attribute
from recsys.config import load
from recsys.errors import RecsysError
from recsys.evaluation.results import Column, Row, say, summary_line, text_table
from recsys.release.attributes import AttributeColumns
from recsys.types import AttributeFilter, Filters, Query
from serve.replicas import ShopReplica
from serve.routes.answers import search_answer
from serve.routes.responses import JsonResponse

#: Values of each text, and numbers from 0 to 100.
TEXTS = {"colour": 8, "size": 10, "material": 12, "fit": 4, "pattern": 14}
NUMBERS = ("width", "height", "depth", "weight", "power")
#: How many conditions a search has, and the share of items that each passes.
CASES = {"none": (0, 1.0), "one": (1, 0.5), "ten wide": (10, 0.9), "ten narrow": (10, 0.5)}
#: A search with filters takes at most so many times as long as one without.
GOAL = 1.15
WARM_UP = 5
#: Of each case, whether with facets: the seconds of each search, and those of CPUs, on which other
#: work of the machine counts less.
Times = dict[tuple[str, bool], list[tuple[float, float]]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    parser.add_argument("--searches", type=int, default=300, help="texts, each searched in turn")
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        setup = load(arguments.setup)
        with open_shop(setup) as (shop, traffic):
            rows = asyncio.run(measure(shop, traffic.titles[: arguments.searches]))
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    say(
        text_table(
            rows,
            [
                Column("p50_ms", ".2f"),
                Column("p95_ms", ".2f"),
                Column("ratio", ".3f"),
                Column("cpu_ms", ".2f"),
                Column("cpu_ratio", ".3f"),
            ],
        )
    )
    say(summary_line("benchmark_filters", setup.name, started, rows, goal=GOAL))
    return 0


async def measure(shop: ShopReplica, texts: tuple[str, ...]) -> list[Row]:
    """A row a case: medians, and their ratio to the median without filters."""
    assert shop.live.recommender is not None
    release = shop.live.recommender.release
    rng = np.random.default_rng(0)
    vars(release)["attributes"] = synthetic_attributes(release.items.num_rows, rng)
    cases = [(name, facets) for facets in (False, True) for name in CASES]
    times: Times = {case: [] for case in cases}
    for number, text in enumerate(texts):
        for case in rng.permutation(len(cases)).tolist():
            name, facets = cases[case]
            filters = Filters(attributes=conditions(*CASES[name], rng))
            query = Query(request_id=f"r{number}", text=text or "a", filters=filters, facets=facets)
            begun, cpu_begun = time.perf_counter(), time.process_time()
            JsonResponse(search_answer(await shop.search(query), query))
            seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
            times[cases[case]].append(seconds)
    return [_row(name, facets, times) for name, facets in cases]


def _row(name: str, facets: bool, times: Times) -> Row:
    own, base = (1000 * np.array(times[case, facets][WARM_UP:]) for case in (name, "none"))
    ratio, cpu_ratio = np.median(own, axis=0) / np.median(base, axis=0)
    return {
        "name": f"{name}, facets" if facets else name,
        "p50_ms": float(np.median(own[:, 0])),
        "p95_ms": float(np.quantile(own[:, 0], 0.95)),
        "ratio": float(ratio),
        "cpu_ms": float(np.median(own[:, 1])),
        "cpu_ratio": float(cpu_ratio),
        "reached_goal": bool(ratio <= GOAL),
    }


def synthetic_attributes(items: int, rng: Generator) -> AttributeColumns:
    """Ten columns, as a night leaves them."""
    fields, arrays = list[pa.Field](), list[pa.Array]()
    for name, size in TEXTS.items():
        values = pa.array([f"{name} {number}" for number in range(size)])
        codes = pa.array(rng.integers(0, size, items).astype(np.int32))
        arrays.append(pa.DictionaryArray.from_arrays(codes, values))
        fields.append(_field(Attribute(name), arrays[-1]))
    for name in NUMBERS:
        arrays.append(pa.array(rng.uniform(0, 100, items)))
        fields.append(_field(Attribute(name, "number", unit="cm"), arrays[-1]))
    return AttributeColumns(pa.table(arrays, schema=pa.schema(fields)), items)


def _field(attribute: Attribute, array: pa.Array) -> pa.Field:
    return pa.field(attribute.name, array.type, metadata={DECLARATION: attribute.to_json()})


def conditions(count: int, share: float, rng: Generator) -> tuple[AttributeFilter, ...]:
    """Filters on `count` attributes, each of which about that share of the items passes."""
    names = rng.permutation([*TEXTS, *NUMBERS])[:count].tolist()
    filters = list[AttributeFilter]()
    for name in names:
        if name in TEXTS:
            chosen = rng.permutation(TEXTS[name])[: round(share * TEXTS[name])]
            filters += [AttributeFilter(name, "eq", f"{name} {value}") for value in chosen]
        else:
            bound = round(100 * share + rng.uniform(-5, 5), 1)
            filters.append(AttributeFilter(name, "lte", f"{bound} cm"))
    return tuple(filters)


if __name__ == "__main__":
    sys.exit(main())
