"""Text analysis: text to index terms, the same for items and queries, in any language, with the
character offsets of each term."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from recsys.retrieval.text.negations import find_negations
from recsys.retrieval.text.quantities import (
    FOOT_MARK,
    INCH_MARK,
    NormalForm,
    find_quantities,
    plain_number,
)
from recsys.retrieval.text.scripts import (
    CJK,
    SOUTHEAST_ASIAN,
    dictionary_words,
    fold,
    fold_marks,
    is_korean,
    mark_class,
    segment,
    starts_with_cjk,
)

_UNSPACED = f"{CJK}{SOUTHEAST_ASIAN}"
_NUMBER = r"(?:(?<![\w.])\.\d+|\d+(?:[.,/]\d+)*)"
_LETTER = rf"[^\W\d_{_UNSPACED}]"
_POSSESSIVE = r"['’]s\b"
_INCHES, _FEET = rf"(?<=\d){INCH_MARK}", rf"(?<=\d){FOOT_MARK}"
#: 4x8, 4 by 8, 4 ft. x 8 ft.: two numbers.
_BY = (
    r"(?:(?<=[\d\"”'′’])|(?<=ft|in|cm|mm|yd)|(?<=[\d ]m)|(?<=inch|feet))"
    r"\.?\s*(?:x|by)\s*(?=[\d.])"
)
#: Between the parts of a compound: O'Brannock too, but not 5'10.
_JOINT = rf"(?:[-_]|(?!{_POSSESSIVE})(?<=[^\W\d_])['’ʼ](?=[^\W\d_]))"
_PART = re.compile("[^-_'’ʼ]+")


def _token_pattern(inner: str) -> re.Pattern[str]:
    """Tokens, of whose words `inner` matches a character after the first."""
    word = rf"(?:{_NUMBER}|{_LETTER}{inner}*)"
    return re.compile(
        rf"{_POSSESSIVE}|{_BY}|([{CJK}]+)|([{SOUTHEAST_ASIAN}]+)|({word}(?:{_JOINT}{word})*)"
        rf"|({_INCHES})|({_FEET})"
    )


_TOKEN = _token_pattern(rf"[^\W_{_UNSPACED}]")
_MARK = re.compile(f"[{mark_class()}]")
#: Three times slower, for texts with marks.
_TOKEN_WITH_MARKS = _token_pattern(rf"(?:[^\W_{_UNSPACED}]|{_MARK.pattern})")
_FRACTION = re.compile("[¼-¾⅐-⅞]")

#: Units of measure as Home Depot's titles write them: there the long and the short form are the
#: same word.
UNITS = {
    "inch": "in",
    "inche": "in",
    "foot": "ft",
    "feet": "ft",
    "yard": "yd",
    "square": "sq",
    "cubic": "cu",
    "gallon": "gal",
    "quart": "qt",
    "ounce": "oz",
    "pound": "lb",
    "volt": "v",
    "watt": "w",
    "ampere": "amp",
    "piece": "pc",
    "pack": "pk",
}

#: English nouns whose plural no suffix rule finds.
IRREGULAR_PLURALS = {
    "shelves": "shelf", "knives": "knife", "leaves": "leaf", "loaves": "loaf", "halves": "half",
    "scarves": "scarf", "wolves": "wolf", "calves": "calf", "men": "man", "women": "woman",
    "children": "child", "teeth": "tooth", "geese": "goose", "mice": "mouse",
}  # fmt: skip


class Term(NamedTuple):
    """An index term and its character offsets. `is_primary` is false where other terms of the text
    say the same already: the joined form of AB-123, a Chinese word beside its bigrams, a bigram
    across two words."""

    text: str
    start: int
    end: int
    is_primary: bool = True


class Token(NamedTuple):
    """A word: its stem (of a compound, the parts joined), its folded form, its index terms, and its
    spelling, in lower case with the accents and marks that it came with."""

    stem: str
    folded: str
    terms: tuple[Term, ...]
    spelling: str

    @property
    def is_cjk(self) -> bool:
        return starts_with_cjk(self.folded)


def index_terms(text: str) -> list[str]:
    """The index terms of a text, items' and queries' alike, in order, repeats kept.

    Case, width, accents and vowel marks are folded, plurals stemmed, units of measure shortened;
    1.5 and 1/2 stay whole, 1,5 is 1.5, .5 is 0.5 and 1,000 is 1000; 12in gives 12 and in, 4x8 gives
    4 and 8; AB-123 gives ab, 123 and ab123.
    A run of Chinese or Japanese gives its words and its character bigrams, one of Korean its
    bigrams; a character that stands alone gives itself. One of Thai, Lao, Khmer or Myanmar gives
    its words."""
    return [term.text for token in index_tokens(text) for term in token.terms]


def index_tokens(text: str) -> Iterator[Token]:
    """The words of a text in order; their offsets are of no use."""
    return (token for token, _ in _tokens(fold_fractions(text)))


def tokenize(text: str) -> list[Token]:
    """The words of a text in order; offsets are those of the text as it came, before folding."""
    folded, starts, ends = _fold_with_offsets(text)
    return [
        _with_original_offsets(token, offset, starts, ends) for token, offset in _tokens(folded)
    ]


def index_normal_forms(text: str) -> list[str]:
    """Index terms beside the words of a text: the normal forms of its quantities and negations."""
    return [each.text for each in _normal_forms(fold_fractions(text))] if text else []


def normal_forms_of(text: str) -> list[NormalForm]:
    """The quantities and negations of a text; offsets are those of the text as it came, before
    folding."""
    folded, starts, ends = _fold_with_offsets(text)
    return [
        form._replace(start=starts[form.start], end=ends[form.end - 1])
        for form in _normal_forms(folded)
    ]


def _normal_forms(folded: str) -> list[NormalForm]:
    return find_quantities(folded) + find_negations(folded)


def fold_fractions(text: str) -> str:
    """`fold`, with ½ as " 1/2"."""
    if text.isascii():
        return text.lower()
    return fold(_FRACTION.sub(r" \g<0>", text)).replace("\u2044", "/")


def _fold_with_offsets(text: str) -> tuple[str, list[int], list[int]]:
    """`fold_fractions`, and for each of its characters the offsets in the text, start and end, of
    what it was folded from."""
    if text.isascii():
        return text.lower(), list(range(len(text))), list(range(1, len(text) + 1))
    pieces, starts, ends = [], [], []
    for low, high in _clusters(text):
        pieces.append(fold_fractions(text[low:high]))
        starts += [low] * len(pieces[-1])
        ends += [high] * len(pieces[-1])
    return "".join(pieces), starts, ends


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Ranges of characters that NFKC changes independently of their neighbours."""
    low = 0
    for index in range(1, len(text)):
        if not _continues(text[index]):
            yield low, index
            low = index
    if text:
        yield low, len(text)


