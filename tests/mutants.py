"""Mutation testing (DeMillo et al. 1978): python -m tests.mutants --sample 300 --seed 0

Cosmic Ray makes small faults in the rooms where a silent fault costs most, one at a time, each in a
copy of the checkout; a mutant is killed when a unit test fails or takes too long. First the tests
that import the mutated module run, then those of modules in its room that import it. Survivors are
printed as the line before and after: kill them with a test, or say why not in docs/testing.md.
Test files that fail without a mutant are named and left out. Numbers of three digits and more are
not mutated: a page of 5,001 rows is as good as one of 5,000.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import ndiff
from functools import cache
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from cosmic_ray.ast import get_ast, is_number
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from tqdm import tqdm

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "recsys/release",
    "recsys/pipeline",
    "recsys/learning/gate.py",
    "recsys/events",
    "recsys/privacy",
    "recsys/experiments",
)
#: Drawings, which people look at.
UNTESTED = {"recsys/release/plots.py"}
#: One replacement an operator: all eleven of each would drown the other kinds of fault.
OPERATORS = (
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("IsNot_Is", "Lt_Gt", "Gt_Lt")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("FloorDiv_Mul", "Mod_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("BitOr_BitAnd", "BitAnd_BitOr")),
    *(f"ReplaceUnaryOperator_Delete_{name}" for name in ("USub", "Invert", "Not")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr"),
    *("ReplaceOrWithAnd", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("ExceptionReplacer", "NumberReplacer", "RemoveDecorator", "ZeroIterationForLoop"),
)
#: Seconds after which a test run counts as a mutant found: an endless loop is a failure too.
PATIENCE_S = 180.0
UNIT = "not ray and not realdata and not slow and not gpu"


@dataclass(frozen=True)
class Mutant:
    """The `occurrence`-th place of a file where an operator of Cosmic Ray applies."""

    path: str
    operator: str
    occurrence: int
    line: int

    def source(self, source: str) -> str:
        mutated = mutate_code(source, get_operator(f"core/{self.operator}")(), self.occurrence)
        assert mutated is not None, self
        return str(mutated)

    def is_possible(self) -> bool:
        """Whether Cosmic Ray can make it: it fails on a tuple of exceptions kept in a variable."""
        try:
            ast.parse(self.source((ROOT / self.path).read_text()))
        except (AttributeError, SyntaxError):
            return False
        return True

    def difference(self) -> str:
        """The lines that changed, before and after."""
        source = (ROOT / self.path).read_text()
        lines = ndiff(source.splitlines(), self.source(source).splitlines())
        return "\n".join(f"    {line}" for line in lines if line[0] in "-+")


def mutants() -> Iterator[Mutant]:
    """Every mutant of the rooms, but for annotations: nothing evaluates those."""
    for path in _files():
        source = (ROOT / path).read_text()
        unevaluated = _annotation_spans(ast.parse(source))
        tree = get_ast(source)
        for name in OPERATORS:
            operator, occurrence = get_operator(f"core/{name}")(), 0
            for node in _nodes(tree):
                for start, end in operator.mutation_positions(node):
                    annotates = any(low <= start and end <= high for low, high in unevaluated)
                    if not annotates and not _long_number(node):
                        yield Mutant(path, name, occurrence, start[0])
                    occurrence += 1


def _files() -> list[str]:
    paths = [path for room in ROOMS for path in (ROOT / room, *(ROOT / room).rglob("*.py"))]
    files = {str(path.relative_to(ROOT)) for path in paths if path.suffix == ".py"}
    return sorted(files - UNTESTED)


def _nodes(node: object) -> Iterator[object]:
    """In the order of Cosmic Ray's own visitor, which numbers occurrences."""
    yield node
    for child in getattr(node, "children", ()):
        yield from _nodes(child)


def _long_number(node: object) -> bool:
    digits = getattr(node, "value", "").replace("_", "") if is_number(node) else ""
    return len(digits.partition(".")[0]) > 2


Position = tuple[int, int]


def _annotation_spans(tree: ast.Module) -> list[tuple[Position, Position]]:
    nodes: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            nodes.append(node.returns)
        annotation = getattr(node, "annotation", None)
        if isinstance(annotation, ast.expr):
            nodes.append(annotation)
    return [
        ((n.lineno, n.col_offset), (n.end_lineno or n.lineno, n.end_col_offset or 0)) for n in nodes
    ]


