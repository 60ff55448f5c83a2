"""Carrier phrases: the phrasing of a request around its object, stripped from queries
("购买一款好用的耳机" is a request for 耳机)."""

from __future__ import annotations

import re

# A request word makes a carrier phrase; fillers around it ("我", "一款", "好用的") make none by
# themselves.
_REQUEST = (
    "购买|选购|求购|入手|想买|要买|我买|想要|需要|想找|帮我找|给我找|找一|买一|买个|买点"
    "|求推荐|推荐|有没有|哪里有|哪里买"
)
_FILLER = (
    "请问|麻烦|帮忙|帮我|给我|我们|我|想|要|买|找|去|一下|一?[款个件双条只部台套些把瓶张](?=[^人])|几[款个件]"
    "|好用的|好看的|性价比高的|便宜的?|实惠的|质量好的|最好的|不错的|合适的|适合的?"
)
_BEFORE_ZH = re.compile(rf"^(?:{_FILLER})*?(?:{_REQUEST})(?:{_REQUEST}|{_FILLER})*[,，:：\s]*")
_AFTER_ZH = re.compile(
    r"(?:推荐一下|推荐|哪个好|哪款好|哪个牌子好|怎么样|有吗|多少钱|吗|呢)+[?？!！。]*$"
)
_BEFORE_EN = re.compile(
    r"^(?:please |hi |hello |can you |could you |help me (?:to )?)*"
    r"(?:(?:i|we) (?:need|want|would like)(?: to (?:buy|find|get))? "
    r"|(?:i am |i'm |we are |we're )?(?:looking|searching|shopping) for |show me |find me "
    r"|where (?:can|do) (?:i|we) (?:buy|find|get) |do you (?:have|sell) )(?:an? |some |the |any )?",
    re.IGNORECASE,
)
_EDGES = " ,.?!，。？！、"


def strip_carrier_phrases(text: str) -> str:
    """The text without carrier phrases at its ends; a text that is nothing else stays whole."""
    for pattern in (_BEFORE_EN, _BEFORE_ZH, _AFTER_ZH):
        rest = pattern.sub("", text).strip(_EDGES)
        text = rest if any(map(str.isalnum, rest)) else text
    return text
