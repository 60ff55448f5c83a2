"""The product's own contenders: the learned user vector alone, everything, mixed, and that with its
dials turned."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import metrics
from recsys.encoders.text import item_texts
from recsys.errors import InputError
from recsys.evaluation.histories import EvalUsers, Split, truth
from recsys.evaluation.rivals import Factory, Recommend, Say
from recsys.interfaces import Ranker, UserModel
from recsys.pipeline import sources
from recsys.pipeline.candidates import ranked
from recsys.pipeline.mixing import Ask, asking
from recsys.pipeline.recommender import POOL
from recsys.ranking.diversity import reordered
from recsys.ranking.mixer import Mixer
from recsys.retrieval.similar import content_neighbours
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.types import Floats, Histories, Requests, Rows

CONTENT = 100
USERS_PER_BLOCK = 256
#: The share of items that are new while the mixer learns.
HIDDEN = 0.05
#: Validation users that the mixer learns from.
EXAMPLES = 6_000
#: What a history holds is no answer here, so nothing is bought again.
SOURCES = tuple(name for name in sources.SOURCES if name != "buy_again")
START = {"discovery": 1.0, "follows": 1.0, "content": 0.5, "popularity": 0.1}
#: By name, how nightshelf's answers are put in another order: their diversity, and the tail's share
#: of their places.
DIALS = {
    "nightshelf_tail_.1": (0.0, 0.1),
    "nightshelf_tail_.3": (0.0, 0.3),
    "nightshelf_diverse_.5": (0.5, 0.0),
}


def contenders(folder: Path) -> dict[str, Factory]:
    """By name."""
    shared = Learned(folder)
    dials = {name: shared.dialled(*dials) for name, dials in DIALS.items()}
    return {"user_vector": shared.user_vector, "nightshelf": shared.nightshelf, **dials}


class Learned:
    """Contenders that share what was trained: one user model a seed, kept in `folder`, and one
    mixture of sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[tuple[int, int], UserModel] = {}
        self._mixtures: dict[tuple[int, int], Recommend] = {}

    def user_vector(
        self, split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say
    ) -> Recommend:
        """The nearest items to the user's vector."""
        model = self._trained(split, items, items_ID, seed, say)
        places_ID = model.embed_items(items, items_ID)
        retriever = ExactRetriever("discovery", places_ID)

        def answer(asked: Histories, k: int) -> Rows:
            return retriever.retrieve(
                Requests(
                    size=len(asked),
                    texts=None,
                    vectors_BD=model.encode_history(asked, places_ID),
                    histories=asked,
                ),
                k,
            ).rows_BN

        return in_blocks(answer)

    def nightshelf(
        self, split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say
    ) -> Recommend:
        """All sources, mixed as best finds the validation items; InputError where those are asked
        for.

        While the mixer learns, HIDDEN of the items have no events, as new ones have in a shop: it
        learns what a source says where others cannot know."""
        pool = self._mixture(split, items, items_ID, seed, say)
        return lambda asked, k: pool(asked, POOL * k)[:, :k]

    def dialled(self, diversity: float, tail_share: float) -> Factory:
        """nightshelf whose k are chosen from its POOL x k best by `ranking.diversity.reordered`.

        The tail is that of the scores, `metrics.tail`; alike are items whose given vectors are.
        """

        def dial(split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say) -> Recommend:
            pool = self._mixture(split, items, items_ID, seed, say)
            tail_I = metrics.tail(split.counts_I)

            def recommend(asked: Histories, k: int) -> Rows:
                rows_UN, found = pool(asked, POOL * k), [np.empty((0, k), np.int32)]
                for low in range(0, len(asked), USERS_PER_BLOCK):
                    rows_BN = rows_UN[low : low + USERS_PER_BLOCK]
                    places_BK = reordered(rows_BN, items_ID, diversity, tail_I, tail_share, k)
                    found.append(np.take_along_axis(rows_BN, places_BK, axis=1))
                return np.concatenate(found)

            return recommend

        return dial

    def _mixture(
        self, split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say
    ) -> Recommend:
        """The sources' best, mixed; it remembers its answers, so that a dial costs no more than its
        own order."""
        if split.part != "test":
            raise InputError("its mixer learns from the validation items: score the test items")
        key = id(split), seed
        if key not in self._mixtures:
            model = self._trained(split, items, items_ID, seed, say)
            ask, mixer = mixture(model, split, items, items_ID, seed)
            say(
                "mixed by "
                + ", ".join(f"{name} {weight:.2f}" for name, weight in told(mixer).items())
            )
            self._mixtures[key] = remembered(mixed(ask, mixer))
        return self._mixtures[key]

    def _trained(
        self, split: Split, items: pa.Table, items_ID: Floats, seed: int, say: Say
    ) -> UserModel:
        key = id(split), seed
        if key not in self._models:
            from recsys.training.splits import NextItemTargets
            from recsys.training.user_recipe import UserModelRecipe
            from recsys.training.users import train_user_model
            from recsys.users.sequence import SequenceModel

            folder = self.folder / f"user_model-{seed}"
            foretold = NextItemTargets(split.valid.histories, split.valid.targets_U)
            recipe = UserModelRecipe.here(seed)
            fitted = train_user_model(
                split.train,
                foretold,
                items,
                items_ID,
                folder=folder,
                recipe=recipe,
                say=lambda line: say(f"  {line}"),
            )
            say(
                f"user model of seed {seed}: ndcg@10 {fitted.best:.4f} on validation, {fitted.seconds:.0f} s"
            )
            self._models[key] = SequenceModel(folder)
        return self._models[key]


