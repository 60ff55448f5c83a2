"""Nightshelf's own systems for next-item recommendation: the user vector alone, all sources mixed,
and the mixture re-ranked for diversity or the long tail."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import metrics
from recsys.arrays import Histories, Requests
from recsys.encoders.text import item_texts
from recsys.errors import InputError
from recsys.evaluation.baselines import Recommend, Say, SystemFactory
from recsys.evaluation.leave_one_out import EvalUsers, LeaveOneOutSplit
from recsys.evaluation.next_item import ground_truth
from recsys.interfaces import Ranker, UserModel
from recsys.pipeline import sources
from recsys.pipeline.candidates import CandidateGenerator, candidate_generator, rank_table
from recsys.pipeline.recommender import POOL
from recsys.ranking.diversity import diversify_with_tail
from recsys.ranking.mixer import Mixer
from recsys.retrieval.similar import content_neighbours
from recsys.retrieval.vectors.exact import ExactRetriever
from recsys.types import Floats, Rows

#: Content neighbours of an item.
CONTENT = 100
USERS_PER_BLOCK = 256
#: The share of items that are new while the mixer is trained.
HIDDEN = 0.05
#: Validation users that the mixer is trained on.
EXAMPLES = 6_000
#: Lists leave out the items of the history, so nothing is bought again.
SOURCES = tuple(name for name in sources.SOURCES if name != "buy_again")
START = {"discovery": 1.0, "follows": 1.0, "content": 0.5, "popularity": 0.1}
#: By name, how nightshelf's lists are re-ranked: their diversity, and the tail's share of the
#: positions.
VARIANTS = {
    "nightshelf_tail_.1": (0.0, 0.1),
    "nightshelf_tail_.3": (0.0, 0.3),
    "nightshelf_diverse_.5": (0.5, 0.0),
}


def next_item_systems(folder: Path) -> dict[str, SystemFactory]:
    """The systems by name; user models are written to `folder`."""
    trained = TrainedSystems(folder)
    variants = {name: trained.reranked(*options) for name, options in VARIANTS.items()}
    return {"user_vector": trained.user_vector, "nightshelf": trained.nightshelf, **variants}


class TrainedSystems:
    """Systems that share their trained parts: one user model a seed, written to `folder`, and one
    mixture of sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[tuple[int, int], UserModel] = {}
        self._mixtures: dict[tuple[int, int], Recommend] = {}

    def user_vector(
        self, split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
    ) -> Recommend:
        """The items nearest to the user's vector."""
        model = self._user_model(split, items, items_ID, seed, say)
        user_space_ID = model.embed_items(items, items_ID)
        retriever = ExactRetriever("discovery", user_space_ID)

        def recommend(histories: Histories, k: int) -> Rows:
            vectors_BD = model.encode_history(histories, user_space_ID)
            requests = Requests(
                size=len(histories), texts=None, vectors_BD=vectors_BD, histories=histories
            )
            return retriever.retrieve(requests, k).rows_BN

        return in_blocks(recommend)

    def nightshelf(
        self, split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
    ) -> Recommend:
        """All sources, mixed by a ranker trained on the validation items; InputError where those
        are evaluated.

        While the mixer is trained, HIDDEN of the items have no events, like new items of a shop: it
        learns the weight of sources that need none."""
        pool = self._mixture(split, items, items_ID, seed, say)
        return lambda histories, k: pool(histories, POOL * k)[:, :k]

    def reranked(self, diversity: float, tail_share: float) -> SystemFactory:
        """nightshelf with its k chosen from the POOL x k best by
        `ranking.diversity.diversify_with_tail`.

        The tail is that of the metrics, `metrics.tail`; similarity is of the item vectors.
        """

        def factory(
            split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
        ) -> Recommend:
            pool = self._mixture(split, items, items_ID, seed, say)
            tail_I = metrics.tail(split.counts_I)

            def recommend(histories: Histories, k: int) -> Rows:
                rows_UN, lists = pool(histories, POOL * k), [np.empty((0, k), np.int32)]
                for low in range(0, len(histories), USERS_PER_BLOCK):
                    rows_BN = rows_UN[low : low + USERS_PER_BLOCK]
                    order_BK = diversify_with_tail(
                        rows_BN,
                        items_ID,
                        k,
                        diversity=diversity,
                        tail_I=tail_I,
                        tail_share=tail_share,
                    )
                    lists.append(np.take_along_axis(rows_BN, order_BK, axis=1))
                return np.concatenate(lists)

            return recommend

        return factory

    def _mixture(
        self, split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
    ) -> Recommend:
        """The candidates of all sources, mixed; cached, so that a variant costs only its
        re-ranking."""
        if split.part != "test":
            raise InputError(
                "its mixer is trained on the validation items: evaluate the test items"
            )
        key = id(split), seed
        if key not in self._mixtures:
            model = self._user_model(split, items, items_ID, seed, say)
            ask, mixer = fit_mixture(model, split, items, items_ID, seed)
            weights = (f"{name} {weight:.2f}" for name, weight in mixer_weights(mixer).items())
            say(f"mixed by {', '.join(weights)}")
            self._mixtures[key] = cached(mixed_system(ask, mixer))
        return self._mixtures[key]

    def _user_model(
        self, split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int, say: Say
    ) -> UserModel:
        key = id(split), seed
        if key not in self._models:
            from recsys.training.splits import NextItemTargets
            from recsys.training.user_recipe import UserModelRecipe
            from recsys.training.users import train_user_model
            from recsys.users.sequence import SequenceModel

            folder = self.folder / f"user_model-{seed}"
            valid = NextItemTargets(split.valid.histories, split.valid.targets_U)
            recipe = UserModelRecipe.for_machine(seed)
            fitted = train_user_model(
                split.train,
                valid,
                items,
                items_ID,
                folder=folder,
                recipe=recipe,
                say=lambda line: say(f"  {line}"),
            )
            say(
                f"user model of seed {seed}: ndcg@10 {fitted.best:.4f} on validation, "
                f"{fitted.seconds:.0f} s"
            )
            self._models[key] = SequenceModel(folder)
        return self._models[key]


