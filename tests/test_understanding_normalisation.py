import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.understanding.normalisation import MAX_CHARACTERS, language_by_script, normalise


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("", ""),
        ("  cordless\t drill \n", "cordless drill"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", "Full width"),
        ("dri\u200bll\ufeff", "drill"),
        ("\x00\x01\x1b", ""),
        ("a\x00b", "a b"),
        ("🔨🔧", ""),
        ("red🔨drill", "red drill"),
        ("1️⃣ 👍🏽", "1"),
        ("👨\u200d👩\u200d👧 🇫🇷", ""),
        ("1½ in", "1 1/2 in"),
        ("¾", "3/4"),
        ("90° elbow", "90° elbow"),
        ("e\u200d\u0301", "é"),
        ("\ud800x", "x"),
        ("无线耳机，￥100", "无线耳机,¥100"),
        ("<b>drill</b>'; DROP TABLE items;--", "<b>drill</b>'; DROP TABLE items;--"),
    ],
)
def test_normal(typed, text):
    assert normalise(typed) == text


def test_a_long_text_is_cut_after_a_word():
    cut = normalise("drill bits " * 1000)
    assert len(cut) <= MAX_CHARACTERS
    assert set(cut.split()) == {"drill", "bits"}
    assert normalise("x" * 10_000) == "x" * MAX_CHARACTERS
    assert len(normalise("\ufdfa" * 10_000)) <= MAX_CHARACTERS  # NFKC makes 18 characters of each


@given(st.text())
def test_normal_text_is_clean_and_stays(text):
    once = normalise(text)
    assert normalise(once) == once
    assert not any(unicodedata.category(character)[0] == "C" for character in once)
    assert once == once.strip()
    assert len(once) <= MAX_CHARACTERS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cordless drill", "en"),
        ("café", "en"),
        ("2-1/2", "en"),
        ("购买一款好用的耳机", "zh"),
        ("华为 Mate 手机壳", "mixed"),
        ("سماعات لاسلكية", "other"),
        ("наушники", "other"),
        ("イヤホン", "other"),
        ("이어폰", "other"),
        ("日本語のテキスト", "zh"),
        ("🔨 !?", "none"),
        ("", "none"),
    ],
)
def test_language(text, expected):
    assert language_by_script(text) == expected
