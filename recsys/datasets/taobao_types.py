"""Taobao titles with their product types marked: queries are the types, in Chinese."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from recsys.datasets import data_folder
from recsys.types import Floats

FILES = ("train.txt", "dev.txt", "test.txt")
#: A type is a query when this many titles are marked with it.
TITLES = 5
_TYPE = "HCCX"

Relevant = dict[str, list[int]]


def load(folder: str | Path | None = None) -> tuple[list[str], Relevant]:
    """The titles of all files, and for each query the rows of the titles marked with it.

    A file has one character and its BIO tag a line and a blank line after each title. Raises
    NotFoundError when the data set is not there."""
    folder = Path(folder) if folder else data_folder("zh_taobao_titles_ner")
    titles: list[str] = []
    rows: Relevant = {}
    for title, tags in (pair for name in FILES for pair in _titles(folder / name)):
        for type_ in sorted(set(_marked(title, tags))):
            rows.setdefault(type_, []).append(len(titles))
        titles.append(title)
    return titles, {type_: found for type_, found in rows.items() if len(found) >= TITLES}


def split(query: str) -> str:
    """valid or test, half of the queries each, by a hash of the query."""
    return "valid" if sha256(query.encode()).digest()[0] < 128 else "test"


def recall(score: Callable[[str], Floats], relevant: Relevant, k: int = 10) -> dict[str, float]:
    """`recall@k`, and `recall@k/reachable`: of the min(k, relevant) that k places can show. `score`
    scores all rows."""
    plain, reachable = [], []
    for query, rows in relevant.items():
        top = np.argsort(-score(query), kind="stable")[:k]
        hits = len(set(rows) & set(top.tolist()))
        plain.append(hits / len(rows))
        reachable.append(hits / min(k, len(rows)))
    return {
        f"recall@{k}": float(np.mean(plain)),
        f"recall@{k}/reachable": float(np.mean(reachable)),
    }


def character_tfidf(titles: Sequence[str], sublinear: bool = False) -> Callable[[str], Floats]:
    """The baseline: cosine of TF-IDF over 1 to 3 characters, as scikit-learn computes it;
    `sublinear`: 1 + log(TF)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    model = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=sublinear)
    titles_NF = model.fit_transform(titles)
    return lambda query: (
        (titles_NF @ model.transform([query]).T).toarray().ravel().astype(np.float32)
    )


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


def _marked(title: str, tags: Sequence[str]) -> Iterator[str]:
    marked = ""
    for character, tag in zip(title, tags, strict=True):
        if tag == f"I-{_TYPE}" and marked:
            marked += character
            continue
        if marked:
            yield marked
        marked = character if tag == f"B-{_TYPE}" else ""
    if marked:
        yield marked