def fit_mixture(
    model: UserModel, split: LeaveOneOutSplit, items: pa.Table, items_ID: Floats, seed: int
) -> tuple[CandidateGenerator, Mixer]:
    """Sources fitted to `before_test`, and the mixer trained on those of `train`, in a catalogue
    with HIDDEN items."""
    texts_I = np.asarray(pa.array(item_texts(items)).dictionary_encode().indices).astype(np.int64)
    allowed_I = np.ones(len(items_ID), bool)
    near = content_neighbours(
        items, texts_I, center_rows(items_ID), range(len(items_ID)), CONTENT, allowed_I=allowed_I
    )

    def ask(log: Histories, user_space_ID: Floats) -> CandidateGenerator:
        now_days, content = float(log.days.max(initial=0)), (near.rows_BN, near.scores_BN)
        data = sources.fit_source_data(
            log,
            now_days,
            items_ID=user_space_ID,
            content=content,
            categories_I=sources.category_codes(items),
        )
        return candidate_generator(data, SOURCES, model)

    hidden_I = np.random.default_rng(seed).random(len(items_ID)) < HIDDEN
    hidden = pc.if_else(pa.array(hidden_I), "", items["item_id"].combine_chunks())
    with_hidden = items.set_column(items.schema.get_field_index("item_id"), "item_id", hidden)
    histories = split.valid.histories
    training = ask(
        split.train.where(~hidden_I[split.train.items]), model.embed_items(with_hidden, items_ID)
    )
    valid = replace(split.valid, histories=histories.where(~hidden_I[histories.items]))
    return ask(split.before_test, model.embed_items(items, items_ID)), train_mixture(
        training, valid
    )


def train_mixture(generate: CandidateGenerator, valid: EvalUsers) -> Mixer:
    """A mixer trained to rank the validation items of up to EXAMPLES users."""
    from recsys.training.mixer import fit_mixer, mixer_examples

    chosen_U = np.zeros(len(valid), bool)
    chosen_U[np.random.default_rng(0).permutation(len(valid))[:EXAMPLES]] = True
    some = valid.where(chosen_U)
    examples = mixer_examples(generate, some.histories, ground_truth(some), USERS_PER_BLOCK)
    return fit_mixer(examples, SOURCES, START)


def mixed_system(generate: CandidateGenerator, ranker: Ranker) -> Recommend:
    """The candidates of all sources, ranked."""

    def recommend(histories: Histories, k: int) -> Rows:
        return rank_table(ranker, generate(histories), k).rows_BK

    return in_blocks(recommend)


def cached(recommend: Recommend) -> Recommend:
    """The system with a cache of its lists by histories and k."""
    lists: dict[tuple[bytes, int], Rows] = {}

    def lookup(histories: Histories, k: int) -> Rows:
        digest = blake2b(digest_size=16)
        for values in (histories.offsets, histories.items, histories.types, histories.days):
            digest.update(values.tobytes())
        key = digest.digest(), k
        if key not in lists:
            lists[key] = recommend(histories, k)
        return lists[key]

    return lookup


def in_blocks(recommend: Recommend) -> Recommend:
    """The system called for USERS_PER_BLOCK users at a time; -1 pads to k."""

    def recommend_all(histories: Histories, k: int) -> Rows:
        rows_UK = np.full((len(histories), k), -1, np.int32)
        for low in range(0, len(histories), USERS_PER_BLOCK):
            high = min(low + USERS_PER_BLOCK, len(histories))
            rows_BN = recommend(histories.slice(low, high), k)
            rows_UK[low:high, : rows_BN.shape[1]] = rows_BN
        return rows_UK

    return recommend_all


def center_rows(items_ID: Floats) -> Floats:
    """Unit vectors after the catalogue's mean is subtracted: some encoders put all items near each
    other."""
    centred_ID = items_ID - items_ID[items_ID.any(axis=1)].mean(axis=0)
    centred_ID[~items_ID.any(axis=1)] = 0
    return centred_ID / np.maximum(np.linalg.norm(centred_ID, axis=1, keepdims=True), 1e-9)


def mixer_weights(mixer: Mixer) -> dict[str, float]:
    """Each source's weight, summed over its views."""
    return dict(zip(mixer.feature_names, mixer.weights_GFV[0].sum(axis=1).tolist(), strict=True))
