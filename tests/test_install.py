"""The base install: every import is declared, and only what says so needs an extra."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Triton's kernels come in with a part that runs on a GPU, whose torch brings Triton.
ON_GPUS = {
    "recsys.retrieval.vectors.gpu",
    "recsys.retrieval.vectors.kernels",
}
MODULES = sorted(
    {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for top in ("recsys", "serve", "jobs")
        for file in (ROOT / top).rglob("*.py")
    }
    - ON_GPUS
)
IMPORT_ALL = f"import importlib\nfor name in {MODULES}:\n    importlib.import_module(name)"
#: Run before: what pip would not have installed cannot be found.
HIDE = """
import sys
class Declared:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in {undeclared}
        return None if hidden else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Declared, sys.meta_path)
"""


def closure(requirements: list[str]) -> set[str]:
    """The distributions that pip installs for these, by what is installed here."""
    queue, reached = [(Requirement(each), "") for each in requirements], set[tuple[str, str]]()
    while queue:
        need, extra = queue.pop()
        if need.marker and not need.marker.evaluate({"extra": extra}):
            continue
        for its_extra in ("", *need.extras):
            pair = (canonicalize_name(need.name), its_extra)
            if pair not in reached:
                reached.add(pair)
                queue += [(Requirement(each), its_extra) for each in requires(need.name)]
    return {name for name, _ in reached}


def requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # for another platform
        return []


def undeclared() -> set[str]:
    """Top-level modules installed here that a base install would not have. Asked of a new process:
    Ray puts packages of its own on the path of this one."""
    installed = closure(PROJECT["dependencies"])
    code = "import json; from importlib.metadata import packages_distributions as all_packages; "
    packages = json.loads(run(code + "print(json.dumps(all_packages()))").stdout)
    return {
        module
        for module, names in packages.items()
        if not {canonicalize_name(name) for name in names} & installed
    } - {"recsys", "serve", "jobs"}


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_module_imports_without_extras() -> None:
    result = run(HIDE.format(undeclared=undeclared()) + IMPORT_ALL)
    assert result.returncode == 0, result.stderr[-2000:]


def test_an_undeclared_package_is_not_found() -> None:
    assert {"redis", "peft", "pytest", "hypothesis"} <= undeclared()
    result = run(HIDE.format(undeclared=undeclared()) + "import peft")
    assert "No module named 'peft'" in result.stderr


@pytest.mark.slow
def test_the_base_package_installs_into_a_clean_environment(tmp_path: Path) -> None:
    """By pip itself what the fast test infers from metadata."""
    python, pip = tmp_path / "bin/python", [tmp_path / "bin/python", "-m", "pip", "-q"]
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    reach = subprocess.run([*pip, "download", "--no-deps", "-d", tmp_path, "six"], check=False)
    if reach.returncode:
        pytest.skip("pip reaches no package index from here")
    constraints = ["-c", ROOT / ".constraints.txt", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *constraints, ROOT], check=True)
    subprocess.run([python, "-c", IMPORT_ALL], cwd=tmp_path, check=True)
