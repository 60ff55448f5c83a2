"""Which languages a catalogue is written in, by character n-grams (Lui & Baldwin, langid.py, ACL
2012)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from recsys.retrieval.text.stems import LATIN

#: A Latin language is one of the catalogue's where this share of the texts is in it, one of them
#: with this probability: a title of brands may be in any.
MIN_SHARE, MIN_PROBABILITY = 0.02, 0.75
_OTHERS = ("en", "zh", "ja", "ko", "th", "ru", "uk", "bg", "ar", "fa", "hi", "el", "he", "ka")
_SAMPLE = 2_000
_PASSES = 50


def detect_languages(texts: Sequence[str]) -> tuple[str, ...]:
    """The Latin languages (names of LATIN) that a catalogue is written in, most frequent first: the
    mixture under which at most 2,000 of its texts are likeliest (Dempster, Laird & Rubin, 1977).

    A short title may be in any of several languages; together they tell."""
    sample = [text for text in texts[:: len(texts) // _SAMPLE or 1] if text.strip()]
    if not sample:
        return ()
    identifier = _identifier()
    codes = sorted(identifier.nb_classes)
    ranks = (dict(identifier.rank(text)) for text in sample)
    likelihoods_TL = np.array([[rank[code] for code in codes] for rank in ranks])
    shares_L = np.full(len(codes), 1 / len(codes))
    for _ in range(_PASSES):
        posteriors_TL = likelihoods_TL * shares_L
        shares_L = (posteriors_TL / posteriors_TL.sum(axis=1, keepdims=True)).mean(axis=0)
    certain_L = likelihoods_TL.max(axis=0) >= MIN_PROBABILITY
    return tuple(
        LATIN[codes[at]]
        for at in np.argsort(-shares_L, kind="stable")
        if codes[at] in LATIN and shares_L[at] >= MIN_SHARE and certain_L[at]
    )


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([*LATIN, *_OTHERS])
    return identifier
