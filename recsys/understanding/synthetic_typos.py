"""Synthetic typos: random edits of queries, to measure what a search loses to them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from string import ascii_lowercase

_WORD = re.compile(r"[a-z]{4,}", re.IGNORECASE)


def add_typo(query: str, rng: random.Random) -> str:
    """The query with one random edit (insert, delete, substitute, transpose) in one of its words of
    4+ Latin letters.

    Words and kinds of edit are drawn uniformly. A query without such a word, as in Chinese,
    stays."""
    words = list(_WORD.finditer(query))
    if not words:
        return query
    word = rng.choice(words)
    return query[: word.start()] + rng.choice(EDITS)(word.group(), rng) + query[word.end() :]


def add_typos(queries: Sequence[str], seed: int = 0) -> list[str]:
    """`add_typo` of each query. A query's typo depends on itself and the seed, not on the other
    queries."""
    return [add_typo(query, random.Random(f"{seed} {query}")) for query in queries]


def _insert(word: str, rng: random.Random) -> str:
    at = rng.randint(0, len(word))
    return word[:at] + rng.choice(ascii_lowercase) + word[at:]


def _delete(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word))
    return word[:at] + word[at + 1 :]


def _substitute(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word))
    others = ascii_lowercase.replace(word[at].lower(), "")
    return word[:at] + rng.choice(others) + word[at + 1 :]


def _transpose(word: str, rng: random.Random) -> str:
    """Two adjacent letters swapped; a word of one letter repeated has no two that differ, and loses
    one instead."""
    swaps = [at for at in range(len(word) - 1) if word[at] != word[at + 1]]
    if not swaps:
        return _delete(word, rng)
    at = rng.choice(swaps)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


EDITS: tuple[Callable[[str, random.Random], str], ...] = (_insert, _delete, _substitute, _transpose)