def mixture(
    model: UserModel, split: Split, items: pa.Table, items_ID: Floats, seed: int
) -> tuple[Ask, Mixer]:
    """Sources fitted to `before_test`; the mixer learns from those of `train`, in a catalogue with
    HIDDEN items."""
    texts_I = np.asarray(pa.array(item_texts(items)).dictionary_encode().indices).astype(np.int64)
    everything = np.ones(len(items_ID), bool)
    near = content_neighbours(
        items, texts_I, centred(items_ID), range(len(items_ID)), CONTENT, allowed_I=everything
    )

    def ask(log: Histories, places_ID: Floats) -> Ask:
        now_days, content = float(log.days.max(initial=0)), (near.rows_BN, near.scores_BN)
        fitted = sources.fit(log, now_days, places_ID, content, sources.categories(items))
        return asking(fitted, SOURCES, model)

    hidden_I = np.random.default_rng(seed).random(len(items_ID)) < HIDDEN
    hidden = pc.if_else(pa.array(hidden_I), "", items["item_id"].combine_chunks())
    unknown = items.set_column(items.schema.get_field_index("item_id"), "item_id", hidden)
    asked = split.valid.histories
    training = ask(
        split.train.where(~hidden_I[split.train.items]), model.embed_items(unknown, items_ID)
    )
    valid = replace(split.valid, histories=asked.where(~hidden_I[asked.items]))
    return ask(split.before_test, model.embed_items(items, items_ID)), learned(training, valid)


def learned(ask: Ask, valid: EvalUsers) -> Mixer:
    """The mixer that finds the validation items of up to EXAMPLES users."""
    from recsys.training.mixer import fit_mixer, mixer_examples

    chosen_U = np.zeros(len(valid), bool)
    chosen_U[np.random.default_rng(0).permutation(len(valid))[:EXAMPLES]] = True
    some = valid.only(chosen_U)
    made = mixer_examples(
        lambda asked: ask(asked)[:2], some.histories, truth(some), USERS_PER_BLOCK
    )
    return fit_mixer(made, SOURCES, START)


def mixed(ask: Ask, ranker: Ranker) -> Recommend:
    """The sources' best, ranked."""

    def answer(asked: Histories, k: int) -> Rows:
        return ranked(ranker, SOURCES, *ask(asked), k).rows_BK

    return in_blocks(answer)


def remembered(recommend: Recommend) -> Recommend:
    """The same; who asks again what was asked before, with the same histories, is answered from
    memory."""
    answers: dict[tuple[bytes, int], Rows] = {}

    def recall(asked: Histories, k: int) -> Rows:
        digest = blake2b(digest_size=16)
        for values in (asked.offsets, asked.items, asked.types, asked.days):
            digest.update(values.tobytes())
        key = digest.digest(), k
        if key not in answers:
            answers[key] = recommend(asked, k)
        return answers[key]

    return recall


def in_blocks(answer: Recommend) -> Recommend:
    """The same, USERS_PER_BLOCK at a time; -1 pads to k."""

    def recommend(asked: Histories, k: int) -> Rows:
        rows_UK = np.full((len(asked), k), -1, np.int32)
        for low in range(0, len(asked), USERS_PER_BLOCK):
            high = min(low + USERS_PER_BLOCK, len(asked))
            rows_BN = answer(asked.slice(low, high), k)
            rows_UK[low:high, : rows_BN.shape[1]] = rows_BN
        return rows_UK

    return recommend


def centred(items_ID: Floats) -> Floats:
    """Unit vectors from the catalogue's middle: some encoders put everything near everything."""
    moved_ID = items_ID - items_ID[items_ID.any(axis=1)].mean(axis=0)
    moved_ID[~items_ID.any(axis=1)] = 0
    return moved_ID / np.maximum(np.linalg.norm(moved_ID, axis=1, keepdims=True), 1e-9)


def told(mixer: Mixer) -> dict[str, float]:
    """What each source weighs, over its views."""
    return dict(zip(mixer.feature_names, mixer.weights_GFV[0].sum(axis=1).tolist(), strict=True))
