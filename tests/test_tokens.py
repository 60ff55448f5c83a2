"""Words tokenised once give the tokenizer's own ids, whatever the texts; rows hold each token
once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.encoders import minilm, multilingual_e5
from recsys.encoders.batching import pack_sequences, random_tokens
from recsys.encoders.tokens import WordTokenizer, splits_at_spaces, word_starts
from recsys.errors import NotFoundError

MAX = 12


def bytelevel() -> Any:
    """A byte-level BPE, where a space belongs to the word that follows, trained on a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = [
        "a red drill and a blue saw, the saw's blade",
        "grün größer Säge saw-blade 12V 12 V",
    ] * 5
    tokenizer.train_from_iterator(
        words,
        trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )
    return tokenizer


def tokenizer(name: str) -> Any:
    if name == "bytelevel":
        return bytelevel()
    try:
        return {"wordpiece": minilm, "unigram": multilingual_e5}[name]()._read_tokenizer()
    except NotFoundError as error:
        pytest.skip(str(error))


def reference(name: str, most: int) -> Callable[[list[str]], list[list[int]]]:
    whole = tokenizer(name)
    whole.no_padding()
    whole.enable_truncation(most)
    return lambda texts: [each.ids or [0] for each in whole.encode_batch_fast(texts)]


PIECES = st.sampled_from(
    [
        " ",
        "  ",
        "a",
        "B",
        "saw",
        "saw's",
        "12V",
        "é",
        "ß",
        "Ж",
        "手机",
        "한국어",
        "カ",
        "™",
        "²",
        "½",
        "😀",
        "👍🏽",
        "[SEP]",
        "</s>",
        "<mask>",
        "▁",
        "-",
        ",",
        "“",
        "ﬁ",
        "΄",
        *list("\t\n\x00\x07\xa0́\u200b\u3000ﾞ\ufeff"),
    ]
)
TEXTS = st.lists(st.lists(PIECES | st.characters(), max_size=25).map("".join), max_size=6)


@pytest.mark.parametrize("name", ["wordpiece", "unigram", "bytelevel"])
def test_any_texts_get_the_tokenizer_s_own_ids(name: str) -> None:
    ours, theirs = WordTokenizer(tokenizer(name), MAX, 0), reference(name, MAX)
    assert ours._by_word

    @settings(max_examples=200, deadline=None)
    @given(TEXTS)
    def check(texts: list[str]) -> None:
        texts = [text.encode("utf-8", "replace").decode() for text in texts]
        assert ours(texts).to_pylist() == theirs(texts)

    check()


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["wordpiece", "unigram"])
def test_every_text_of_every_data_set_gets_the_tokenizer_s_own_ids(name: str) -> None:
    folder = Path(os.environ.get("NIGHTSHELF_DATA", ""))
    texts = sorted(
        {text for path in folder.glob("*/*.parquet") for text in strings(path)}
        if folder.name
        else ()
    )
    if not texts:
        pytest.skip("no data sets: set NIGHTSHELF_DATA")
    ours, theirs = WordTokenizer(tokenizer(name), 64, 0), reference(name, 64)
    for start in range(0, len(texts), 16_384):
        some = texts[start : start + 16_384]
        assert ours(some).to_pylist() == theirs(some)


def strings(path: Path) -> set[str]:
    table = pq.read_table(path)
    kinds = (pa.types.is_string, pa.types.is_large_string)
    names = [field.name for field in table.schema if any(kind(field.type) for kind in kinds)]
    return {text for name in names for text in table[name].unique().to_pylist() if text}


def test_a_tokenizer_that_looks_past_a_space_is_asked_for_whole_texts() -> None:
    config = json.loads(bytelevel().to_str())
    assert splits_at_spaces(config)
    assert not splits_at_spaces(config | {"pre_tokenizer": None})
    assert not splits_at_spaces(config | {"normalizer": {"type": "Prepend", "prepend": "▁"}})
    spaces = {"type": "Replace", "pattern": {"Regex": r"\s"}, "content": ""}
    assert not splits_at_spaces(
        config | {"normalizer": {"type": "Sequence", "normalizers": [spaces]}}
    )
    mark = {"content": "<x>", "rstrip": True}
    assert not splits_at_spaces(config | {"added_tokens": [mark]})
    whole = bytelevel()
    whole.pre_tokenizer = None
    ours = WordTokenizer(whole, MAX, 0)
    texts = ["a red saw", "a red saw", ""]
    assert not ours._by_word
    assert ours(texts).to_pylist() == [
        each.ids[:MAX] or [0] for each in whole.encode_batch_fast(texts)
    ]


def test_words_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.encoders.tokens.CACHE_WORDS", 5)
    ours = WordTokenizer(bytelevel(), MAX, 0)
    for texts in (["a red saw", "a saw"], ["blue drill"], ["a red saw"]):
        assert ours(texts).to_pylist() == reference("bytelevel", MAX)(texts)
        assert len(ours._numbers) <= 5


def test_texts_are_cut_at_single_spaces_between_letters_alone() -> None:
    texts = ["ab cd  e", "", " f g ", "ж é", "k \u0301l"]
    content = "".join(texts).encode()
    ends = np.cumsum([0, *(len(text.encode()) for text in texts)])
    actual = word_starts(np.frombuffer(content, np.uint8), ends)
    words = [content[low:high].decode() for low, high in pairwise(actual)]
    assert words == ["ab", " cd  e", " f", " g ", "ж", " é", "k \u0301l"]


def test_rows_hold_each_text_once_and_nothing_of_another() -> None:
    tokens = random_tokens(30, 1000)
    ids, lengths = tokens.flatten().to_numpy(), tokens.value_lengths().to_numpy().astype(np.int64)
    seen = []
    for start, stop, row in pack_sequences(ids, lengths, 128):
        assert row.shape == (3, 128)
        used = lengths[start:stop].sum()
        for text, begin in zip(
            range(start, stop), np.cumsum(lengths[start:stop]) - lengths[start:stop], strict=True
        ):
            end = begin + lengths[text]
            assert row[0, begin:end].tolist() == tokens[text].as_py()
            assert (row[1, begin:end] == begin).all()
            assert (row[2, begin:end] == end).all()
        assert (row[1, used:] == np.arange(used, 128)).all()
        assert (row[2, used:] == row[1, used:] + 1).all()
        seen += range(start, stop)
    assert seen == list(range(len(tokens)))
    with pytest.raises(ValueError, match="raise row_tokens"):
        next(pack_sequences(ids, lengths, 8))
