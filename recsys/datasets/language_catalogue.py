"""A catalogue of things in many languages with the words that must find them, made from word lists:
the same one every time.

Titles are names of things with some of their keywords, as Unicode's committee for each language
wrote them. What a query must find follows from the lists alone, not from the text analysis that is
measured."""

from __future__ import annotations

import json
import random
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from recsys.datasets.word_lists import DICTIONARIES, WordForms, base_letters, picture_names

LANGUAGES = (*DICTIONARIES, "hi", "th", "ja")
#: Written without spaces.
UNSPACED = ("th", "ja")
COMPOUNDING = ("de", "hu", "nl", "sv")
KINDS = ("exact", "inflected", "without_accents", "typo", "compound_part")
ITEMS_A_LANGUAGE = 134
#: A query may be answered by so many items at most: recall@10 can be 1.
MAX_RELEVANT = 10
_VERSION = 2
#: Blocks of Unicode's pictures with food, clothes, tools, furniture, toys, plants, animals.
_THINGS = (
    *((0x1F32D, 0x1F393), (0x1F3A0, 0x1F3C0), (0x1F400, 0x1F440), (0x1F451, 0x1F463)),
    *((0x1F484, 0x1F490), (0x1F4A1, 0x1F4FF), (0x1F526, 0x1F52E), (0x1F56F, 0x1F5C4)),
    *((0x1F680, 0x1F6B5), (0x1F6CB, 0x1F6FF), (0x1F941, 0x1F97F), (0x1F980, 0x1F9CC)),
    *((0x1F9E0, 0x1FA00), (0x1FA70, 0x1FAB0), (0x1FAD0, 0x1FAE0), (0x2692, 0x269A)),
)
_PLAIN = str.maketrans({"ł": "l", "ø": "o", "ß": "ss", "ı": "i", "đ": "d", "æ": "ae", "œ": "oe"})


@dataclass(frozen=True, kw_only=True)
class LanguageQuery:
    """A query of one kind and the rows that it must find; `word` is the title's own."""

    language: str
    kind: str
    text: str
    word: str
    rows: tuple[int, ...]

    @property
    def split(self) -> str:
        """valid (a third) or test, by the title's word."""
        return "valid" if sha256(self.word.encode()).digest()[0] < 85 else "test"


@dataclass(frozen=True)
class LanguageCatalogue:
    titles: list[str]
    languages: list[str]
    queries: list[LanguageQuery]


def read_language_catalogue(cache: Path, seed: int = 0) -> LanguageCatalogue:
    """From the cache folder, made there by the first call (a minute).

    Raises NotFoundError where a package of word lists is missing."""
    file = cache / f"catalogue-{_VERSION}-{seed}.json"
    if not file.is_file():
        catalogue = _make(cache, seed)
        file.write_text(json.dumps(asdict(catalogue), ensure_ascii=False), encoding="utf-8")
    content = json.loads(file.read_text(encoding="utf-8"))
    queries = [LanguageQuery(**{**q, "rows": tuple(q["rows"])}) for q in content.pop("queries")]
    return LanguageCatalogue(**content, queries=queries)


@dataclass(frozen=True)
class _Thing:
    """An item: its name and keywords, whose words are matched without case."""

    language: str
    name: str
    keywords: tuple[str, ...]

    @property
    def title(self) -> str:
        joint = "" if self.language in UNSPACED else " "
        text = joint.join((self.name, *self.keywords))
        return text[:1].upper() + text[1:]

    @property
    def name_words(self) -> list[str]:
        if self.language in UNSPACED:
            return [self.name, *self.keywords]
        return [word for word in map(_stripped, self.name.split()) if _is_word(word)]

    @property
    def words(self) -> set[str]:
        texts = (self.name, *self.keywords)
        every = {_stripped(word).casefold() for text in texts for word in text.split()}
        return every | {text.casefold() for text in texts}


def _make(cache: Path, seed: int) -> LanguageCatalogue:
    things = [thing for language in LANGUAGES for thing in _things(language, cache, seed)]
    rows_of: dict[str, set[int]] = defaultdict(set)
    for row, thing in enumerate(things):
        for word in thing.words:
            rows_of[word].add(row)
    queries: list[LanguageQuery] = []
    for language in LANGUAGES:
        rng = random.Random(f"{seed} {language}")
        of_language = {row: t for row, t in enumerate(things) if t.language == language}
        maker = _QueryMaker(language, of_language, rows_of, WordForms(language, cache), rng)
        queries += maker.queries()
    return LanguageCatalogue([t.title for t in things], [t.language for t in things], queries)


