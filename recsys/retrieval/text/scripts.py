"""Writing systems: ranges of characters, folding of case, width, accents and vowel marks, and the
words of scripts without spaces.

The one place that knows Unicode blocks and the segmenters; everything else asks for a class of
characters, a folded text or the words of a run."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

#: Inside of a character class: Han with its iteration mark and zero.
HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
#: Inside of a character class: Han, kana and hangul, written without spaces between words.
CJK = f"{HAN}\u3040-\u30ff\uac00-\ud7af"

#: Inside of a character class: Thai, Lao, Myanmar and Khmer, written without spaces too.
SOUTHEAST_ASIAN = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"

_ITERATION_MARK = "\u3005"
_KANA = re.compile("[\u3040-\u30ff]")
_HAN_CHARACTER = re.compile(f"[{HAN}]")
_HAN_RUN = re.compile(f"[{HAN}]+")
_CJK_CHARACTER = re.compile(f"[{CJK}]")


def fold(text: str) -> str:
    """Case and width folded away: NFKC, then case folding. Accents stay."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # NFKC parts the Thai vowel am, which ICU's dictionary has whole.
    return folded.replace("\u0e4d\u0e32", "\u0e33")


def fold_marks(text: str) -> str:
    """A folded text without what writers of its script leave out as they please: accents of Latin
    and Greek letters, also of those that Unicode does not decompose (ø, ł, ß), the points of
    Hebrew, the vowel signs, tatweel and letter variants of Arabic and Persian, ё, joiners. Signs
    without which a word is another one stay: those of Indic scripts, the breve of й."""
    return text if text.isascii() else text.translate(_mark_table())


@lru_cache(maxsize=1)
def _mark_table() -> dict[int, str | None]:
    table: dict[int, str | None] = dict.fromkeys(
        [*range(0x300, 0x370), *range(0x591, 0x5C8), *range(0x610, 0x61B), *range(0x64B, 0x660)]
    )
    table |= dict.fromkeys([0x640, 0x670, *range(0x6D6, 0x6DD), 0xAD, 0x200C, 0x200D])
    del table[0x5BE]  # the Hebrew hyphen parts words
    for character in map(chr, [*range(0xC0, 0x400), *range(0x1E00, 0x2000)]):
        letters = unicodedata.normalize("NFD", character)
        if len(letters) > 1 and letters[0].isalpha():
            table[ord(character)] = letters[0]
    return table | {ord(letter): plain for letter, plain in _PLAIN_LETTERS.items()}


#: Letters that Unicode does not decompose, as those type them who do not have them; variants of
#: one letter in Arabic and Persian spelling.
_PLAIN_LETTERS = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ŧ": "t", "ŋ": "n", "þ": "th",
    "œ": "oe", "æ": "ae", "ё": "е", "ґ": "г",
    "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ی": "ي", "ئ": "ي", "ؤ": "و", "ة": "ه",
    "ک": "ك",
}  # fmt: skip


def is_han(text: str) -> bool:
    """Whether it is one run of Han characters."""
    return bool(_HAN_RUN.fullmatch(text))


@lru_cache(maxsize=1)
def mark_class() -> str:
    """Inside of a character class: marks, and the joiners between letters: they belong to words."""
    marks = (chr(code) for code in range(0x300, 0xABFF))
    return (
        "".join(mark for mark in marks if unicodedata.category(mark) in ("Mn", "Mc"))
        + "\u200c\u200d"
    )


def starts_with_han(text: str) -> bool:
    return bool(_HAN_CHARACTER.match(text))


def starts_with_cjk(text: str) -> bool:
    return bool(_CJK_CHARACTER.match(text))


def has_cjk(text: str) -> bool:
    return bool(_CJK_CHARACTER.search(text))


def is_korean(text: str) -> bool:
    """Whether a run of CJK characters is neither Chinese nor Japanese."""
    return not (is_han(text) or _KANA.search(text))


def segment(run: str) -> list[str]:
    """The words of a run of CJK characters: Chinese as jieba cuts it, Japanese (with kana or 々) as
    ICU's dictionary does; Korean, which has spaces, whole."""
    if len(run) < 2 or is_korean(run):
        return [run]
    is_chinese = is_han(run) and _ITERATION_MARK not in run
    return list(_segmenter().cut(run)) if is_chinese else list(dictionary_words(run, "ja"))


def dictionary_words(run: str, locale: str = "th") -> Iterator[str]:
    """The pieces of a run as ICU's dictionaries cut it, all of its characters in order; those of
    Thai, Lao, Khmer and Myanmar do not depend on the locale."""
    from icu4py.breakers import WordBreaker

    return (run[start:end] for start, end in WordBreaker(run, locale).segments())


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    """jieba with a dictionary of its own, loaded by the first Chinese text (1 s, 60 MB): words that
    others add to the one that jieba shares would change a release's bytes."""
    import jieba

    jieba.setLogLevel("ERROR")
    return jieba.Tokenizer()