@lru_cache(maxsize=10_000)
def _continues(character: str) -> bool:
    """Whether it is a mark, or a Korean vowel or final consonant, which NFKC may compose with the
    character before it."""
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"


def _with_original_offsets(token: Token, offset: int, starts: list[int], ends: list[int]) -> Token:
    terms = [
        Term(text, starts[offset + start], ends[offset + end - 1], is_primary)
        for text, start, end, is_primary in token.terms
    ]
    return Token(token.stem, token.folded, tuple(terms), token.spelling)


def _tokens(folded: str) -> Iterator[tuple[Token, int]]:
    """Each token with where the text begins that its terms' offsets are of."""
    pattern = _TOKEN_WITH_MARKS if not folded.isascii() and _MARK.search(folded) else _TOKEN
    for match in pattern.finditer(folded):
        run, southeast_asian, compound, inches, feet = match.groups()
        if compound:
            yield _compound_token(compound), match.start()
        elif run:
            yield from ((token, match.start()) for token in _cjk_tokens(run))
        elif southeast_asian:
            yield from (
                (token, match.start()) for token in _southeast_asian_tokens(southeast_asian)
            )
        elif inches or feet:
            unit = "in" if inches else "ft"
            yield Token(unit, unit, (Term(unit, 0, len(match[0])),), unit), match.start()


@lru_cache(maxsize=100_000)
def _compound_token(compound: str) -> Token:
    folded = fold_marks(compound)
    parts = [] if compound.isalnum() else list(_PART.finditer(compound))
    if len(parts) < 2:
        stem = s_stem(folded)
        return Token(stem, folded, (Term(stem, 0, len(compound)),), compound)
    joined = "".join(_PART.findall(folded))
    terms = [Term(s_stem(fold_marks(part.group())), part.start(), part.end()) for part in parts]
    whole = Term(s_stem(joined), 0, len(compound), is_primary=False)
    return Token(whole.text, joined, (*terms, whole), "".join(part.group() for part in parts))


def _southeast_asian_tokens(run: str) -> Iterator[Token]:
    low = 0
    for word in dictionary_words(run):
        high = low + len(word)
        if any(map(str.isalnum, word)):
            yield Token(word, word, (Term(word, low, high),), word)
        low = high


def _cjk_tokens(run: str) -> Iterator[Token]:
    low = 0
    for word in segment(run):
        yield Token(word, word, tuple(_cjk_terms(run, low, low + len(word))), word)
        low += len(word)


def _cjk_terms(run: str, low: int, high: int) -> Iterator[Term]:
    """The word run[low:high] where the run is not Korean, or one character, and the bigrams that
    begin in it."""
    if len(run) == 1 or not is_korean(run):
        yield Term(run[low:high], low, high, is_primary=high - low < 3)
    for start in range(low, min(high, len(run) - 1)):
        yield Term(run[start : start + 2], start, start + 2, is_primary=start + 2 <= high)


@lru_cache(maxsize=100_000)
def s_stem(word: str) -> str:
    """The S-stemmer (Harman, How effective is suffixing?, JASIS 1991), which here removes -es after
    sibilants too; then `UNITS`. Numbers in one spelling."""
    if not word[:1].isalpha():
        return plain_number(word)
    if word in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[word]
    if (
        len(word) > 3
        and word.isalpha()
        and word.endswith("s")
        and not word.endswith(("ss", "us", "is"))
    ):
        if word.endswith("ies"):
            word = word[:-3] + "y"
        else:
            word = word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]
    return UNITS.get(word, word)


_ENDINGS = ("ing", "ed", "er")


@lru_cache(maxsize=10_000)
def inflections(stem: str) -> tuple[str, ...]:
    """An English word with -ing, -ed or -er added, removed or exchanged, sorted, real words or not.

    Stemming these endings away for good costs recall; as alternatives of less weight they gain
    some."""
    if len(stem) < 4 or not (stem.isascii() and stem.isalpha()):
        return ()
    bases = {stem}
    for bare in (stem.removesuffix(ending) for ending in _ENDINGS if stem.endswith(ending)):
        bases |= {bare, bare + "e", bare[:-1] if bare[-1:] == bare[-2:-1] else bare}
    bases = {base for base in bases if len(base) > 2}
    forms = {base.removesuffix("e") + ending for base in bases for ending in _ENDINGS}
    doubled = {
        base + base[-1] + ending
        for base in bases
        if base[-1] not in "aeiouwxy"
        for ending in _ENDINGS
    }
    return tuple(sorted((bases | forms | doubled) - {stem}))