def _things(language: str, cache: Path, seed: int) -> Iterator[_Thing]:
    rng = random.Random(f"{seed} {language}")
    pool = [
        (name, keywords)
        for character, name, keywords in picture_names(language, cache)
        if len(character) == 1 and any(low <= ord(character) < high for low, high in _THINGS)
    ]
    for name, keywords in rng.sample(pool, ITEMS_A_LANGUAGE):
        others = sorted({word for word in keywords if word.casefold() not in name.casefold()})
        yield _Thing(language, name, tuple(rng.sample(others, min(2, len(others)))))


class _QueryMaker:
    """The queries of one language; `rows_of` are the rows of each word in any language: whoever
    has the query's very word is right, too."""

    def __init__(
        self,
        language: str,
        things: Mapping[int, _Thing],
        rows_of: Mapping[str, set[int]],
        forms: WordForms,
        rng: random.Random,
    ) -> None:
        self._language, self._things, self._rows_of = language, things, rows_of
        self._forms, self._rng = forms, rng
        words = {word for thing in things.values() for word in thing.name_words}
        self._words = sorted(word for word in words if not forms.is_function_word(word))
        self._letters = sorted({letter for word in words for letter in word.casefold()} - {" "})

    def queries(self) -> list[LanguageQuery]:
        makers = {
            "exact": lambda word: word.casefold(),
            "inflected": self._inflected,
            "without_accents": self._without_accents,
            "typo": self._typo,
        }
        made = [
            self._query(kind, text, word)
            for kind, maker in makers.items()
            for word in self._words
            if (text := maker(word))
        ]
        return [query for query in (*made, *self._compound_parts()) if query is not None]

    def _query(
        self, kind: str, text: str, word: str, rows: Iterable[int] = ()
    ) -> LanguageQuery | None:
        own = {row for row, thing in self._things.items() if word.casefold() in thing.words}
        relevant = sorted({*own, *rows, *self._rows_of.get(text, ())})
        if len(relevant) > MAX_RELEVANT:
            return None
        return LanguageQuery(
            language=self._language, kind=kind, text=text, word=word, rows=tuple(relevant)
        )

    def _inflected(self, word: str) -> str | None:
        """One of the three most frequent forms."""
        forms = self._forms.inflected(word)
        return self._rng.choice(forms[:3]).casefold() if forms else None

    def _without_accents(self, word: str) -> str | None:
        if self._language == "hi" or self._language in UNSPACED:
            return None
        plain = _without_marks(word.casefold())
        return plain if plain != word.casefold() else None

    def _typo(self, word: str) -> str | None:
        """One edit of a word of five letters or more that makes no other word."""
        if len(word) < 5 or self._language in UNSPACED:
            return None
        edits = [partial(_edited, word.casefold(), self._letters, self._rng) for _ in range(9)]
        typed = (edit() for edit in edits)
        fine = (t for t in typed if t != word.casefold() and not self._is_word(t))
        return next(fine, None)

    def _is_word(self, text: str) -> bool:
        return text in self._rows_of or self._forms.has(text) or self._forms.is_used(text)

    def _compound_parts(self) -> Iterator[LanguageQuery | None]:
        if self._language not in COMPOUNDING:
            return
        whole: dict[str, set[str]] = defaultdict(set)
        for word in self._words:
            if last := self._last_part(word.casefold()):
                whole[last].add(word.casefold())
        for part, words in sorted(whole.items()):
            rows = [r for r, thing in self._things.items() if thing.words & words]
            yield self._query("compound_part", part, part, rows)

    def _last_part(self, word: str) -> str | None:
        """The longest noun that the word ends with, another word before it, with or without a
        linking s, n or en."""
        for cut in range(3, len(word) - 3):
            head, last = word[:cut], word[cut:]
            heads = (head, *(head.removesuffix(link) for link in ("s", "n", "en", "-")))
            if self._has(last) and any(len(h) > 2 and self._has(h) for h in heads):
                return last
        return None

    def _has(self, word: str) -> bool:
        return self._forms.has(word.capitalize() if self._language == "de" else word)


def _edited(word: str, letters: Sequence[str], rng: random.Random) -> str:
    """The word with a letter more, less, another, or two in exchanged order; the first stays."""
    at = rng.randrange(1, len(word) - 1)
    letter, rest = rng.choice(letters), word[at + 1 :]
    middle = rng.choice((letter + word[at], "", letter, rest[0] + word[at]))
    swapped = len(middle) == 2 and middle[0] == rest[0] and middle[1] == word[at]
    return word[:at] + middle + (rest[1:] if swapped else rest)


def _without_marks(word: str) -> str:
    """As those type it who do not have the letters; й is no accented и."""
    parts = (c if c == "й" else unicodedata.normalize("NFD", c)[0] for c in word.translate(_PLAIN))
    return "".join(parts)


def _stripped(word: str) -> str:
    return word.strip(",.:;!?()[]\"'’“”„«»-–")


def _is_word(word: str) -> bool:
    return len(word) > 2 and all(map(str.isalpha, base_letters(word)))
