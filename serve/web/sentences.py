"""What an answer says of itself, in a sentence a shopper understands: what was corrected or given
up, and why an item is where it is."""

from __future__ import annotations

import re
from collections.abc import Callable

from recsys.pipeline.explain import Explanation
from recsys.types import Ranking
from serve.web.wording import Wording


def N_(message: str) -> str:
    """Marks a message for the catalogue where it is not translated yet."""
    return message


#: Sentences of `Ranking.relaxed` by their form, and how they are said here.
RELAXED = (
    (r"nothing found costs (.+): shown at any price", N_("Nothing costs {0}: shown at any price.")),
    (r"nothing found comes in (.+): shown in others", N_("Nothing comes in {0}: shown in others.")),
    (r"items with (.+) are left out: .*", N_("Items with {0} are left out, as you asked.")),
    (r"no item has all of the words: .*", N_("Nothing has all of the words: shown by most.")),
    (r"no item has (.+): found without", N_("Nothing has {0}: found without.")),
)
#: Why a source brings an item, the most telling source first.
SOURCES = {
    "buy_again": N_("You bought it before and may need it again."),
    "interest": N_("It fits what you said you want."),
    "co_occurrence": N_("It is often bought with what you looked at."),
    "follows": N_("Shoppers often take it after what you looked at."),
    "peers": N_("Shoppers with a taste like yours chose it."),
    "discovery": N_("It is close to what you looked at."),
    "content": N_("It is like what you looked at."),
    "arrivals": N_("It is new, and close to your taste."),
    "category_popularity": N_("It sells well in a category that you look at."),
    "popularity": N_("Many shoppers choose it at the moment."),
}


def relaxed_sentences(ranking: Ranking, wording: Wording) -> list[str]:
    return [_relaxed(sentence, wording) for sentence in ranking.relaxed]


def _relaxed(sentence: str, wording: Wording) -> str:
    for pattern, message in RELAXED:
        if match := re.fullmatch(pattern, sentence):
            words = [each.strip("'\"") for each in match.groups()]
            return wording.text(message).format(*words)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def why_sentence(explanation: Explanation, wording: Wording) -> str:
    """Of the sources and words that brought an item; no numbers, which mean nothing to a
    shopper."""
    say = wording.text
    if explanation.surface == "search":
        return _why_of_search(explanation, say)
    chosen = next((say(SOURCES[name]) for name in SOURCES if name in explanation.sources), "")
    return chosen or say("It fits what shoppers like you choose.")


def _why_of_search(explanation: Explanation, say: Callable[[str], str]) -> str:
    terms = sorted(explanation.terms, key=lambda term: -explanation.terms[term])
    words = [term for term in terms if explanation.terms[term] > 0][:4]
    if words:
        sentences = [say("It has your words: {words}.").format(words=", ".join(words))]
    elif "dense" in explanation.sources:
        sentences = [say("Its meaning is close to your words.")]
    else:
        sentences = [say("It passes your filters and sells well.")]
    if explanation.sources.get("personal", 0.0) > 0:
        sentences.append(say("It also suits your taste."))
    return " ".join(sentences)
