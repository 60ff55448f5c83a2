"""Searches and recommendations in process, without HTTP: python -m jobs.benchmark_calls

Median milliseconds of a call, of making its JSON, and of a search's parts. The last line is
JSON."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator

import numpy as np

from jobs.serve_plain import open_shop
from recsys.config import load
from recsys.errors import RecsysError
from recsys.evaluation.results import Column, Row, say, summary_line, text_table
from recsys.simulation.traffic import Call, Traffic
from serve.replicas import ShopReplica
from serve.routes.answers import ranking_answer, search_answer
from serve.routes.requests import RecommendParams, SearchParams, build_query
from serve.routes.responses import JsonResponse

#: The stages of `Ranking.stages_ms` that each part of a search is made of.
PARTS = {
    "understand": ("understand",),
    "encode": ("encode",),
    "retrieve": ("filter", "match", "features", "nightly", "user vector"),
    "rank": ("cross_encoder", "rank", "rerank", "page", "explain", "facets", "merge"),
}
#: The first calls fill caches.
WARM_UP = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", default="tiny", help="a setup's name, or my_shop.setups:winter")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each route")
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        setup = load(arguments.setup)
        with open_shop(setup) as (shop, traffic):
            rows = asyncio.run(measure_routes(shop, traffic, arguments.seconds))
    except RecsysError as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    say(text_table(rows, [Column(name, ".2f") for name in rows[0] if name != "name"]))
    say(summary_line("benchmark_calls", setup.name, started, rows))
    return 0


async def measure_routes(shop: ShopReplica, traffic: Traffic, seconds: float) -> list[Row]:
    """A row for each route: the medians of its calls."""
    rows = []
    for route in ("recommend", "search"):
        end = time.perf_counter() + seconds
        times = [
            await measure_call(shop, call, f"r{number}")
            for number, call in _until(end, traffic.route_calls(route))
        ]
        parts = {part: [each[part] for each in times[WARM_UP:]] for part in times[0]}
        medians = {part: float(np.median(values)) for part, values in parts.items()}
        rows.append({"name": route, **medians})
    return rows


def _until(end: float, calls: Iterator[Call]) -> Iterator[tuple[int, Call]]:
    for number, call in enumerate(calls):
        if number > WARM_UP and time.perf_counter() > end:
            return
        yield number, call


async def measure_call(shop: ShopReplica, call: Call, request_id: str) -> dict[str, float]:
    """Milliseconds of the answer, of its JSON, and of its parts."""
    is_search = call.route == "search"
    model = SearchParams if is_search else RecommendParams
    query = build_query(request_id, model.model_validate(dict(call.params)), shop.day)
    started = time.perf_counter()
    ranking = await (shop.search(query) if is_search else shop.recommend(query))
    answered = time.perf_counter()
    JsonResponse(search_answer(ranking, query) if is_search else ranking_answer(ranking))
    serialised = time.perf_counter()
    parts = {
        part: sum(ms for stage, ms in ranking.stages_ms.items() if stage in stages)
        for part, stages in PARTS.items()
    }
    times = {"answer": answered - started, "serialise": serialised - answered}
    return {**{part: 1000 * seconds for part, seconds in times.items()}, **parts}


if __name__ == "__main__":
    sys.exit(main())
