"""Batch tokenisation with a cache of words: each distinct word is tokenised once.

Most tokenizers split a text at its spaces before anything else: the tokens of a word do not depend
on its neighbours. So texts are split into words as bytes, the tokenizer reads each distinct one,
and the ids are gathered: the tokenizer's own, id for id. A tokenizer that looks past a space gets
whole texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.types import Ints

#: Distinct words in the cache: one more, and it is cleared.
CACHE_WORDS = 250_000
_SPACE = 0x20
_PRE_TOKENIZERS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
_NORMALIZERS = (
    "BertNormalizer",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Lowercase",
    "StripAccents",
    "Precompiled",
)


class WordTokenizer:
    """A `tokenizers.Tokenizer` with a cache of words, for many texts that share words.

    A text gets at most `max_tokens` ids, special tokens included; one without any token gets
    `pad`."""

    def __init__(self, tokenizer: Any, max_tokens: int, pad: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        bare, whole = (
            tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True)
        )
        at = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
        self._before, self._after = (
            np.array(whole[:at], np.int32),
            np.array(whole[at + len(bare) :], np.int32),
        )
        self._room = max_tokens - len(self._before) - len(self._after)
        self._by_word = splits_at_spaces(json.loads(tokenizer.to_str()))
        self._tokenizer, self._pad = tokenizer, pad
        self._clear()

    def __call__(self, texts: Sequence[str]) -> pa.ListArray:
        """A list of int32 ids a text."""
        if not len(texts):
            return pa.array([], pa.list_(pa.int32()))
        _, offsets, content = pa.array(texts, pa.large_string()).buffers()
        ends_N = np.frombuffer(offsets, np.int64)[: len(texts) + 1]
        cuts_W = (
            word_starts(np.frombuffer(content or b"", np.uint8), ends_N)
            if self._by_word
            else ends_N
        )
        buffers = [None, pa.py_buffer(cuts_W), content or pa.py_buffer(b"")]
        words = pa.Array.from_buffers(
            pa.large_string(), len(cuts_W) - 1, buffers
        ).dictionary_encode()
        cached_V = self._lookup(words.dictionary.to_pylist())
        return self._gather(cached_V[np.asarray(words.indices)], np.searchsorted(cuts_W, ends_N))

    def _clear(self) -> None:
        """Word v of the cache has the ids from starts[v] to starts[v + 1]."""
        self._numbers: dict[str, int] = {}
        self._ids, self._starts = np.empty(0, np.int32), np.zeros(1, np.int64)

    def _lookup(self, words: list[str]) -> Ints:
        """Each word's number in the cache; new ones are tokenised first."""
        if not self._by_word or len(self._numbers) + len(words) > CACHE_WORDS:
            self._clear()
        if new := [word for word in words if word not in self._numbers]:
            encodings = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
            ids = [np.array(each.ids[: self._room], np.int32) for each in encodings]
            ends = self._starts[-1] + np.cumsum([len(each) for each in ids])
            self._numbers.update(
                zip(new, range(len(self._numbers), len(self._numbers) + len(new)), strict=True)
            )
            self._ids, self._starts = (
                np.concatenate([self._ids, *ids]),
                np.concatenate([self._starts, ends]),
            )
        return np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))

    def _gather(self, cached_W: Ints, firsts_N: Ints) -> pa.ListArray:
        """The ids of words cached_W, where text n has those from firsts_N[n] to firsts_N[n + 1]; T
        ids in all."""
        starts_W, lengths_W = self._starts[cached_W], np.diff(self._starts)[cached_W]
        ends_W = np.concatenate([[0], np.cumsum(lengths_W)])
        ids_T = self._ids[np.repeat(starts_W - ends_W[:-1], lengths_W) + np.arange(ends_W[-1])]
        counts_N = np.diff(ends_W[firsts_N])
        if counts_N.max() > self._room:
            positions_T = np.arange(len(ids_T)) - np.repeat(ends_W[firsts_N[:-1]], counts_N)
            ids_T, counts_N = ids_T[positions_T < self._room], np.minimum(counts_N, self._room)
        around = len(self._before) + len(self._after)
        offsets_N = np.concatenate([[0], np.cumsum(np.maximum(counts_N + around, 1))])
        out, inner = np.full(offsets_N[-1], self._pad, np.int32), np.ones(offsets_N[-1], bool)
        before = offsets_N[:-1, None] + np.arange(len(self._before))
        after = offsets_N[1:, None] - np.arange(len(self._after), 0, -1)
        out[before], out[after] = self._before, self._after
        inner[before], inner[after] = False, False
        inner[offsets_N[:-1][counts_N + around == 0]] = False
        out[inner] = ids_T
        return pa.ListArray.from_arrays(pa.array(offsets_N.astype(np.int32)), pa.array(out))


