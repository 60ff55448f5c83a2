"""Training data for search: pairs of a query and an item, judged or from the live log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recsys.config import Setup
from recsys.datasets.judged_catalogue import read_judged_catalogue
from recsys.datasets.judgments import JudgedPairs
from recsys.encoders import minilm
from recsys.encoders.text import item_texts
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError
from recsys.events.joins import label_examples, query_pairs
from recsys.release.release import Release
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.fields import FIELD_BOOSTS, searchable_fields
from recsys.storage.artifacts import ArtifactStore


@dataclass(frozen=True, kw_only=True)
class SearchData:
    """The catalogue's texts, categories ("" is none) and lexical index, and the pairs of each split
    (`train`, `valid`)."""

    texts: Sequence[str]
    categories: Sequence[str]
    lexical: LexicalIndex
    pairs: Mapping[str, JudgedPairs]


def judgement_data(folder: Path) -> SearchData:
    """Human relevance judgements, with the catalogue they judge."""
    shop = read_judged_catalogue(folder)
    return SearchData(
        texts=item_texts(shop.items),
        categories=_categories(shop.items),
        lexical=LexicalIndex.build(searchable_fields(shop.items), FIELD_BOOSTS),
        pairs=shop.pairs,
    )


def log_data(setup: Setup) -> SearchData:
    """The current release's catalogue, and implicit feedback: views, clicks, carts and purchases
    after a search."""
    release = Release.open(ArtifactStore(setup.home))
    events = setup.event_store()
    try:
        examples = label_examples(
            events.impressions(), events.interactions(events.end().interactions)
        )
    finally:
        events.close()
    return SearchData(
        texts=item_texts(release.items),
        categories=_categories(release.items),
        lexical=release.lexical,
        pairs=query_pairs(examples, release.item_ids.rows),
    )


def base_encoder(path_or_id: str | None, setup: Setup | None) -> TransformerEncoder:
    """The pretrained encoder that training starts from, never the last training's result: this
    folder or hub id, else the setup's, else MiniLM."""
    if path_or_id:
        return TransformerEncoder(path_or_id, max_tokens=64)
    encoder = setup.encoder() if setup else minilm()
    if not isinstance(encoder, TransformerEncoder):
        raise InputError(
            f"encoder {encoder.space} cannot be tuned: give a transformer with --encoder"
        )
    return encoder


def _categories(items: pa.Table) -> list[str]:
    return [category or "" for category in items["category"].to_pylist()]
