"""Learning to search from query-item pairs, in stages: contrastive encoder, cross-encoder
(distilled from a larger teacher where there is one), fusion of the signals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys.arrays import Requests
from recsys.datasets.judgments import JudgedPairs
from recsys.encoders.transformer import TransformerEncoder
from recsys.interfaces import Encoder
from recsys.learning.fusion import fuse_signals
from recsys.learning.intents import train_intents
from recsys.learning.options import Say, TrainOptions
from recsys.learning.search_data import SearchData
from recsys.ranking.cross_encoder import CrossEncoder, bert_tiny
from recsys.ranking.fusion import SignalTable
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.training import CROSS_ENCODER, ENCODER, FUSION, USAGE
from recsys.training.adapters import Adapters
from recsys.training.contrastive import tune_encoder
from recsys.training.cross_encoder import train_cross_encoder, with_negatives
from recsys.training.schedule import FitResult, Schedule
from recsys.training.vectors import item_vectors
from recsys.training.workers import from_first, rank
from recsys.types import Floats, Rows

#: Depth of the lists that negatives are mined from, and of the candidates that are fused.
LIST_DEPTH = 100
#: Hard negatives are mined below this rank: above it stand too many false negatives, good items
#: that nobody judged.
MINED_FROM = 10
START = {"dense": 1.0, "lexical": 0.2}


@dataclass(frozen=True, kw_only=True)
class SearchRecipe:
    """Schedules; hard `negatives` a query for the cross-encoder; and how many of each query's
    candidates the teacher scores for the student (`distilled`). Without a `teacher` the small model
    learns from the grades alone."""

    encoder: Schedule
    teacher: Schedule | None
    student: Schedule
    negatives: int = 3
    distilled: int = 60

    @classmethod
    def for_machine(cls, seed: int = 0) -> SearchRecipe:
        """For this machine."""
        return (cls.on_gpu if torch.cuda.is_available() else cls.on_cpu)(seed)

    @classmethod
    def on_gpu(cls, seed: int = 0) -> SearchRecipe:
        return cls(
            encoder=Schedule(epochs=2, batch_size=192, learning_rate=1e-4, patience=0, seed=seed),
            teacher=Schedule(epochs=2, batch_size=64, learning_rate=1e-4, patience=0, seed=seed),
            student=Schedule(epochs=3, batch_size=128, learning_rate=5e-4, patience=0, seed=seed),
        )

    @classmethod
    def on_cpu(cls, seed: int = 0) -> SearchRecipe:
        """Under an hour on two cores for 50,000 items and 35,000 pairs: a part of them, and no
        teacher.

        A step of the encoder took 2.7 s there.
        """
        return cls(
            encoder=Schedule(epochs=0.4, batch_size=64, learning_rate=1e-4, patience=0, seed=seed),
            teacher=None,
            student=Schedule(epochs=1, batch_size=64, learning_rate=5e-4, patience=0, seed=seed),
        )


@dataclass(frozen=True)
class BaseModels:
    """The pretrained models that training starts from: folders."""

    encoder: TransformerEncoder
    teacher: Path
    student: Path


def train_search_parts(
    data: SearchData,
    encoder: TransformerEncoder,
    options: TrainOptions,
    *,
    student: Path | None = None,
    adapters: Adapters | None = None,
) -> dict[str, float]:
    """Encoder, cross-encoder and fusion; and the intent classifier where the catalogue has
    categories. The student starts from BERT-tiny by default."""
    shared = {"folder": options.folder, "say": options.say, "resume": options.resume}
    search = {
        "texts": data.texts,
        "lexical": data.lexical,
        "pairs": data.pairs,
        "bases": BaseModels(encoder, encoder.folder, student or bert_tiny()),
        "recipe": SearchRecipe.for_machine(options.seed),
        "adapters": adapters,
    }
    intents = {
        "categories": data.categories,
        "pairs": data.pairs["train"],
        "base": encoder,
        "seed": options.seed,
    }
    metrics = options.run(train_search, {**search, **shared})
    return {**metrics, **options.run(train_intents, {**intents, **shared})}


def train_search(
    texts: Sequence[str],
    lexical: LexicalIndex,
    pairs: Mapping[str, JudgedPairs],
    *,
    bases: BaseModels,
    recipe: SearchRecipe,
    folder: Path,
    say: Say = print,
    resume: bool = False,
    adapters: Adapters | None = None,
) -> dict[str, float]:
    """Trains on the pairs of `train`, selects on those of `valid`, writes ENCODER, CROSS_ENCODER
    and FUSION into `folder`.

    `texts` are the items', `lexical` the index over them. Returns the metrics on `valid`. `resume`
    continues from the checkpoints in `folder`/logs. Under several workers each mines and ranks for
    itself, alike; the steps are shared."""
    train, valid = pairs["train"], pairs["valid"]
    stages = _Stages(
        texts=texts,
        lexical=lexical,
        train=train,
        valid=valid,
        folder=folder,
        say=say,
        resume=resume,
    )
    encoder, bi_encoder = stages.tune_encoder(bases.encoder, recipe.encoder, adapters)
    dense = ExactRetriever("dense", subtract_mean(stages.item_vectors(encoder)))
    sources = LexicalRetriever(lexical), dense
    signals = SignalTable.collect(sources, _requests(encoder, valid), LIST_DEPTH, valid)
    weights = signals.fit_weights(valid, START)
    candidates = SignalTable.collect(sources, _requests(encoder, train), LIST_DEPTH)
    reranker = stages.train_cross_encoder(bases, recipe, candidates.top_rows(weights, LIST_DEPTH))
    cross_encoder = CrossEncoder(folder / CROSS_ENCODER, batch_size=512)
    fusion, metrics = fuse_signals(signals, weights, cross_encoder, texts, valid)
    _write_json(folder / FUSION, fusion)
    say(f"validation {metrics}")
    return {"encoder/recall@10": bi_encoder.best, "cross_encoder/ndcg@10": reranker.best} | metrics


@dataclass(frozen=True, kw_only=True)
class _Stages:
    """One training: its data, its folder, and the stages that train a model."""

    texts: Sequence[str]
    lexical: LexicalIndex
    train: JudgedPairs
    valid: JudgedPairs
    folder: Path
    say: Say
    resume: bool

    def item_vectors(self, encoder: Encoder) -> Floats:
        """[I, D], cached in the folder."""
        self.say(f"encoding {len(self.texts):,} items with {encoder.space}")
        return item_vectors(encoder, self.texts, self.folder)

    def tune_encoder(
        self, base: TransformerEncoder, schedule: Schedule, adapters: Adapters | None
    ) -> tuple[TransformerEncoder, FitResult]:
        """The bi-encoder, by contrastive learning with mined hard negatives."""
        hard_QN = _mine_negatives(base, self.item_vectors(base), self.lexical, self.train)
        self.say(
            f"tuning the encoder on {len(self.train.positives()):,} pairs of "
            f"{len(self.train.queries):,} queries"
        )
        fit = tune_encoder(
            base,
            self.texts,
            self.train,
            self.valid,
            hard_QN=hard_QN,
            folder=self.folder / ENCODER,
            schedule=self._logged(schedule, ENCODER),
            adapters=adapters,
            say=self.say,
            resume=self.resume,
        )
        _write_json(self.folder / USAGE, encoder_arguments(base))
        return TransformerEncoder(str(self.folder / ENCODER), **encoder_arguments(base)), fit

    def train_cross_encoder(
        self, bases: BaseModels, recipe: SearchRecipe, lists_QN: Rows
    ) -> FitResult:
        """The student, from the grades or from a teacher's scores."""
        examples = with_negatives(
            self.train,
            lists_QN,
            each=recipe.negatives,
            first=MINED_FROM,
            seed=recipe.student.seed,
        )
        if recipe.teacher:
            self.say(f"training the teacher on {len(examples.query_P):,} pairs")
            teacher = self.folder / "logs" / "teacher" / "model"
            schedule = self._logged(recipe.teacher, "teacher")
            self._fit_cross_encoder(bases.teacher, examples, teacher, schedule)
            examples = _distill(
                CrossEncoder(teacher, batch_size=512),
                self.texts,
                self.train,
                lists_QN[:, : recipe.distilled],
            )
        self.say(f"training the re-ranker on {len(examples.query_P):,} pairs")
        schedule = self._logged(recipe.student, CROSS_ENCODER)
        return self._fit_cross_encoder(
            bases.student, examples, self.folder / CROSS_ENCODER, schedule
        )

    def _fit_cross_encoder(
        self, base: Path, examples: JudgedPairs, folder: Path, schedule: Schedule
    ) -> FitResult:
        return train_cross_encoder(
            base,
            self.texts,
            examples,
            self.valid,
            folder=folder,
            schedule=schedule,
            say=self.say,
            resume=self.resume,
        )

    def _logged(self, schedule: Schedule, part: str) -> Schedule:
        return replace(schedule, log_dir=self.folder / "logs" / part)


