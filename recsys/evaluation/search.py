"""How well a search finds what people judged right: contenders over one catalogue, and what is
measured of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from recsys.config import Setup, search_ranker, tiny
from recsys.datasets.judged_catalogue import JudgedCatalogue, read_judged_catalogue
from recsys.datasets.judgments import JudgedPairs
from recsys.encoders import minilm
from recsys.encoders.text import item_texts
from recsys.interfaces import Encoder
from recsys.intervals import bootstrap_mean
from recsys.metrics import (
    Values,
    graded_ndcg,
    mean,
    recall_at_k,
    reciprocal_rank,
)
from recsys.models.composition import encoder_vocabulary, with_parts
from recsys.pipeline.searcher import HybridSearcher
from recsys.ranking.cross_encoder import bert_tiny
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.text.fields import FIELD_BOOSTS, searchable_fields
from recsys.retrieval.vectors.exact import ExactRetriever, top_k
from recsys.training import FUSION
from recsys.training.vectors import item_vectors
from recsys.types import Floats, QueryUnderstanding, Rows
from recsys.understanding.codes import CodeIndex, codes_of_item
from recsys.understanding.normalisation import normalise
from recsys.understanding.query_parser import ParsedQuery, QueryParser
from recsys.understanding.spelling import Speller
from recsys.understanding.synthetic_typos import add_typos

DEPTH = 100
CODES = 300
Say = Callable[[str], None]


@dataclass(frozen=True)
class Shelf:
    """A catalogue as the contenders see it: its texts, its words, its codes."""

    items: pa.Table
    texts: list[str]
    lexical: LexicalIndex
    codes: CodeIndex

    @classmethod
    def of(cls, items: pa.Table) -> Shelf:
        """`items` has the columns of `tables.ITEMS_IN`."""
        texts = searchable_fields(items)
        codes = CodeIndex.build(items["item_id"].to_pylist(), texts["title"], texts["attributes"])
        return cls(items, item_texts(items), LexicalIndex.build(texts, FIELD_BOOSTS), codes)


class Contender(Protocol):
    """A search to be measured."""

    def rank(self, text: str) -> Rows:
        """Up to DEPTH rows, best first."""
        ...

    def judge(self, text: str, rows: Rows) -> Floats:
        """What it thinks of each of these rows."""
        ...


class Random:
    """The floor: an order that knows nothing."""

    def __init__(self, items: int, seed: int = 0) -> None:
        self.items, self.rng = items, np.random.default_rng(seed)

    def rank(self, text: str) -> Rows:
        return self.rng.choice(self.items, min(DEPTH, self.items), replace=False).astype(np.int32)

    def judge(self, text: str, rows: Rows) -> Floats:
        return self.rng.random(len(rows), dtype=np.float32)


class Bm25:
    """Words alone, as typed."""

    def __init__(self, index: LexicalIndex) -> None:
        self.index = index

    def rank(self, text: str) -> Rows:
        scores_I = self.index.scores(normalise(text))
        rows = np.argsort(-scores_I, kind="stable")[:DEPTH]
        return rows[scores_I[rows] > 0].astype(np.int32)

    def judge(self, text: str, rows: Rows) -> Floats:
        return self.index.score_rows(normalise(text), rows)


class Dense:
    """Vectors alone."""

    def __init__(self, encoder: Encoder, vectors_ID: Floats) -> None:
        self.encode, self.vectors_ID = remembering(encoder), vectors_ID

    def rank(self, text: str) -> Rows:
        rows = top_k(self.encode(text)[None], self.vectors_ID, DEPTH)[0][0]
        return rows[rows >= 0]

    def judge(self, text: str, rows: Rows) -> Floats:
        return self.vectors_ID[rows] @ self.encode(text)


class Search:
    """The product's own path."""

    def __init__(
        self, understand: Callable[[str], ParsedQuery], searcher: HybridSearcher, encoder: Encoder
    ) -> None:
        self.understand, self.searcher, self.encode = understand, searcher, remembering(encoder)

    def rank(self, text: str) -> Rows:
        understood = self.understand(text)
        return self.searcher.find(understood, self._vector(understood)).rows_N[:DEPTH]

    def judge(self, text: str, rows: Rows) -> Floats:
        understood = self.understand(text)
        return self.searcher.judge(understood, self._vector(understood), rows)

    def _vector(self, understood: ParsedQuery) -> Floats:
        return self.encode(understood.understanding.normalised)


