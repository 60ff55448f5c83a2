"""Evaluation of search on graded judgments: recall, nDCG, MRR, typos, identifiers, latency."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from recsys.config import Setup, tiny
from recsys.datasets.judged_catalogue import JudgedCatalogue, read_judged_catalogue
from recsys.datasets.judgments import JudgedPairs
from recsys.encoders import minilm
from recsys.evaluation.results import Criterion
from recsys.evaluation.search_systems import DEPTH, SearchCatalogue, SearchSystem, search_systems
from recsys.intervals import bootstrap_mean
from recsys.metrics import Values, graded_ndcg, mean, recall_at_k, reciprocal_rank
from recsys.models.composition import with_parts
from recsys.ranking.cross_encoder import bert_tiny
from recsys.training import FUSION
from recsys.training.vectors import item_vectors
from recsys.types import Rows
from recsys.understanding.codes import codes_of_item, is_measure
from recsys.understanding.synthetic_typos import add_typos

#: Codes that are searched for `identifier@1`.
CODES = 300
#: Characters of a part of a code, at least, and the items among which its code must be.
PART_LENGTH, PAGE = 5, 10
Say = Callable[[str], None]


def evaluate_search(
    folder: Path, models_folder: Path, seed: int = 0, say: Say = print
) -> list[dict[str, Any]]:
    """A row for each system on the test split of a judged folder, trained on train and chosen on
    valid.

    Models are written to `models_folder`; where it holds them all, nothing is trained."""
    judged = read_judged_catalogue(folder)
    catalogue, zero_shot = SearchCatalogue.of(judged.items), minilm()
    queries = (f"{name} {len(pairs.queries):,} queries" for name, pairs in judged.pairs.items())
    say(f"{judged.name}: {len(catalogue.texts):,} items; {', '.join(queries)}")
    if judged.unknown:
        say(
            f"{judged.unknown:,} judgments name an item that is not in the catalogue "
            "and are left out"
        )
    setup = _with_trained_parts(judged, catalogue, models_folder, seed, say)
    tuned = setup.encoder()
    vectors = {
        encoder.space: item_vectors(encoder, catalogue.texts, models_folder)
        for encoder in (zero_shot, tuned)
    }
    weights = json.loads((models_folder / FUSION).read_text())["without_cross_encoder"]
    pretrained, trained = ((each, vectors[each.space]) for each in (zero_shot, tuned))
    codes, rows = sample_codes(catalogue, CODES), []
    for name, system in search_systems(catalogue, pretrained, trained, setup, weights).items():
        scores = search_scores(system, catalogue, judged.pairs["test"], codes, seed)
        rows.append({"name": name, **scores})
        say(f"{name}: recall@10 {rows[-1]['recall@10']:.4f}, ndcg@10 {rows[-1]['ndcg@10']:.4f}")
    return rows


def _with_trained_parts(
    judged: JudgedCatalogue, catalogue: SearchCatalogue, folder: Path, seed: int, say: Say
) -> Setup:
    """A setup with the models of `folder`, trained first where it holds no fusion weights."""
    from recsys.learning.search import BaseModels, SearchRecipe, train_search

    base = minilm()
    if not (folder / FUSION).exists():
        recipe = SearchRecipe.for_machine(seed)
        bases = BaseModels(base, base.folder, bert_tiny())
        train_search(
            catalogue.texts,
            catalogue.lexical,
            judged.pairs,
            bases=bases,
            recipe=recipe,
            folder=folder,
            say=say,
            resume=True,
        )
    else:
        say(f"the models in {folder} are used as they are")
    return with_parts(replace(tiny(), encoder=minilm), folder)


def search_scores(
    system: SearchSystem,
    catalogue: SearchCatalogue,
    test: JudgedPairs,
    codes: Sequence[str],
    seed: int = 0,
) -> dict[str, float]:
    """All metrics of one system; `name/low` and `name/high` are 95 % intervals by bootstrap over
    queries.

    Recall and MRR are of the relevant items (grade 0.75 and better) in the full index; nDCG@10
    ranks only the judged items, gain 4^grade - 1. "/typo": every query with one edit in one word.
    identifier@1: the share of `codes` whose first item has the code; code_part@10: of parts of
    codes, whether one of the first ten has it. Latencies are of one query at
    a time, encoding included."""
    rows_QK, seconds_Q = _rank_all(system, test.queries, "as typed")
    typed_QK, _ = _rank_all(system, add_typos(test.queries, seed), "typos")
    judged = list(zip(test.queries, test.by_query(), strict=True))
    scores_P = np.concatenate(
        [system.score(text, rows) for text, (rows, _) in _progress(judged, "judged")]
    )
    truth = test.relevant()
    values = {
        "recall@10": recall_at_k(rows_QK, *truth, 10),
        "recall@100": recall_at_k(rows_QK, *truth, 100),
        "ndcg@10": graded_ndcg(scores_P, 4.0**test.grades_P - 1, test.offsets, 10),
        "mrr": reciprocal_rank(rows_QK, *truth),
        "recall@10/typo": recall_at_k(typed_QK, *truth, 10),
        "identifier@1": identifier_hits(system, catalogue, codes),
        "code_part@10": part_hits(system, catalogue, sample_code_parts(catalogue, CODES)),
    }
    row = {
        name: number
        for column, each in values.items()
        for name, number in _with_interval(column, each).items()
    }
    lost = 1 - row["recall@10/typo"] / row["recall@10"] if row["recall@10"] else float("nan")
    p50, p95 = np.quantile(seconds_Q, [0.5, 0.95]) * 1000
    return {**row, "recall@10/lost_to_typo": lost, "p50_ms": float(p50), "p95_ms": float(p95)}


def code_criterion(row: Mapping[str, Any]) -> Criterion:
    """Half a code, first or on the first page, of a system's row."""
    name = "code_part@10"
    low, high = row[f"{name}/low"], row[f"{name}/high"]
    return Criterion(name=name, value=row[name], interval=(low, high), floor=0.90, goal=0.97)


