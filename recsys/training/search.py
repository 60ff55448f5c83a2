"""Everything that search learns from judged pairs, in order: encoder, cross-encoder, fusion. Writes
one folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys.datasets.judgments import JudgedPairs
from recsys.encoders.transformer import TransformerEncoder
from recsys.interfaces import Encoder, Retriever
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.fusion import Signals, Weights
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.training import (
    CROSS_ENCODER,
    ENCODER,
    FUSION,
    INTENT,
    USAGE,
    contrastive,
    cross_encoder,
)
from recsys.training.adapters import Adapters
from recsys.training.classifier import SCHEDULE, train_classifier
from recsys.training.loop import Schedule
from recsys.training.vectors import item_vectors
from recsys.training.workers import from_first, rank
from recsys.types import Floats, Ints, Requests, Rows

Say = Callable[[str], None]
#: How deep lists are mined for negatives, and how many of a query's best candidates are re-ranked
#: by day.
LISTED, WINDOW = 100, 50
#: Places of a list from which negatives are taken: above them stand too many good items that nobody
#: judged.
MINED_FROM = 10
START = {"dense": 1.0, "lexical": 0.2}


@dataclass(frozen=True)
class SearchRecipe:
    """Schedules, and how much a teacher reads. Without a `teacher` the small model learns from the
    grades alone."""

    encoder: Schedule
    teacher: Schedule | None
    student: Schedule
    negatives: int = 3
    distilled: int = 60

    @classmethod
    def here(cls, seed: int = 0) -> SearchRecipe:
        """For this machine."""
        return (cls.on_gpu if torch.cuda.is_available() else cls.on_cpu)(seed)

    @classmethod
    def on_gpu(cls, seed: int = 0) -> SearchRecipe:
        return cls(
            encoder=Schedule(2, 192, 1e-4, patience=0, seed=seed),
            teacher=Schedule(2, 64, 1e-4, patience=0, seed=seed),
            student=Schedule(3, 128, 5e-4, patience=0, seed=seed),
        )

    @classmethod
    def on_cpu(cls, seed: int = 0) -> SearchRecipe:
        """Under an hour on two cores for 50,000 items and 35,000 pairs: a part of them, and no
        teacher.

        A step of the encoder took 2.7 s there.
        """
        return cls(
            encoder=Schedule(0.4, 64, 1e-4, patience=0, seed=seed),
            teacher=None,
            student=Schedule(1, 64, 5e-4, patience=0, seed=seed),
        )


@dataclass(frozen=True)
class BaseModels:
    """The pretrained models that training starts from: folders."""

    encoder: TransformerEncoder
    teacher: Path
    student: Path


def train_search(
    texts: Sequence[str],
    lexical: LexicalIndex,
    train: JudgedPairs,
    valid: JudgedPairs,
    bases: BaseModels,
    recipe: SearchRecipe,
    folder: Path,
    say: Say = print,
    resume: bool = False,
    adapters: Adapters | None = None,
) -> dict[str, float]:
    """Trains on `train`, chooses on `valid`, writes ENCODER, CROSS_ENCODER and FUSION into
    `folder`.

    `texts` are the items' (`encoders.text.item_texts`), `lexical` the index over them. Returns what
    was measured on `valid`. Checkpoints and TensorBoard logs go to `folder`/logs; `resume` goes on
    from them. Under several workers each mines and lists for itself, alike; the steps are shared.
    """
    say(f"encoding {len(texts):,} items with {bases.encoder.space}")
    zero_shot = item_vectors(bases.encoder, texts, folder)
    hard_QN = _mined(bases.encoder, zero_shot, lexical, train)
    say(f"tuning the encoder on {len(train.positives()):,} pairs of {len(train.queries):,} queries")
    schedule = _logged(recipe.encoder, folder, ENCODER)
    tuned = contrastive.tune_encoder(
        bases.encoder,
        texts,
        train,
        valid,
        hard_QN,
        folder / ENCODER,
        schedule,
        adapters,
        say,
        resume,
    )
    _write(folder / USAGE, encoder_arguments(bases.encoder))
    encoder = TransformerEncoder(str(folder / ENCODER), **encoder_arguments(bases.encoder))
    say(f"encoding {len(texts):,} items with {encoder.space}")
    sources = (
        LexicalRetriever(lexical),
        ExactRetriever("dense", subtract_mean(item_vectors(encoder, texts, folder))),
    )
    found = Signals.ask(sources, _requests(encoder, valid), LISTED, valid)
    weights = found.fused(valid, START)
    lists_QN = Signals.ask(sources, _requests(encoder, train), LISTED).ranked(weights, LISTED)
    examples = cross_encoder.with_negatives(
        train, lists_QN, recipe.negatives, MINED_FROM, recipe.student.seed
    )
    if recipe.teacher:
        say(f"training the teacher on {len(examples.query_P):,} pairs")
        teacher = folder / "logs" / "teacher" / "model"
        schedule = _logged(recipe.teacher, folder, "teacher")
        cross_encoder.train_cross_encoder(
            bases.teacher, texts, examples, valid, teacher, schedule, say=say, resume=resume
        )
        examples = _taught(
            CrossEncoder(teacher, batch_size=512), texts, train, lists_QN[:, : recipe.distilled]
        )
    say(f"training the re-ranker on {len(examples.query_P):,} pairs")
    schedule = _logged(recipe.student, folder, CROSS_ENCODER)
    student = cross_encoder.train_cross_encoder(
        bases.student,
        texts,
        examples,
        valid,
        folder / CROSS_ENCODER,
        schedule,
        say=say,
        resume=resume,
    )
    reader = CrossEncoder(folder / CROSS_ENCODER, batch_size=512)
    measured = _fuse(
        found, weights, texts, reader, _weakest(sources[1], encoder, valid), valid, folder
    )
    say(f"validation {measured}")
    return {"encoder/recall@10": tuned.best, "cross_encoder/ndcg@10": student.best, **measured}


def train_intents(
    categories: Sequence[str],
    pairs: JudgedPairs,
    base: TransformerEncoder,
    folder: Path,
    seed: int = 0,
    say: Say = print,
    resume: bool = False,
) -> dict[str, float]:
    """Teaches the classifier which category a query asks for, that of most of its answers, and
    writes INTENT.

    Returns and writes nothing where fewer than two categories have two queries each: such a shop
    has no intents."""
    asked = _categories_asked(categories, pairs)
    enough = {label for label, count in Counter(asked.values()).items() if count > 1}
    known = {text: label for text, label in asked.items() if label in enough}
    if len(enough) < 2:
        say("no intents: the answers of the queries lie in fewer than two categories")
        return {}
    say(f"training intents: {len(known):,} queries of {len(enough):,} categories")
    schedule = _logged(replace(SCHEDULE, seed=seed), folder, INTENT)
    texts, labels = list(known), list(known.values())
    told = train_classifier(
        texts,
        labels,
        base,
        folder / INTENT,
        schedule,
        known_labels=categories,
        say=say,
        resume=resume,
    )
    return {"intent/accuracy": told["accuracy"], "intent/macro_f1": told["macro_f1"]}


def _categories_asked(categories: Sequence[str], pairs: JudgedPairs) -> dict[str, str]:
    """Of each query the category that most of its answers have, the alphabet's first of several; ""
    is none."""
    offsets, rows = pairs.relevant()
    asked = {}
    for text, low, high in zip(pairs.queries, offsets[:-1], offsets[1:], strict=True):
        counts = Counter(categories[row] for row in rows[low:high] if categories[row])
        if counts:
            asked[text] = min(counts, key=lambda label: (-counts[label], label))
    return asked


def _fuse(
    found: Signals,
    first: Weights,
    texts: Sequence[str],
    reader: CrossEncoder,
    weakest: float,
    valid: JudgedPairs,
    folder: Path,
) -> dict[str, float]:
    """Chooses the weights of all signals on `valid`, writes them to FUSION, returns what they reach
    there.

    `first` are those of `found` alone: they choose what the cross-encoder reads.
    """

    def read(queries: Ints, rows: Ints) -> Floats:
        return reader.scores(
            [valid.queries[query] for query in queries], [texts[row] for row in rows]
        )

    all_found = found.reranked(first, WINDOW, "cross_encoder", read)
    weights = all_found.fused(valid, first)
    chosen = {"weights": weights, "without_cross_encoder": first, "weakest": weakest}
    _write(folder / FUSION, chosen)
    return all_found.measured(weights, valid)


def _weakest(dense: Retriever, encoder: Encoder, valid: JudgedPairs) -> float:
    """The cosine that best parts the nearest item of real queries from that of made-up words."""
    nonsense = pseudowords(min(500, len(valid.queries)))
    near = [
        dense.retrieve(
            Requests(size=len(texts), texts=None, vectors_BD=encoder.encode_queries(texts)), 1
        ).scores_BN[:, 0]
        for texts in (valid.queries[: len(nonsense)], nonsense)
    ]
    seen = np.unique(np.concatenate(near))
    cuts = (seen[:-1] + seen[1:]) / 2 if len(seen) > 1 else seen
    wrong = [(near[0] < cut).mean() + (near[1] >= cut).mean() for cut in cuts]
    return float(cuts[int(np.argmin(wrong))])


def pseudowords(count: int, seed: int = 0) -> list[str]:
    """Texts of one to three words that no language has."""
    rng = np.random.default_rng(seed)

    def word() -> str:
        pairs = zip(
            rng.choice(list("bcdfghjklmnpqrstvwxz"), 4), rng.choice(list("aeiouy"), 4), strict=True
        )
        return "".join(consonant + vowel for consonant, vowel in pairs)[: int(rng.integers(5, 9))]

    return [" ".join(word() for _ in range(rng.integers(1, 4))) for _ in range(count)]


def _write(path: Path, content: Any) -> None:
    """By the first worker; every worker goes on when it is there."""
    if rank() == 0:
        path.write_text(json.dumps(content, indent=2) + "\n")
    from_first(None)


def subtract_mean(items_ID: Floats) -> Floats:
    """The vectors less their mean, which is what `search.Searcher` weighs: cosines above the
    catalogue's mean."""
    return items_ID - np.mean(items_ID, axis=0, dtype=np.float64).astype(np.float32)