def remembering(encoder: Encoder) -> Callable[[str], Floats]:
    """One query's vector; asked for the same text again it costs nothing, so only its first use is
    timed."""

    @cache
    def encode(text: str) -> Floats:
        return encoder.encode_queries([text])[0]

    return encode


def as_typed(text: str) -> ParsedQuery:
    """Nothing corrected, nothing recognised."""
    return ParsedQuery(
        QueryUnderstanding(text=text, normalised=normalise(text)), np.empty(0, np.int32)
    )


def contenders(
    shelf: Shelf,
    zero_shot: tuple[Encoder, Floats],
    tuned: tuple[Encoder, Floats],
    setup: Setup,
    hybrid_weights: Mapping[str, float],
) -> dict[str, Contender]:
    """Floors, parts and the whole: each encoder with its item vectors, `setup` with all trained
    parts in place."""
    ids = shelf.items["item_id"].to_pylist()
    index = shelf.lexical
    understander = QueryParser(
        Speller(
            index.terms, index.frequencies, index.rows_of_term, encoder_vocabulary(setup.encoder())
        ),
        shelf.codes,
        sorted({brand for brand in shelf.items["brand"].to_pylist() if brand}),
        ids.__getitem__,
    )
    encoder, vectors_ID = tuned
    whole = HybridSearcher(
        LexicalRetriever(index),
        ExactRetriever("dense", vectors_ID),
        vectors_ID,
        setup.search_ranker(),
        lambda rows: [shelf.texts[row] for row in rows],
        np.zeros(len(ids), np.float32),
        setup.cross_encoder() if setup.cross_encoder else None,
        setup.search,
    )
    plain = replace(whole, reader=None, ranker=search_ranker(hybrid_weights))
    return {
        "random": Random(len(ids)),
        "bm25": Bm25(index),
        "dense_zero_shot": Dense(*zero_shot),
        "dense_tuned": Dense(*tuned),
        "hybrid": Search(as_typed, plain, encoder),
        "nightshelf": Search(understander.parse, whole, encoder),
    }


def evaluate(
    folder: Path, models_folder: Path, seed: int = 0, say: Say = print
) -> list[dict[str, Any]]:
    """A row for each contender on the test split of a judged folder, trained on train and chosen on
    valid.

    What is trained goes to `models_folder`; where all of it is there already, nothing is trained.
    """
    shop = read_judged_catalogue(folder)
    shelf, zero_shot = Shelf.of(shop.items), minilm()
    say(
        f"{shop.name}: {len(shelf.texts):,} items; "
        + ", ".join(f"{name} {len(p.queries):,} queries" for name, p in shop.pairs.items())
    )
    if shop.unknown:
        say(
            f"{shop.unknown:,} judgments name an item that is not in the catalogue and are left out"
        )
    setup = _trained(shop, shelf, models_folder, seed, say)
    tuned = setup.encoder()
    vectors = {
        encoder.space: item_vectors(encoder, shelf.texts, models_folder)
        for encoder in (zero_shot, tuned)
    }
    weights = json.loads((models_folder / FUSION).read_text())["without_cross_encoder"]
    every = contenders(
        shelf, (zero_shot, vectors[zero_shot.space]), (tuned, vectors[tuned.space]), setup, weights
    )
    codes, rows = sampled_codes(shelf, CODES), []
    for name, contender in every.items():
        rows.append({"name": name, **measure(contender, shelf, shop.pairs["test"], codes, seed)})
        say(f"{name}: recall@10 {rows[-1]['recall@10']:.4f}, ndcg@10 {rows[-1]['ndcg@10']:.4f}")
    return rows


