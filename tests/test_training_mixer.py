import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Histories
from recsys.ranking.merge import CandidateTable
from recsys.ranking.mixer import Mixer
from recsys.training.mixer import MixerExample, MixerRecipe, fit_mixer, mixer_examples
from recsys.types import PURCHASE

START = {"buy_again": 1.0, "sold": 0.05, "near": 0.05}
NAMES = tuple(START)
#: Lets a few hundred requests move the weights.
FREE = MixerRecipe(strength=0.1)


def drawn(requests=200, truth=("near",), seed=0, candidates=12):
    """Half of the candidates the user had; of these and of the others he takes the best by the
    sources `truth`."""
    rng = np.random.default_rng(seed)
    features_BNF = rng.random((requests, candidates, len(NAMES)), np.float32) + np.float32(0.01)
    features_BNF[:, candidates // 2 :, 0] = 0
    worth_BN = features_BNF[:, :, [NAMES.index(name) for name in truth]].sum(axis=2)
    labels_BN = np.zeros(worth_BN.shape, bool)
    for half in (slice(0, candidates // 2), slice(candidates // 2, candidates)):
        labels_BN[:, half] = worth_BN[:, half] == worth_BN[:, half].max(axis=1, keepdims=True)
    rows_BN = np.tile(np.arange(candidates, dtype=np.int32), (requests, 1))
    return MixerExample(rows_BN, features_BNF, labels_BN)


def first(mixer, example, half):
    """How often the best of one half is the one taken."""
    scores_BN = mixer.score(example.features_BNF)[:, half]
    return np.take_along_axis(
        example.labels_BN[:, half], scores_BN.argmax(axis=1)[:, None], axis=1
    ).mean()


HAD, NEW = slice(0, 6), slice(6, 12)


@pytest.mark.parametrize("truth", ["sold", "near"])
def test_the_source_that_foretells_is_found(truth):
    """The fixed weights believe in buy_again and in both others alike."""
    mixer = fit_mixer([drawn(truth=[truth])], NAMES, START, FREE)
    unseen = drawn(truth=[truth], seed=1)
    fixed = Mixer.of(START)
    for half in (HAD, NEW):
        assert first(mixer, unseen, half) > 0.9 > 0.6 > first(fixed, unseen, half)


def test_new_items_and_those_he_had_are_learned_apart():
    had, new = drawn(truth=["sold"]), drawn(truth=["near"])
    labels_BN = np.concatenate([had.labels_BN[:, HAD], new.labels_BN[:, NEW]], axis=1)
    example = MixerExample(had.rows_BN, had.features_BNF, labels_BN)
    mixer = fit_mixer([example], NAMES, START, FREE)
    assert first(mixer, example, HAD) > 0.95
    assert first(mixer, example, NEW) > 0.95


def test_what_is_never_taken_again_comes_last():
    """The bias alone can tell it: whatever the sources say, only new items are taken."""
    example = drawn()
    example.labels_BN[:, HAD] = False
    mixer = fit_mixer([example], NAMES, START)
    scores_BN = mixer.score(example.features_BNF)
    assert mixer.bias < 0
    assert scores_BN[:, NEW].max(axis=1).min() > scores_BN[:, HAD].max()


def test_the_share_of_new_lists_is_what_it_says():
    """With all of the weight on new lists, nothing is learned of what he had; with none, of new
    items still."""
    only_new = fit_mixer([drawn()], NAMES, START, MixerRecipe(new_share=1.0))
    begun = Mixer.of({name: 5 * weight for name, weight in START.items()})
    np.testing.assert_array_equal(only_new.weights_GFV[1], begun.weights_GFV[1])
    assert only_new.bias == 0
    assert (
        first(fit_mixer([drawn()], NAMES, START, MixerRecipe(new_share=0.0)), drawn(seed=1), NEW)
        > 0.9
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100))
def test_few_examples_leave_it_near_its_start(seed):
    begun = Mixer.of({name: 5 * weight for name, weight in START.items()}).weights_GFV
    moved = [
        np.abs(fit_mixer([drawn(requests, seed=seed)], NAMES, START).weights_GFV - begun).max()
        for requests in (1, 10, 200)
    ]
    assert moved[0] < moved[1] < moved[2]
    assert moved[0] < 1


def test_nothing_to_learn_from_is_the_start():
    silent = drawn(3)
    silent.labels_BN[:] = False
    for made in ([], [silent]):
        mixer = fit_mixer(made, NAMES, START, MixerRecipe(scale=2.0))
        np.testing.assert_allclose(
            mixer.weights_GFV, Mixer.of({n: 2 * w for n, w in START.items()}).weights_GFV
        )


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 30))
def test_neither_blocks_nor_pads_nor_the_day_matter(cut):
    """A pad is no candidate: else its score of 0 would stand beside every list."""
    whole = drawn(31)
    padded = MixerExample(
        np.pad(whole.rows_BN, ((0, 0), (0, 9)), constant_values=-1),
        np.pad(whole.features_BNF, ((0, 0), (0, 9), (0, 0))),
        np.pad(whole.labels_BN, ((0, 0), (0, 9))),
    )
    parts = [
        MixerExample(part.rows_BN[rows], part.features_BNF[rows], part.labels_BN[rows])
        for part, rows in ((whole, slice(0, cut)), (padded, slice(cut, 31)))
    ]
    together, apart = fit_mixer([whole], NAMES, START), fit_mixer(parts, NAMES, START)
    np.testing.assert_allclose(together.weights_GFV, apart.weights_GFV, atol=0.02)
    again = fit_mixer([whole], NAMES, START)
    np.testing.assert_array_equal(together.weights_GFV, again.weights_GFV)


def test_a_source_that_nobody_weighed_is_learned_too():
    mixer = fit_mixer([drawn()], NAMES, {"buy_again": 1.0, "sold": 0.05})
    assert mixer.feature_names == NAMES
    assert first(mixer, drawn(seed=1), NEW) > 0.95


@pytest.mark.parametrize("block", [1, 2, 3])
def test_examples_are_asked_in_blocks(block):
    """Three users, who are told items 5 and their first; they take 5; nothing; 9, which nobody
    told, and 2."""
    asked = Histories(
        offsets=np.array([0, 1, 2, 3]),
        items=np.array([0, 1, 2], np.int32),
        types=np.full(3, PURCHASE, np.int8),
        days=np.zeros(3),
    )
    truth = np.array([0, 1, 1, 3]), np.array([5, 9, 2], np.int32)
    sizes = []

    def ask(histories):
        sizes.append(len(histories))
        rows_BN = np.stack([np.full(len(histories), 5), histories.items], axis=1).astype(np.int32)
        features_BNF = rows_BN[:, :, None].astype(np.float32)
        return CandidateTable(("only",), rows_BN, features_BNF, features_BNF > 0)

    made = list(mixer_examples(ask, asked, truth, block))
    assert max(sizes) == block
    assert np.concatenate([one.rows_BN for one in made]).tolist() == [[5, 0], [5, 1], [5, 2]]
    assert np.concatenate([one.labels_BN for one in made]).tolist() == [
        [True, False],
        [False] * 2,
        [False, True],
    ]
