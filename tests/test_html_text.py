"""Tags, scripts and entities are no words; what only looks like them stays."""

from __future__ import annotations

import pyarrow as pa
import pytest

from recsys.datasets.html_text import strip_html


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>A <strong>tough</strong> hose.</p><ul><li>20&nbsp;m</li></ul>", "A tough hose. 20 m"),
        ("caf&eacute; &amp; bar", "café & bar"),
        ("one<br>two<br/>three", "one two three"),
        ("im<b>por</b>tant", "important"),
        ("<style>p {color: red}</style>Red", "Red"),
        ("<script>if (a < b) x('</p>')</script>Red<!-- no -->", "Red"),
        ("<a href=\"x>y\" title='a'>link</a>", "link"),
        ("&lt;p&gt;escaped &amp;amp; twice&lt;/p&gt;", "escaped & twice"),
        ("&#39;quoted&#x27;", "'quoted'"),
        ("size <M> and </M>", "size <m> and </m>"),
        ("a < b & c > d", "a < b & c > d"),
        ("5 <3", "5 <3"),
        ("AT&T; R&D", "AT&T; R&D"),
        ("<p>unclosed", "unclosed"),
        ("<![CDATA[<p>Salt &amp; pepper</p>]]>", "Salt & pepper"),
        ("line\none", "line\none"),
        ("", ""),
    ],
)
def test_what_a_reader_sees(html: str, text: str) -> None:
    stripped = strip_html(pa.array([html, None])).to_pylist()
    assert (stripped[0].casefold(), stripped[1]) == (text.casefold(), None)
