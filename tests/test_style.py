"""Density and names: short functions, keywords at long calls, nouns for values, one home a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [file for top in ("recsys", "serve", "jobs") for file in sorted((ROOT / top).rglob("*.py"))]
LONGEST_FUNCTION, MOST_POSITIONAL, MOST_FIELDS = 40, 5, 4
#: A value is called by what it is, not by what was done to get it.
PARTICIPLES = {"told", "found", "asked", "known", "taken", "sent", "shown", "tried"} | {
    *("wanted", "held", "kept", "done", "here", "there", "given")
}


def long_functions(tree: ast.Module) -> list[str]:
    return [
        f"{node.name} has {lines} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]


def positional_calls(tree: ast.Module) -> list[str]:
    """Calls in which a reader would have to count the arguments."""
    return [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and sum(not isinstance(each, ast.Starred) for each in node.args) > MOST_POSITIONAL
    ]


def participles(tree: ast.Module) -> list[str]:
    """Fields of a TypedDict are exempt: they are the names on the wire."""
    wire = {id(name) for node in ast.walk(tree) for name in _wire_fields(node)}
    return [
        f"line {node.lineno}: {node.id}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Store)
        and node.id.split("_")[0] in PARTICIPLES
        and id(node) not in wire
    ]


def _wire_fields(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.ClassDef) and "TypedDict" in map(ast.unparse, node.bases):
        yield from (each.target for each in node.body if isinstance(each, ast.AnnAssign))


def positional_dataclasses(tree: ast.Module) -> list[str]:
    """Dataclasses of many fields that can be made without naming them."""
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and _wide(node)]


def _wide(node: ast.ClassDef) -> bool:
    decorators = [ast.unparse(each) for each in node.decorator_list]
    if not any(each.startswith("dataclass") for each in decorators):
        return False
    fields = sum(isinstance(each, ast.AnnAssign) for each in node.body)
    return fields > MOST_FIELDS and not any("kw_only=True" in each for each in decorators)


def public_names(tree: ast.Module) -> Iterator[str]:
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names = (node.name for node in tree.body if isinstance(node, definitions))
    return (name for name in names if not name.startswith("_") and name != "main")


CHECKS = (long_functions, positional_calls, participles, positional_dataclasses)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_code_is_dense_and_named(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert {check.__name__: check(tree) for check in CHECKS} == {
        check.__name__: [] for check in CHECKS
    }


def test_one_public_name_has_one_home() -> None:
    homes = defaultdict(list)
    for file in FILES:
        for name in public_names(ast.parse(file.read_text())):
            homes[name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (long_functions, "def f():\n" + "    a = 1\n" * 40),
        (positional_calls, "f(1, 2, 3, 4, 5, 6)"),
        (participles, "found_rows = [1]"),
        (participles, "for told in texts: pass"),
        (
            positional_dataclasses,
            "@dataclass\nclass A:\n" + "".join(f"    a{n}: int\n" for n in range(5)),
        ),
    ],
)
def test_each_check_finds_its_fault(check, source) -> None:  # type: ignore[no-untyped-def]
    assert len(check(ast.parse(source))) == 1


def test_what_is_right_passes() -> None:
    source = (
        "def f():\n" + "    a = 1\n" * 39 + "f(1, 2, 3, 4, 5, *a, b=1)\n"
        "hits = 1\n"
        "class W(TypedDict):\n    done: bool\n@dataclass(frozen=True, kw_only=True)\nclass A:\n"
        + "".join(f"    a{n}: int\n" for n in range(5))
    )
    assert [check(ast.parse(source)) for check in CHECKS] == [[], [], [], []]