def _trained(shop: JudgedCatalogue, shelf: Shelf, folder: Path, seed: int, say: Say) -> Setup:
    """The pretrained parts with those of `folder` in their place, trained first where it holds no
    fusion."""
    from recsys.learning.search import BaseModels, SearchRecipe, train_search

    base = minilm()
    if not (folder / FUSION).exists():
        recipe = SearchRecipe.here(seed)
        bases = BaseModels(base, base.folder, bert_tiny())
        train_search(
            shelf.texts,
            shelf.lexical,
            shop.pairs,
            bases=bases,
            recipe=recipe,
            folder=folder,
            say=say,
            resume=True,
        )
    else:
        say(f"the models in {folder} are used as they are")
    return with_parts(replace(tiny(), encoder=minilm), folder)


def measure(
    contender: Contender, shelf: Shelf, test: JudgedPairs, codes: Sequence[str], seed: int = 0
) -> dict[str, float]:
    """All columns of one contender; `name/low` and `name/high` are 95 % intervals by bootstrap over
    queries.

    Recall and MRR are of the answers (grade 0.75 and better) in the full index; nDCG@10 ranks only
    what was judged, gain 4^grade - 1. "/typo": every query with one edit in one word. identifier@1:
    the share of `codes` whose first item has the code. Milliseconds are of one query at a time,
    encoding included."""
    rows_QK, seconds_Q = _ranked(contender, test.queries, "as typed")
    typed_QK, _ = _ranked(contender, add_typos(test.queries, seed), "typos")
    scores_P = np.concatenate(
        [
            contender.judge(text, rows)
            for text, (rows, _) in _progress(
                list(zip(test.queries, test.by_query(), strict=True)), "judged"
            )
        ]
    )
    truth = test.relevant()
    values = {
        "recall@10": recall_at_k(rows_QK, *truth, 10),
        "recall@100": recall_at_k(rows_QK, *truth, 100),
        "ndcg@10": graded_ndcg(scores_P, 4.0**test.grades_P - 1, test.offsets, 10),
        "mrr": reciprocal_rank(rows_QK, *truth),
        "recall@10/typo": recall_at_k(typed_QK, *truth, 10),
        "identifier@1": first_has_code(contender, shelf, codes),
    }
    told = {
        name: number
        for column, each in values.items()
        for name, number in _with_interval(column, each).items()
    }
    lost = 1 - told["recall@10/typo"] / told["recall@10"] if told["recall@10"] else float("nan")
    p50, p95 = np.quantile(seconds_Q, [0.5, 0.95]) * 1000
    return {**told, "recall@10/lost_to_typo": lost, "p50_ms": float(p50), "p95_ms": float(p95)}


def sampled_codes(shelf: Shelf, count: int, seed: int = 0) -> list[str]:
    """Model numbers and other codes as titles spell them: tokens with letters and digits, at least
    five characters."""
    tokens = {
        token
        for title in shelf.items["title"].to_pylist()
        for token in (title or "").casefold().split()
        if len(token) >= 5
        and any(map(str.isdigit, token))
        and any(map(str.isalpha, token))
        and token.isalnum()
    }
    ordered = sorted(tokens)
    return [ordered[at] for at in np.random.default_rng(seed).permutation(len(ordered))[:count]]


def first_has_code(contender: Contender, shelf: Shelf, codes: Sequence[str]) -> Values:
    """For each code, whether the first item has it as its id or in its title."""
    ids, titles = shelf.items["item_id"], shelf.items["title"]
    hits = []
    for code in _progress(codes, "codes"):
        rows = contender.rank(code)
        first = int(rows[0]) if len(rows) else None
        own = (
            codes_of_item(ids[first].as_py(), titles[first].as_py() or "")
            if first is not None
            else set()
        )
        hits.append(float(code in own))
    return np.array(hits)


def _ranked(contender: Contender, queries: Sequence[str], what: str) -> tuple[Rows, Values]:
    rows_QK, seconds = np.full((len(queries), DEPTH), -1, np.int32), []
    for place, text in enumerate(_progress(queries, what)):
        begun = time.perf_counter()
        rows = contender.rank(text)
        seconds.append(time.perf_counter() - begun)
        rows_QK[place, : len(rows)] = rows
    return rows_QK, np.array(seconds)


def _with_interval(column: str, values: Values) -> dict[str, float]:
    low, high = bootstrap_mean(values)
    return {column: mean(values), f"{column}/low": low, f"{column}/high": high}


_progress = partial(tqdm, disable=None, leave=False)
