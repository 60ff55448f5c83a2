"""Scripts from literals: what is Han and CJK, what folding leaves, where a run is cut."""

from __future__ import annotations

import pytest

from recsys.retrieval.text.analysis import index_terms
from recsys.retrieval.text.scripts import fold, has_cjk, is_han, segment, starts_with_cjk
from recsys.understanding.phrases import mine_phrases


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("无线耳机", ["无线耳机"]),
        ("苹果数据线", ["苹果", "数据线"]),
        ("ワイヤレス", ["ワイヤレス"]),
        ("日本語です", ["日本語", "です"]),
        ("무선이어폰", ["무선이어폰"]),
        ("佐々木", ["佐々木"]),
        ("佐々木の鍋", ["佐々木", "の", "鍋"]),
        ("鍋", ["鍋"]),
        ("々", ["々"]),
    ],
)
def test_chinese_and_japanese_are_cut_into_words_and_korean_is_not(
    run: str, words: list[str]
) -> None:
    assert segment(run) == words


def test_a_name_with_an_iteration_mark_is_one_word_in_suggestions_and_in_the_index() -> None:
    assert mine_phrases({"佐々木": 3, "佐々木の鍋": 2}) == {"佐々木": 3, "佐々木の鍋": 2}
    assert index_terms("佐々木") == ["佐々木", "佐々", "々木"]


@pytest.mark.parametrize(
    ("text", "folded"),
    [("Ｆｕｌｌ WIDTH", "full width"), ("ﾎﾞｰﾙ", "ボール"), ("Straße", "strasse"), ("Café", "café")],
)
def test_case_and_width_fold_and_accents_stay(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_ranges() -> None:
    assert is_han("手機々〇𠮷")
    assert not any(map(is_han, ["", "手a", "かな", "한"]))
    assert all(map(starts_with_cjk, ["手", "か", "カ", "한", "々"]))
    assert not any(map(starts_with_cjk, ["", "a手", "é", "，"]))
    assert has_cjk("a手")
    assert not has_cjk("abc，")
