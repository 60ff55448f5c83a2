"""The encoding of a text file's bytes, and the bytes as UTF-8."""

from __future__ import annotations

import codecs
import re
import unicodedata

import numpy as np
import pyarrow as pa

from recsys.errors import InputError

_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
#: What shops' programs write that do not write Unicode. Of 25 code pages and languages, titles of
#: 3 products of each, charset-normalizer read 36 % wrong, uchardet 17 %, chardet on this list 1 %.
_LEGACY = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874"),
    *("gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949"),
    *("koi8-r", "mac-roman", "cp850", "iso8859-2"),
)
_SAMPLE_BYTES = 200_000
_VALID = re.compile(
    rb"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})+"
)
_BEYOND_ASCII = re.compile(rb"[^\r\n,;\t|]*[\x80-\xff][^\r\n,;\t|]*")
#: Controls, and Latin letters beside Greek, Cyrillic, Hebrew, Arabic or Indic ones.
_CONTROL_OR_MIXED = re.compile(r"[\x80-\x9f]|[A-Za-z][\u0370-\u0fff]|[\u0370-\u0fff][A-Za-z]")
_INSIDE_WORD = re.compile(r"(?<=[^\W\d_])[^\w\s\x00-\x7f’‘´`·‐‑–—/®™](?=[^\W\d_])")


def detect_encoding(data: bytes, path: str) -> str:
    """Python's name of the encoding: UTF-8 unless a mark, zero bytes or invalid bytes say not.

    Raises InputError where the texts beyond ASCII are too few to tell two encodings apart."""
    for mark, encoding in _BOMS.items():
        if data.startswith(mark):
            return encoding
    if utf16 := _utf16(data[:_SAMPLE_BYTES]):
        return utf16
    if is_utf8(data) or _is_mostly_utf8(data):
        return "utf-8"
    return _legacy_encoding(data, path)


def to_utf8(data: bytes, encoding: str) -> tuple[bytes, bool]:
    """The text as UTF-8 without a mark, and whether a byte was none of the encoding's: it becomes
    U+FFFD.

    Raises LookupError for an encoding that Python has not."""
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig") and is_utf8(data):
        return data.removeprefix(codecs.BOM_UTF8), False
    try:
        text, damaged = data.decode(encoding), False
    except UnicodeDecodeError:
        text, damaged = data.decode(encoding, "replace"), True
    return text.removeprefix("\ufeff").encode("utf-8", "replace"), damaged


def is_utf8(data: bytes) -> bool:
    """By Arrow, which checks some GB a second and makes no copy."""
    offsets = pa.py_buffer(np.array([0, len(data)]))
    binary = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)])
    try:
        binary.cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _utf16(sample: bytes) -> str | None:
    """UTF-16 without a mark: ASCII characters have a zero byte on one side."""
    zeros = np.frombuffer(sample, np.uint8) == 0
    even, odd = int(zeros[::2].sum()), int(zeros[1::2].sum())
    if max(even, odd) <= 10 * min(even, odd) or max(even, odd) < len(sample) / 8:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether more bytes lie in runs of valid characters than in others: UTF-8 with damage."""
    runs = re.findall(rb"[\x80-\xff]+", data[: 100 * _SAMPLE_BYTES])
    valid = sum(len(run) for run in runs if _VALID.fullmatch(run))
    return 2 * valid > sum(map(len, runs))


def _legacy_encoding(data: bytes, path: str) -> str:
    words = _BEYOND_ASCII.findall(data[: 100 * _SAMPLE_BYTES])
    scores = _score_encodings(b"\n".join(words)[:_SAMPLE_BYTES])
    likely = [name for name in scores if scores[name] >= 0.8 * max(scores.values())]
    if not likely:
        raise InputError(
            f"{path} is in no encoding that can be told from its bytes: write it in UTF-8, or give "
            "the adapter encoding="
        )
    # Windows-1252 is by far the most frequent of them.
    if "cp1252" in likely:
        return "cp1252"
    if len(likely) > 1 and len(words) < 10:
        first = {name: words[0].decode(name).strip()[:40] for name in likely}
        readings = " or ".join(f"{name} ({word})" for name, word in first.items())
        raise InputError(
            f"{path} is not in UTF-8 and may be in {readings}: write it in UTF-8, or give the "
            "adapter encoding="
        )
    return likely[0]


def _score_encodings(sample: bytes) -> dict[str, float]:
    """chardet's confidence, best first, in those that read the sample as plausible text; of those
    that read it alike the first of `_LEGACY`."""
    import chardet

    detected = chardet.detect_all(
        sample, include_encodings=_LEGACY, ignore_threshold=True, compat_names=False
    )
    named = [each for each in detected if each["encoding"]]  # bytes of no text have none
    confidences = {codecs.lookup(str(each["encoding"])).name: each for each in named}
    scores: dict[str, float] = {}
    names: dict[str, str] = {}
    for name in (codecs.lookup(each).name for each in _LEGACY):
        text = _plausible_text(sample, name)
        if text is not None and name in confidences:
            scores.setdefault(text, 0.0)
            names.setdefault(text, name)
            scores[text] = max(scores[text], float(confidences[name]["confidence"]))
    return {names[text]: scores[text] for text in sorted(scores, key=scores.__getitem__)[::-1]}


def _plausible_text(sample: bytes, encoding: str) -> str | None:
    """The sample as the encoding reads it, unless it cannot, or the words hold control characters,
    symbols inside, or letters of two scripts."""
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return None
    odd = len(_CONTROL_OR_MIXED.findall(text))
    odd += sum(unicodedata.category(each)[0] in "SPC" for each in _INSIDE_WORD.findall(text))
    return None if odd > 0.05 * text.count("\n") + 0.5 else text
