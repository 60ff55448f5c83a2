"""Taobao titles with their product types tagged (BIO): the types, in Chinese, are the queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from recsys.datasets import data_folder

FILES = ("train.txt", "dev.txt", "test.txt")
#: A type is a query when this many titles are tagged with it.
MIN_TITLES = 5
_TYPE = "HCCX"

Relevant = dict[str, list[int]]


def read_tagged_titles(folder: str | Path | None = None) -> tuple[list[str], Relevant]:
    """The titles of all files, and for each query the rows of the titles tagged with it.

    A file has one character and its BIO tag a line and a blank line after each title. Raises
    NotFoundError when the data set is missing."""
    folder = Path(folder) if folder else data_folder("zh_taobao_titles_ner")
    titles: list[str] = []
    rows: Relevant = {}
    for title, tags in (pair for name in FILES for pair in _titles(folder / name)):
        for type_ in sorted(set(_tagged_types(title, tags))):
            rows.setdefault(type_, []).append(len(titles))
        titles.append(title)
    return titles, {type_: of_type for type_, of_type in rows.items() if len(of_type) >= MIN_TITLES}


def query_split(query: str) -> str:
    """valid or test, half of the queries each, by a hash of the query."""
    return "valid" if sha256(query.encode()).digest()[0] < 128 else "test"


def _titles(path: Path) -> Iterator[tuple[str, list[str]]]:
    title, tags = "", []
    for line in [*path.read_text(encoding="utf-8").split("\n"), ""]:
        character, _, tag = line.rpartition(" ")
        if character:
            title += character
            tags.append(tag)
        elif title:
            yield title, tags
            title, tags = "", []


def _tagged_types(title: str, tags: Sequence[str]) -> Iterator[str]:
    tagged = ""
    for character, tag in zip(title, tags, strict=True):
        if tag == f"I-{_TYPE}" and tagged:
            tagged += character
            continue
        if tagged:
            yield tagged
        tagged = character if tag == f"B-{_TYPE}" else ""
    if tagged:
        yield tagged