def subtract_mean(items_ID: Floats) -> Floats:
    """The vectors less their mean, as search scores them: cosines above the catalogue's mean."""
    return items_ID - np.mean(items_ID, axis=0, dtype=np.float64).astype(np.float32)


def encoder_arguments(encoder: TransformerEncoder) -> dict[str, Any]:
    """How an encoder is used, as the constructor arguments of the next one."""
    names = ("query_prefix", "item_prefix", "max_tokens", "pooling")
    return {name: getattr(encoder, name) for name in names}


def _write_json(path: Path, content: Any) -> None:
    """By the first worker; every worker goes on when it is there."""
    if rank() == 0:
        path.write_text(json.dumps(content, indent=2) + "\n")
    from_first(None)


def _requests(encoder: Encoder, pairs: JudgedPairs) -> Requests:
    return Requests(
        size=len(pairs.queries),
        texts=pairs.queries,
        vectors_BD=encoder.encode_queries(pairs.queries),
    )


def _mine_negatives(
    encoder: Encoder, items_ID: Floats, lexical: LexicalIndex, train: JudgedPairs
) -> Rows:
    """Hard negatives: for each query the rows that the untuned encoder and BM25 rank from
    MINED_FROM on, near and mostly wrong."""
    requests = _requests(encoder, train)
    sources = ExactRetriever("dense", items_ID), LexicalRetriever(lexical)
    depth = min(LIST_DEPTH // 2 + MINED_FROM, len(items_ID))
    return np.concatenate(
        [source.retrieve(requests, depth).rows_BN[:, MINED_FROM:] for source in sources], axis=1
    )


def _distill(
    teacher: CrossEncoder, texts: Sequence[str], train: JudgedPairs, lists_QN: Rows
) -> JudgedPairs:
    """Every judged pair and every listed one, graded by the teacher (knowledge distillation, Hinton
    et al. 2015)."""
    queries, columns = np.nonzero(lists_QN >= 0)
    query_P = np.concatenate([train.query_P, queries])
    rows_P = np.concatenate([train.rows_P, lists_QN[queries, columns]])
    grades_P = teacher.scores(
        [train.queries[query] for query in query_P], [texts[row] for row in rows_P]
    )
    return JudgedPairs.from_unsorted(train.queries, query_P, rows_P, grades_P)