@cache
def _imports(path: Path) -> frozenset[str]:
    """Modules of ours that a file imports: `from a import b` counts as a and as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.split(".")[0] in ("recsys", "tests"))


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


@cache
def tests_of(path: str, steps: int) -> tuple[str, ...]:
    """Test files that import the module, through at most `steps` other modules of its room."""
    targets = {_module(path)}
    room = {_module(str(f.relative_to(ROOT))): f for f in (ROOT / path).parent.glob("*.py")}
    helpers = {_module(str(f.relative_to(ROOT))): f for f in (ROOT / "tests").glob("*.py")}
    for _ in range(steps):
        targets |= {name for name, file in room.items() if _imports(file) & targets}
    targets |= {name for name, file in helpers.items() if _imports(file) & targets}
    files = [file for file in (ROOT / "tests").glob("test_*.py") if _imports(file) & targets]
    return tuple(sorted(str(file.relative_to(ROOT)) for file in files))


def killed(mutant: Mutant, checkout: Path, broken: frozenset[str]) -> bool:
    """Whether a unit test fails on the mutant that passes without it."""
    file = checkout / mutant.path
    source = file.read_text()
    file.write_text(mutant.source(source))
    try:
        nearest = set(tests_of(mutant.path, 0)) - broken
        farther = set(tests_of(mutant.path, 1)) - nearest - broken
        return _fails(nearest, checkout) or _fails(farther, checkout)
    finally:
        file.write_text(source)


def _fails(tests: Collection[str], checkout: Path) -> bool:
    if not tests:
        return False
    options = ["-qx", "-p", "no:cacheprovider", "-m", UNIT]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *sorted(tests)],
            cwd=checkout,
            env=environment,
            capture_output=True,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return True
    return run.returncode not in (0, 5)  # 5: no test was collected


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=300, help="mutants to try (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of paths")
    arguments = parser.parse_args()
    started, starts = time.perf_counter(), tuple(arguments.only)
    population = [mutant for mutant in mutants() if mutant.path.startswith(starts)]
    random.Random(arguments.seed).shuffle(population)
    possible = (mutant for mutant in population if mutant.is_possible())
    sample = list(islice(possible, arguments.sample))
    size = len(sample)
    print(f"{size} of {len(population):,} mutants, seed {arguments.seed}", flush=True)
    with Checkouts(arguments.workers) as checkouts:
        broken = frozenset(failing_tests(sample, checkouts))
        survivors = surviving(sample, checkouts, broken)
    report(sample, survivors)
    summary = {"mutants": size, "survivors": len(survivors), "seed": arguments.seed}
    print(json.dumps({**summary, "seconds": round(time.perf_counter() - started, 1)}))
    return int(len(survivors) * 10 >= size)


class Checkouts:
    """A copy of the checkout for each worker, and the workers."""

    def __init__(self, workers: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.pool, self.free = ThreadPoolExecutor(workers), SimpleQueue[Path]()
        for number in range(workers):
            checkout = Path(self.folder.name) / str(number)
            checkout.mkdir()
            for top in ("recsys", "serve", "jobs", "tests", "pyproject.toml"):
                copy = shutil.copytree if (ROOT / top).is_dir() else shutil.copy
                copy(ROOT / top, checkout / top)
            self.free.put(checkout)

    def __enter__(self) -> Checkouts:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.folder.cleanup()

    def map(self, work: Callable[[T, Path], bool], values: Sequence[T], unit: str) -> list[bool]:
        """`work` on each value and a checkout of its own, with a progress bar."""

        def in_checkout(value: T) -> bool:
            checkout = self.free.get()
            try:
                return work(value, checkout)
            finally:
                self.free.put(checkout)

        return list(tqdm(self.pool.map(in_checkout, values), total=len(values), unit=unit))


def failing_tests(sample: Sequence[Mutant], checkouts: Checkouts) -> list[str]:
    """Test files that fail as they are: they could tell nothing of a mutant."""
    paths = {mutant.path for mutant in sample}
    files = sorted({file for path in paths for file in tests_of(path, 1)})
    fails = checkouts.map(lambda file, checkout: _fails([file], checkout), files, "file")
    broken = [file for file, failure in zip(files, fails, strict=True) if failure]
    if broken:
        print(f"left out, since they fail without a mutant: {', '.join(broken)}", flush=True)
    return broken


def surviving(
    sample: Sequence[Mutant], checkouts: Checkouts, broken: frozenset[str]
) -> list[Mutant]:
    """The mutants of the sample that no unit test kills."""
    deaths = checkouts.map(
        lambda mutant, checkout: killed(mutant, checkout, broken), sample, "mutant"
    )
    return [mutant for mutant, dead in zip(sample, deaths, strict=True) if not dead]


def report(sample: Sequence[Mutant], survivors: Sequence[Mutant]) -> None:
    """Survivors with their lines, then counts by file."""
    for mutant in sorted(survivors, key=lambda each: (each.path, each.line)):
        print(f"{mutant.path}:{mutant.line} {mutant.operator}\n{mutant.difference()}")
    alive = Counter(mutant.path for mutant in survivors)
    for path, count in sorted(Counter(mutant.path for mutant in sample).items()):
        print(f"{path:<44}{count - alive[path]:>5} of {count} killed")


if __name__ == "__main__":
    sys.exit(main())
