"""The text of cells that hold HTML: tags, scripts and entities are no words."""

from __future__ import annotations

from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.compute as pc

#: Cells without these are text as they are.
_MARKUP = r"<[a-zA-Z/!]|&(#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]+);"
#: Other tags are text: "size <M>".
_TAGS = {
    "inline": "a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd mark meta q s samp "
    "small span strike strong sub sup time tt u var wbr",
    "block": "address article aside audio blockquote body br button canvas caption center col "
    "colgroup dd details div dl dt embed fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 "
    "head header hr html iframe img input label legend li link main map nav noscript object ol "
    "optgroup option p picture pre script section select source style summary svg table tbody td "
    "template textarea tfoot th thead title tr ul video",
    "silent": "script style template head",
}
_INLINE, _BLOCKS, _SILENT = (frozenset(tags.split()) for tags in _TAGS.values())


class _Text(HTMLParser):
    """Collects what a reader sees."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _SILENT:
            self._silent.append(tag)
        if tag in _BLOCKS:
            self.parts.append(" ")
        elif tag not in _INLINE and not self._silent:
            self.parts.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        if tag in _BLOCKS:
            self.parts.append(" ")
        elif tag not in _INLINE and not self._silent:
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)

    def unknown_decl(self, data: str) -> None:
        self.parts.append(data.removeprefix("CDATA["))


def strip_html(column: pa.Array) -> pa.Array:
    """Strings without markup. Each distinct cell that has some is parsed once, and once more where
    it was escaped: `&lt;p&gt;` too is a tag."""
    for _ in range(2):
        has_markup = pc.match_substring_regex(column, _MARKUP).fill_null(False)
        if not pc.any(has_markup).as_py():
            break
        coded = column.filter(has_markup).dictionary_encode()
        texts = pa.array(map(_text_of, coded.dictionary.to_pylist()), pa.string())
        column = pc.replace_with_mask(column, has_markup, texts.take(coded.indices))
    return column


def _text_of(html: str) -> str:
    parser = _Text()
    parser.feed(html)
    parser.close()
    return " ".join("".join(parser.parts).split())