def splits_at_spaces(tokenizer: dict[str, Any]) -> bool:
    """Whether a tokenizer (its tokenizer.json) gives a word, with the space before it, the same
    ids in any text that `word_starts` splits there."""
    normalizers, pre_tokenizers = (
        _parts(tokenizer.get("normalizer")),
        _parts(tokenizer.get("pre_tokenizer")),
    )
    added = tokenizer.get("added_tokens") or []
    return (
        any(map(_splits, pre_tokenizers))
        and all(map(_ignores_spaces, normalizers))
        and not any(" " in token["content"] or token["rstrip"] for token in added)
    )


def _parts(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A step of the tokenizer, or each one of a sequence."""
    if part is not None:
        nested = part.get("normalizers") or part.get("pretokenizers")
        yield from (each for inner in nested for each in _parts(inner)) if nested else [part]


def _splits(part: dict[str, Any]) -> bool:
    """Whether this pre-tokenizer begins a new word at a space between letters."""
    kind = part["type"]
    if kind == "Metaspace":
        return bool(part.get("split", True))
    if kind == "Split":  # the pattern that byte-level BPE has: a space goes with what follows it
        return r"\s+(?!\S)" in part["pattern"].get("Regex", "")
    return kind in _PRE_TOKENIZERS or (kind == "ByteLevel" and bool(part.get("use_regex", True)))


def _ignores_spaces(part: dict[str, Any]) -> bool:
    """Whether this normalizer treats characters next to a single space as at the end of a text."""
    if part["type"] == "Strip":  # `word_starts` leaves nothing to strip at a word's end
        return not part["strip_left"]
    if part["type"] == "Replace":
        (kind, pattern), *_ = part["pattern"].items()
        if kind == "String":
            return len(pattern) == 1 and pattern != " "
        return (
            pattern == " {2,}"
            or re.fullmatch(r"\[([^\[\]^ \\]|\\[^sSWDP])+\]", pattern) is not None
        )
    return part["type"] in _NORMALIZERS


def _byte_table(*ranges: tuple[int, int]) -> NDArray[np.bool_]:
    """Which bytes lie in one of the ranges, ends included."""
    table = np.zeros(256, bool)
    for low, high in ranges:
        table[low : high + 1] = True
    return table


# First bytes in UTF-8 of blocks that hold nothing but letters, marks of their own and signs, no
# spaces and nothing that combines with what stands before: ASCII; Latin-1 and Extended-A letters,
# Greek, Cyrillic; Chinese, most of Hangul.
_ONE, _TWO, _THREE = (
    _byte_table((0x21, 0x7E)),
    _byte_table((0xC3, 0xC5), (0xCE, 0xD1)),
    _byte_table((0xE4, 0xE9), (0xEB, 0xEC)),
)
_FIRST = _ONE | _TWO | _THREE


def word_starts(content: NDArray[np.uint8], ends_N: Ints) -> NDArray[np.int64]:
    """Where words begin in the UTF-8 bytes of texts that end at ends_N, which begins with 0; and
    the end of all.

    Each text begins one, and each single space between two characters that no tokenizer takes for
    more than they are."""
    spaces = np.flatnonzero(content[1:-1] == _SPACE) + 1
    last, second, third = content[spaces - 1], content[spaces - 2], content[spaces - 3]
    trails = last & 0xC0 == 0x80
    before = _ONE[last] | (trails & (_TWO[second] | ((second & 0xC0 == 0x80) & _THREE[third])))
    inside = spaces[before & _FIRST[content[spaces + 1]]]
    begins = np.zeros(len(content) + 1, bool)
    begins[inside] = True
    begins[ends_N[1:] - 1] = False  # a space at a text's end, before another text
    begins[ends_N] = True
    return np.flatnonzero(begins)
