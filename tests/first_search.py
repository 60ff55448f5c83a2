"""From a shop's export to its first search, as a newcomer does it: python -m tests.first_search

Generates an export of Shopify in an empty folder, types the commands that `start_shop` names, and
searches. Prints the commands, the edits and the minutes, last as a line of JSON."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from recsys.evaluation.results import say, summary_line
from recsys.simulation.processes import free_port
from tests.shopify_export import write_export

ROOT = Path(__file__).parent.parent
QUERY = "red coffee mug"
PATIENCE_S = 1_200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=1_000)
    parser.add_argument("--orders", type=int, default=2_000)
    arguments, started = parser.parse_args(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        files = write_export(Path(folder), arguments.products, arguments.orders)
        row = first_search(Path(folder), [path.name for path in files])
    for name, value in row.items():
        say(f"{name:<14}{value}")
    say(summary_line("first_search", "generated", started, [row]))
    return 0


def first_search(folder: Path, files: list[str]) -> dict[str, Any]:
    """The commands typed in the folder until a search is answered, and how long that took."""
    commands = [["python", "-m", "jobs.start_shop", *files]]
    started = time.perf_counter()
    said = subprocess.run(
        arguments_of(commands[0]),
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    seconds = {"start_shop_s": round(time.perf_counter() - started, 1)}
    port = free_port()
    commands.append([*re.search(r"python -m jobs\.serve_local --setup \S+", said)[0].split()])
    with served([*commands[1], "--port", str(port)], folder) as lines:
        for line in lines:
            say(line.rstrip())
            if line.startswith("published"):
                seconds["night_s"] = round(
                    time.perf_counter() - started - seconds["start_shop_s"], 1
                )
            if "/search?q=" in line:
                break
        url = f"http://127.0.0.1:{port}/search"
        answer = httpx.get(url, params={"q": QUERY}, timeout=60).raise_for_status().json()
    return {
        "name": "nightshelf",
        "commands": len(commands),
        "edits": 0,
        "minutes": round((time.perf_counter() - started) / 60, 2),
        **seconds,
        "items_found": answer["total"],
        "first_title": answer["items"][0]["title"] if answer["items"] else None,
    }


@contextmanager
def served(command: list[str], folder: Path) -> Iterator[Iterator[str]]:
    """The lines of a command that runs until the block ends."""
    process = subprocess.Popen(
        arguments_of(command),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield iter(process.stdout)
    finally:
        process.terminate()
        process.wait(60)


def arguments_of(command: list[str]) -> list[str]:
    return [sys.executable, *command[1:]]


def environment(folder: Path) -> dict[str, str]:
    """Of a newcomer: a home of their own, and no cluster."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
    return ours | {
        "PYTHONPATH": str(ROOT),
        "NIGHTSHELF_HOME": f"{folder}/home",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }


if __name__ == "__main__":
    sys.exit(main())
