"""The house: imports point down, heavy things load late, files stay short, and the documents tell
the truth."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: The rooms from the top down: each may import from itself and from what stands below it.
ORDER = [
    "jobs",
    "serve",
    "recsys.batch",
    "recsys.simulation",
    "recsys.evaluation",
    "recsys.learning",
    "recsys.privacy",
    "recsys.models",
    "recsys.conformance",
    "recsys.config",
    "recsys.pipeline",
    "recsys.training",
    "recsys.catalogue",
    "recsys.events",
    "recsys.release",
    "recsys.understanding",
    "recsys.users",
    "recsys.demo",
    "recsys.market",
    "recsys.encoders",
    "recsys.experiments",
    "recsys.retrieval",
    "recsys.ranking",
    "recsys.datasets",
    "recsys.pictures",
    "recsys.attributes",
    "recsys.storage",
    "recsys.pretrained",
    "recsys.metrics",
    "recsys.intervals",
    "recsys.tables",
    "recsys.interfaces",
    "recsys.errors",
    "recsys.arrays",
    "recsys.types",
]
#: Only these rooms may know Ray.
WITH_RAY = ("jobs", "serve", "recsys.batch")
#: What may load torch with its modules; everywhere else it comes in with the part that needs it.
WITH_TORCH = (
    "recsys.training",
    "recsys.learning.intents",
    "recsys.learning.mixer",
    "recsys.learning.models",
    "recsys.learning.rankers",
    "recsys.learning.search",
    "recsys.learning.users",
    "recsys.users.sasrec",
    "recsys.users.sequence",
    "recsys.ranking.network",
    "recsys.encoders.convolutions",
    "recsys.encoders.packed",
    "recsys.retrieval.vectors.gpu",
    "recsys.retrieval.vectors.kernels",
)
HEAVY = {"ray", "torch", "transformers", "matplotlib"}


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(file): file
    for top in ("recsys", "jobs", "serve")
    for file in sorted((ROOT / top).rglob("*.py"))
}
DOCUMENTS = [
    file for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if file.exists()
]


def room_of(module: str) -> str | None:
    return next((room for room in ORDER if f"{module}.".startswith(f"{room}.")), None)


def imports(tree: ast.Module) -> Iterator[str]:
    """Names of the modules imported anywhere in it; `from a import b` gives a.b, b being a module
    or not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: import by the absolute name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(module: str, tree: ast.Module) -> list[str]:
    """What a module imports though the house forbids it."""
    room, found = room_of(module), []
    assert room, f"{module} has no place yet: add it to ORDER, and to the map in README.md"
    for name in imports(tree):
        target = "serve" if name == "ray.serve" else room_of(name)
        if name.split(".")[0] == "ray":
            found += [f"{module} imports {name}"] * (room not in WITH_RAY)
        elif target and ORDER.index(target) < ORDER.index(room):
            found.append(f"{module} imports {name} from above")
    return found


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"recsys"}))
def test_imports_point_down(module: str) -> None:
    assert faults(module, ast.parse(MODULES[module].read_text())) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("recsys.types", "from recsys.errors import InputError"),
        ("recsys.retrieval.vectors.exact", "from recsys.pipeline import recommender"),
        ("recsys.release.release", "import recsys.config"),
        ("recsys.events.sqlite", "def f():\n    import ray"),
        ("recsys.release.release", "from ray import serve"),
        ("recsys.batch.stages", "from serve.app import compose"),
        ("serve.app", "import jobs.nightly"),
    ],
)
def test_an_import_from_above_is_found(module: str, line: str) -> None:
    assert len(faults(module, ast.parse(line))) == 1


def test_recsys_loads_nothing_heavy() -> None:
    light = [
        module
        for module in MODULES
        if not f"{module}.".startswith(tuple(f"{h}." for h in WITH_RAY + WITH_TORCH))
    ]
    code = (
        f"import importlib, sys\nfor name in {light}:\n    importlib.import_module(name)\n"
        f"    loaded = {HEAVY} & set(sys.modules)\n"
        "    assert not loaded, f'import {name} loads {loaded}'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("folder", "most"), [("recsys", 400), ("jobs", 400), ("serve", 400), ("tests", 520)]
)
def test_files_stay_short(folder: str, most: int) -> None:
    long = {
        str(f): n
        for f in (ROOT / folder).rglob("*.py")
        if (n := len(f.read_text().splitlines())) > most
    }
    # Contracts of all seams are one file on purpose.
    assert [file for file in long if not file.endswith("contracts.py")] == []


@pytest.mark.parametrize(
    "module", [name for name, file in MODULES.items() if file.read_text().strip()]
)
def test_what_is_public_is_explained(module: str) -> None:
    """Every module, and in recsys the classes and functions at its top level, unless three lines
    say it all."""
    tree = ast.parse(MODULES[module].read_text())
    assert ast.get_docstring(tree), f"{module} does not say what it is for"
    if module.startswith("recsys."):
        assert silent(tree) == [], f"{module}: say what the signature cannot"