def sample_codes(catalogue: SearchCatalogue, count: int, seed: int = 0) -> list[str]:
    """Model numbers and other codes as titles spell them: tokens with letters and digits, at least
    five characters."""
    tokens = {
        token
        for title in catalogue.items["title"].to_pylist()
        for token in (title or "").casefold().split()
        if len(token) >= 5
        and any(map(str.isdigit, token))
        and any(map(str.isalpha, token))
        and token.isalnum()
    }
    ordered = sorted(tokens)
    return [ordered[at] for at in np.random.default_rng(seed).permutation(len(ordered))[:count]]


def sample_code_parts(
    catalogue: SearchCatalogue, count: int, seed: int = 0
) -> list[tuple[str, str]]:
    """Pairs (part, code): of codes in titles, no measures, a prefix or an inner part, equally
    often, of PART_LENGTH characters and more."""
    rng, parts = np.random.default_rng(seed), list[tuple[str, str]]()
    for code in sample_codes(catalogue, sys.maxsize, seed):
        if len(code) <= PART_LENGTH or is_measure(code):
            continue
        low = int(rng.integers(1, len(code) - PART_LENGTH + 1)) if len(parts) % 2 else 0
        high = int(rng.integers(low + PART_LENGTH, len(code) + bool(low)))
        part = code[low:high]
        if any(map(str.isdigit, part)) and not len(catalogue.codes.rows(part)):
            parts.append((part, code))
        if len(parts) == count:
            break
    return parts


def part_hits(
    system: SearchSystem, catalogue: SearchCatalogue, parts: Sequence[tuple[str, str]]
) -> Values:
    """For each pair (part, code), whether the first PAGE items for the part have one with the
    code."""
    hits = [
        float(any(code in _codes_of(catalogue, row) for row in system.rank(part)[:PAGE].tolist()))
        for part, code in _progress(parts, "parts of codes")
    ]
    return np.array(hits)


def _codes_of(catalogue: SearchCatalogue, row: int) -> set[str]:
    item_id, title = (catalogue.items[name][row].as_py() for name in ("item_id", "title"))
    return codes_of_item(item_id, title or "")


def identifier_hits(
    system: SearchSystem, catalogue: SearchCatalogue, codes: Sequence[str]
) -> Values:
    """For each code, whether the first item has it as its id or in its title."""
    hits = [
        float(any(code in _codes_of(catalogue, row) for row in system.rank(code)[:1].tolist()))
        for code in _progress(codes, "codes")
    ]
    return np.array(hits)


def _rank_all(system: SearchSystem, queries: Sequence[str], what: str) -> tuple[Rows, Values]:
    rows_QK, seconds = np.full((len(queries), DEPTH), -1, np.int32), []
    for place, text in enumerate(_progress(queries, what)):
        begun = time.perf_counter()
        rows = system.rank(text)
        seconds.append(time.perf_counter() - begun)
        rows_QK[place, : len(rows)] = rows
    return rows_QK, np.array(seconds)


def _with_interval(column: str, values: Values) -> dict[str, float]:
    low, high = bootstrap_mean(values)
    return {column: mean(values), f"{column}/low": low, f"{column}/high": high}


_progress = partial(tqdm, disable=None, leave=False)
