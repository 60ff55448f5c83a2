"""docs/own-shop.md and pictures.md: each refusal in them is a sentence of the code; each platform's
and each of pictures is in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.refusals import refusals

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "own-shop.md").read_text(encoding="utf-8")
PICTURES = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
SENTENCES = re.findall(r"^\| `(.+?)` \| .*\|$", PAGE + PICTURES, re.MULTILINE)
IN_CODE = refusals()


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_of_the_page_is_in_the_code(sentence):
    assert sentence in IN_CODE, "the code says it in other words now: python -m tests.refusals"


def test_the_pages_have_the_refusals_of_every_platform_and_of_pictures():
    ours = (
        "platforms/",
        "recsys/pictures/",
        "image_cells.py",
        "recognition.py",
        "mapping.py",
        "setup_file.py",
    )
    missing = {
        sentence
        for sentence, module in IN_CODE.items()
        if any(part in module for part in ours) and sentence not in SENTENCES
    }
    assert missing == set()


def test_the_page_names_every_adapter():
    modules = (ROOT / "recsys" / "datasets" / "platforms").glob("*.py")
    adapters = {
        name
        for module in modules
        for name in re.findall(r"^class (\w+)\(PlatformAdapter\)", module.read_text(), re.MULTILINE)
    }
    assert {name for name in adapters if f".{name}(" not in PAGE} == set()
    assert len(adapters) == 9