def encoder_arguments(encoder: TransformerEncoder) -> dict[str, Any]:
    """How an encoder is used, as the arguments of the next one."""
    names = ("query_prefix", "item_prefix", "max_tokens", "pooling")
    return {name: getattr(encoder, name) for name in names}


def _requests(encoder: Encoder, pairs: JudgedPairs) -> Requests:
    return Requests(
        size=len(pairs.queries),
        texts=pairs.queries,
        vectors_BD=encoder.encode_queries(pairs.queries),
    )


def _mined(encoder: Encoder, items_ID: Floats, lexical: LexicalIndex, train: JudgedPairs) -> Rows:
    """For each query the rows that the untuned encoder and BM25 put at places MINED_FROM..: near,
    and mostly wrong."""
    requests = _requests(encoder, train)
    sources = ExactRetriever("dense", items_ID), LexicalRetriever(lexical)
    depth = min(LISTED // 2 + MINED_FROM, len(items_ID))
    return np.concatenate(
        [source.retrieve(requests, depth).rows_BN[:, MINED_FROM:] for source in sources], axis=1
    )


def _taught(
    teacher: CrossEncoder, texts: Sequence[str], train: JudgedPairs, lists_QN: Rows
) -> JudgedPairs:
    """Every judged pair and every listed one, graded by the teacher."""
    queries, columns = np.nonzero(lists_QN >= 0)
    query_P = np.concatenate([train.query_P, queries])
    rows_P = np.concatenate([train.rows_P, lists_QN[queries, columns]])
    asked = [train.queries[query] for query in query_P]
    return JudgedPairs.from_unsorted(
        train.queries, query_P, rows_P, teacher.scores(asked, [texts[row] for row in rows_P])
    )


def _logged(schedule: Schedule, folder: Path, part: str) -> Schedule:
    return replace(schedule, log_dir=folder / "logs" / part)
