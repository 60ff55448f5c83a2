"""The sentences by which the code refuses a shop's input: python -m tests.refusals lists them.

Values in a sentence are `…`."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from recsys.evaluation.results import say

ROOT = Path(__file__).parent.parent
FOLDERS = ("recsys/datasets", "recsys/attributes", "recsys/pictures")
#: Modules of data sets that are for evaluation alone.
OTHERS = (
    "judg",
    "labelled",
    "taobao",
    "sequences",
    "item_tables",
    "completejourney",
    "uci_",
    "yan",
)
HOLE = "…"
#: What a rule of a cell says: it follows the column and the value.
RULE = re.compile(r"^it must|\bcatalogue\.\w+|^use one of|^its |^there (is|are) |^has no column")


def refusals(folder: Path = ROOT) -> dict[str, str]:
    """Sentence -> the module that has it."""
    found: dict[str, str] = {}
    for top in FOLDERS:
        for file in sorted((folder / top).rglob("*.py")):
            if not file.name.startswith(OTHERS):
                for sentence in sentences(ast.parse(file.read_text(encoding="utf-8"))):
                    if re.search(r"\w", sentence):
                        found.setdefault(sentence, str(file.relative_to(folder)))
    return found


def sentences(tree: ast.Module) -> Iterator[str]:
    """Of the exceptions that a module raises, and the texts in it that have the form of a rule."""
    inside = {id(part) for node in ast.walk(tree) for part in getattr(node, "values", ())}
    inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            if ast.unparse(node.exc.func) != "ValueError":
                yield from _texts(node.exc.args[0])
        elif isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in inside:
            yield from (text for text in _texts(node) if RULE.search(text))


def _texts(node: ast.expr) -> Iterator[str]:
    """Each text that the expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = (next(_texts(part), HOLE) for part in node.values)
        yield "".join(parts)
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))


if __name__ == "__main__":
    for sentence, module in refusals().items():
        say(f"{module}\t{sentence}")
    sys.exit(0)
