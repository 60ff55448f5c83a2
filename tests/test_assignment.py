from __future__ import annotations

from collections import Counter

import pytest
from scipy.stats import chi2_contingency, chisquare

from recsys.errors import InputError
from recsys.experiments.assignment import INTERLEAVED, Experiment, assign_arms, validate_experiments

USERS = [f"u{number}" for number in range(4000)]


def ab(name: str = "boost", **choices: object) -> Experiment:
    return Experiment(name=name, arms={"control": 1, "treatment": 1}, **choices)  # type: ignore[arg-type]


def test_shares_are_normalised_and_the_first_arm_is_the_control() -> None:
    experiment = Experiment(
        name="boost", arms={"control": 3, "treatment": 1}, rankers={"treatment": "trees"}
    )
    assert experiment.arms == {"control": 0.75, "treatment": 0.25}
    assert (experiment.control, experiment.layer) == ("control", "boost")
    assert (experiment.ranker("treatment"), experiment.ranker("control")) == ("trees", "")


def test_a_user_always_gets_the_same_arm_on_every_surface() -> None:
    experiments = [ab()]
    for user in USERS[:50]:
        assert assign_arms(experiments, "search", user) == assign_arms(
            experiments, "recommend", user
        )


def test_assignment_is_pinned() -> None:
    """A change of the hash would move every user of every experiment that runs."""
    arms = [assign_arms([ab()], "search", user)["boost"][0] for user in USERS[:12]]
    assert "".join(arms) == "tcttcccccctt"


def test_arms_get_their_shares() -> None:
    experiment = Experiment(name="boost", arms={"a": 0.5, "b": 0.3, "c": 0.2})
    counts = Counter(assign_arms([experiment], "search", user)["boost"] for user in USERS)
    assert chisquare([counts[arm] for arm in "abc"], [2000, 1200, 800]).pvalue > 0.001


def test_experiments_of_one_layer_exclude_each_other() -> None:
    experiments = [ab("one", layer="ranking", share=0.5), ab("two", layer="ranking", share=0.3)]
    found = Counter(tuple(assign_arms(experiments, "search", user)) for user in USERS)
    assert set(found) == {("one",), ("two",), ()}
    assert (
        chisquare([found[("one",)], found[("two",)], found[()]], [2000, 1200, 800]).pvalue > 0.001
    )


def test_layers_are_independent() -> None:
    experiments = [ab("one"), ab("two")]
    both = Counter(tuple(assign_arms(experiments, "search", user).values()) for user in USERS)
    table = [
        [both[(one, two)] for two in ("control", "treatment")] for one in ("control", "treatment")
    ]
    assert chi2_contingency(table).pvalue > 0.001


def test_another_seed_draws_other_arms() -> None:
    moved = sum(ab(seed=1).arm(user) != ab(seed=2).arm(user) for user in USERS)
    assert 0.45 < moved / len(USERS) < 0.55


def test_a_new_experiment_behind_moves_nobody() -> None:
    first, behind = ab("one", layer="ranking", share=0.5), ab("two", layer="ranking", share=0.5)
    for user in USERS[:200]:
        before = assign_arms([first], "search", user).get("one")
        assert assign_arms([first, behind], "search", user).get("one") == before


def test_only_the_named_surfaces_take_part() -> None:
    experiments = [ab(surfaces=("search",))]
    assert (
        assign_arms(experiments, "recommend", "u1")
        == assign_arms(experiments, "similar", "u1")
        == {}
    )


def test_interleaved_units_share_one_arm() -> None:
    assert assign_arms([ab(kind="interleave")], "search", "u1") == {"boost": INTERLEAVED}


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"arms": {"a": 1}}, "1 arms"),
        ({"arms": {"a": 1, "b": 0}}, "arm 'b' has the share 0"),
        ({"arms": {"a": 1, "b": float("nan")}}, "share nan"),
        ({"arms": {"a": 1, "interleaved": 1}}, "that name is taken"),
        ({"rankers": {"c": "trees"}}, "'c', which is no arm"),
        ({"share": 1.5}, "share of the layer is 1.5"),
        ({"kind": "abc"}, "kind is 'abc'"),
        ({"kind": "interleave", "arms": {"a": 1, "b": 1, "c": 1}}, "3 arms cannot share a list"),
        ({"surfaces": ("home",)}, "surfaces are ['home']"),
        ({"name": ""}, "no name"),
    ],
)
def test_what_cannot_be_meant_is_refused(choices: dict[str, object], told: str) -> None:
    with pytest.raises(InputError) as refused:
        Experiment(**{"name": "x", "arms": {"a": 1, "b": 1}, **choices})  # type: ignore[arg-type]
    assert told in str(refused.value)


def test_all_that_is_wrong_together_is_listed() -> None:
    experiments = [
        ab("one", layer="l", share=0.7),
        ab("one", layer="l", share=0.6, rankers={"treatment": "gone"}),
    ]
    with pytest.raises(InputError) as refused:
        validate_experiments(experiments, {"live"})
    for told in ("two are named 'one'", "1.3 of its traffic", "ranker 'gone': known are live"):
        assert told in str(refused.value)
    validate_experiments([ab(rankers={"treatment": "live"})], {"live"})