def silent(tree: ast.Module) -> list[str]:
    """Public names at the top level that say nothing of themselves."""
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
    ]
    return [node.name for node in public if not ast.get_docstring(node) and lines_of(node) > 3]


def test_silence_is_found() -> None:
    long = "    a = 1\n    b = 2\n    c = 3\n    return a + b + c"
    assert silent(ast.parse(f"def f():\n{long}\ndef _g():\n{long}\ndef h():\n    return 1\n")) == [
        "f"
    ]


def lines_of(node: ast.FunctionDef | ast.ClassDef) -> int:
    """Lines of the body."""
    return (node.end_lineno or 0) - node.body[0].lineno + 1


#: What runs or loads whatever it is given.
RUNS_ANYTHING = {
    "eval",
    "exec",
    "pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "subprocess",
}
UNSAFE = (*RUNS_ANYTHING, "os.system", "os.popen", "yaml.load", "yaml.unsafe_load")
SQL = r"\b(SELECT|INSERT|UPDATE|DELETE|WHERE|VALUES|PRAGMA)\b"
#: Looked at by a person: `git describe` for the manifest, `npm pack` of packages that the module
#: names (it runs none of their scripts), and tables that the module itself names.
HARMLESS = {
    ("recsys.datasets.word_lists", "subprocess"),
    ("recsys.storage.version", "subprocess"),
    ("recsys.events.sqlite", "SQL of table"),
    ("recsys.events.sqlite_schema", "SQL of table"),
    ("recsys.simulation.processes", "subprocess"),
    ("recsys.simulation.time_shift", "SQL of table"),
}


def risks(tree: ast.Module) -> list[str]:
    """What could run what came in: loaders of code, shells, SQL put together from values."""
    found = [name for name in imports(tree) if set(name.split(".")) & RUNS_ANYTHING]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, given = (
                ast.unparse(node.func),
                {each.arg: ast.unparse(each.value) for each in node.keywords},
            )
            unsafe = name in UNSAFE or "True" in (given.get("shell"), given.get("allow_pickle"))
            unsafe |= name == "torch.load" and given.get("weights_only") != "True"
            found += [name] * unsafe
            found += mixed(node.args[0]) if "execute" in name and node.args else []
    return found


def mixed(statement: ast.expr) -> list[str]:
    """What is put into SQL but for the module's own constants, whose names are capitals."""
    if not re.search(SQL, written := ast.unparse(statement)):
        return []
    if isinstance(statement, ast.BinOp | ast.Call):
        return [f"SQL of {written}"]
    holes = [
        ast.unparse(each.value)
        for each in ast.walk(statement)
        if isinstance(each, ast.FormattedValue)
    ]
    return [f"SQL of {hole}" for hole in holes if not hole.isupper()]


@pytest.mark.parametrize(
    "module", sorted(name for name in MODULES if name.startswith(("recsys", "serve")))
)
def test_nothing_that_came_in_is_run(module: str) -> None:
    assert {(module, risk) for risk in risks(ast.parse(MODULES[module].read_text()))} <= HARMLESS


RISKY = [
    "import pickle",
    "from subprocess import run",
    "eval(x)",
    "yaml.load(x)",
    "run(x, shell=True)",
    "torch.load(x)",
]
RISKY += [
    "np.load(x, allow_pickle=True)",
    "d.execute(f'SELECT a WHERE c = {x}')",
    "d.execute('DELETE FROM b WHERE c=' + x)",
]


@pytest.mark.parametrize("line", RISKY)
def test_what_could_be_run_is_found(line: str) -> None:
    assert len(risks(ast.parse(line))) == 1
    assert (
        risks(
            ast.parse("d.execute('SELECT a WHERE c = ?', (x,))\ntorch.load(x, weights_only=True)")
        )
        == []
    )


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="README.md is not written yet")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_documents_tell_the_truth(document: Path) -> None:
    assert untrue(document.read_text(), document.parent) == []


def untrue(text: str, folder: Path) -> list[str]:
    """Links, paths, jobs and make targets that a document names and the checkout does not have."""
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text)
    paths = re.findall(r"(?<![\w/.~:-])((?:recsys|jobs|serve|tests|docs|\.ci)/[\w./-]*\w)", text)
    jobs = re.findall(r"-m (jobs\.\w+)", text)
    targets = re.findall(r"(?:^|`|\$ )make ([\w-]+)", text, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text() if (ROOT / "Makefile").exists() else ""
    return [
        *(link for link in links if not (folder / link).exists()),
        *(path for path in paths if not (ROOT / path).exists()),
        *(job for job in jobs if job not in MODULES),
        *(
            f"make {target}"
            for target in targets
            if not re.search(rf"^{target}:", makefile, re.MULTILINE)
        ),
    ]


def test_an_untrue_document_is_found() -> None:
    text = (
        "See [x](gone.md), `recsys/gone.py`, `python -m jobs.gone`, `make gone` and "
        "recsys/types.py, jobs/__init__.py."
    )
    assert untrue(text, ROOT) == ["gone.md", "recsys/gone.py", "jobs.gone", "make gone"]
