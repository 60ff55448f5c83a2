"""Writing systems: ranges of CJK characters, case and width folding, Chinese word segmentation.

The one place that knows Unicode blocks and the segmenter; everything else asks for a class of
characters, a folded text or the words of a run."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

#: Inside of a character class: Han with its iteration mark and zero.
HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
#: Inside of a character class: Han, kana and hangul, written without spaces between words.
CJK = f"{HAN}\u3040-\u30ff\uac00-\ud7af"

_ITERATION_MARK = "\u3005"
_HAN_CHARACTER = re.compile(f"[{HAN}]")
_HAN_RUN = re.compile(f"[{HAN}]+")
_CJK_CHARACTER = re.compile(f"[{CJK}]")


def fold(text: str) -> str:
    """Case and width folded away: NFKC, then case folding. Accents stay."""
    return unicodedata.normalize("NFKC", text).casefold()


def is_han(text: str) -> bool:
    """Whether it is one run of Han characters."""
    return bool(_HAN_RUN.fullmatch(text))


def starts_with_han(text: str) -> bool:
    return bool(_HAN_CHARACTER.match(text))


def starts_with_cjk(text: str) -> bool:
    return bool(_CJK_CHARACTER.match(text))


def has_cjk(text: str) -> bool:
    return bool(_CJK_CHARACTER.search(text))


def segment(run: str) -> list[str]:
    """The words of a run of CJK characters: Chinese as jieba cuts it; Japanese and Korean, which
    jieba has no words for, whole. 々 is Japanese: 佐々木 is one name."""
    is_chinese = is_han(run) and _ITERATION_MARK not in run
    return list(_segmenter().cut(run)) if len(run) > 1 and is_chinese else [run]


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    """jieba with a dictionary of its own, loaded by the first Chinese text (1 s, 60 MB): words that
    others add to the one that jieba shares would change a release's bytes."""
    import jieba

    jieba.setLogLevel("ERROR")
    return jieba.Tokenizer()
