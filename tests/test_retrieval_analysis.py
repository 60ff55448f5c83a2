import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.retrieval.text.analysis import fold_fractions, index_terms, inflections, tokenize
from recsys.retrieval.text.scripts import fold_marks


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Drills & DRILL", ["drill", "drill"]),
        ("boxes batteries glass bus", ["box", "battery", "glass", "bus"]),
        ("men's", ["man"]),
        ("AB-123", ["ab", "123", "ab123"]),
        ("t-shirts", ["t", "shirt", "tshirt"]),
        ("1.5 1/2in 1,000", ["1.5", "1/2", "in", "1000"]),
        ("18V 12in. 5gal", ["18", "v", "12", "in", "5", "gal"]),
        ("2 inches, 3 Gallons", ["2", "in", "3", "gal"]),
        ("4x8 4 x 8", ["4", "8", "4", "8"]),
        ("iPhone X max", ["iphone", "x", "max"]),
        ("MK4x8", ["mk4x8"]),
        ("1½ in ¼", ["1", "1/2", "in", "1/4"]),
        ("Ｆｕｌｌ", ["full"]),
        ("手机", ["手机", "手机"]),
        ("连衣裙", ["连衣裙", "连衣", "衣裙"]),
        ("苹果手机x手", ["苹果", "苹果", "果手", "手机", "手机", "x", "手"]),
        ("ボール", ["ボール", "ボー", "ール"]),
        ("日本語です", ["日本語", "日本", "本語", "語で", "です", "です"]),
        ("휴대폰 한", ["휴대", "대폰", "한"]),
        ("जूते काले", ["जूते", "काले"]),
        ("น้ำหอม", ["น้ำหอม"]),
        ("ເກີບຜ້າໃບ ស្បែកជើងកីឡា", ["ເກີບ", "ຜ້າ", "ໃບ", "ស្បែកជើង", "កីឡា"]),
        ("Crème brûlée", ["creme", "brulee"]),
        ("İstanbul ISPARTA ısı", ["istanbul", "isparta", "isi"]),
        ("Łódź smørrebrød Đorđe Ærø", ["lodz", "smorrebrod", "dorde", "aero"]),
        ("كِتَاب کتاب أحمر", ["كتاب", "كتاب", "احمر"]),
        ("שָׁלוֹם ёлка", ["שלום", "елка"]),
        ("O'Brannock Men's 5'10", ["o", "brannock", "obrannock", "man", "5", "ft", "10"]),
        ("5\" 5”x7” 70's", ["5", "in", "5", "in", "7", "in", "70"]),
        ("5ft. x 7ft. 5 by 7 1'000", ["5", "ft", "7", "ft", "5", "7", "1", "000"]),
        ("iphone x 64 gb x3 stand by", ["iphone", "x", "64", "gb", "x3", "stand", "by"]),
        ("shelves", ["shelf"]),
        ("1,5 l 1.5l .5 inch", ["1.5", "l", "1.5", "l", "0.5", "in"]),
        ("1,000 W 1.000,5 1.000 10,20,30", ["1000", "w", "1000.5", "1.000", "10,20,30"]),
        ("4x8 M8 x 1.25", ["4", "8", "m8", "1.25"]),
        ("  !? ", []),
    ],
)
def test_words(text, terms):
    assert index_terms(text) == terms


def test_what_others_say_already_does_not_count():
    counting = {
        term.text: term.is_primary
        for token in tokenize("AB-123 苹果数据线")
        for term in token.terms
    }
    assert [text for text, is_primary in counting.items() if not is_primary] == [
        "ab123",
        "果数",
        "数据线",
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Men's ﬁne Boxes", ["Men", "ﬁne", "Boxes"]),
        ("Ｆｕｌｌ ½in", ["Ｆｕｌｌ", "½", "in"]),
        ("cafe\u0301s bar", ["cafe\u0301s", "bar"]),
        ("ﾎﾞｰﾙ", ["ﾎﾞｰﾙ", "ﾎﾞｰ", "ｰﾙ"]),
        ("รองเท้าผ้าใบสีดำ", ["รองเท้า", "ผ้าใบ", "สี", "ดำ"]),
        ("L\u2019Aurelle d'olive", ["L", "Aurelle", "L\u2019Aurelle", "d", "olive", "d'olive"]),
        ("सूती कुर्ता", ["सूती", "कुर्ता"]),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", ["\u1112\u1161\u11ab\u1100\u1173\u11af"]),
        ("🎧手机", ["手机", "手机"]),
    ],
)
def test_places_are_those_of_the_text_as_it_came(text, pieces):
    assert [
        text[term.start : term.end] for token in tokenize(text) for term in token.terms
    ] == pieces


ODD = st.text(
    st.sampled_from(
        "aZ1 -.'½x手机壳日のﾎﾞ한\u1112\u1161\u11ab\u0301İßﬁ𝟙㍍\u0fb2\u0f71\u0f80\u09c7\u09be"
    )
)


@given(st.one_of(st.text(), ODD))
def test_both_walks_find_the_same_terms(text):
    found = [term for token in tokenize(text) for term in token.terms]
    assert [term.text for term in found] == index_terms(text)
    assert all(0 <= term.start < term.end <= len(text) for term in found)
    pieces = [fold_marks(fold_fractions(text[term.start : term.end])) for term in found]
    firsts = [(term.text.removeprefix("0") or "0")[0] for term in found]  # .5 is 0.5
    assert all(
        first in piece or piece[0] in "\"'”“′’"  # 5" is 5 in
        for first, piece in zip(firsts, pieces, strict=True)
    )


@pytest.mark.parametrize(
    ("word", "others"),
    [("paint", "painted painter painting"), ("cutting", "cut cutter"), ("wire", "wiring wired"),
     ("wiring", "wire"),
     ("heater", "heat heating heated"), ("trimmer", "trim trimming")],
)  # fmt: skip
def test_inflections_hold_the_real_words(word, others):
    assert set(others.split()) <= set(inflections(word))
    assert word not in inflections(word)


@pytest.mark.parametrize("word", ["cut", "ab12", "手机手机", "café", ""])
def test_only_english_words_inflect(word):
    assert inflections(word) == ()


WIDE = {narrow: narrow + 0xFEE0 for narrow in range(0x21, 0x7F)}


@given(st.text(st.characters(max_codepoint=126)))
def test_case_and_width_do_not_matter(text):
    assert (
        index_terms(text.upper()) == index_terms(text.lower()) == index_terms(text.translate(WIDE))
    )


def test_the_chinese_dictionary_waits_for_chinese_and_is_silent():
    code = (
        "import sys\nfrom recsys.retrieval.text.analysis import index_terms\n"
        "index_terms('drill ボール')\nassert 'jieba' not in sys.modules\n"
        "print(index_terms('手机壳'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="."
    )
    assert (done.stdout.strip(), done.stderr) == (str(index_terms("手机壳")), "")
