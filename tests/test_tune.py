"""Numbers of the user model's recipe: put into it by name, and searched for by Ray Tune on a toy ring of items."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recsys.config import tiny
from recsys.errors import InputError
from recsys.training.loop import Schedule
from recsys.training.users import Recipe

RECIPE = Recipe(Schedule(20, 256, 1e-3, seed=7), dim=128)


def test_values_replace_fields_of_recipe_and_schedule():
    changed = RECIPE.with_values({"dim": 64.0, "shrinkage": 8, "learning_rate": 3e-3, "epochs": 0.5})
    schedule = replace(RECIPE.schedule, learning_rate=3e-3, epochs=0.5)
    assert changed == replace(RECIPE, schedule=schedule, dim=64, shrinkage=8.0)
    assert (type(changed.dim), type(changed.shrinkage)) == (int, float)


def test_the_values_of_a_recipe_give_it_again():
    other = Recipe(Schedule(60, 512, 5e-3, seed=7), dim=32, layers=3, heads=4, dropout=0.1, negatives=9)
    assert RECIPE.with_values(other.values()) == other
    assert RECIPE.with_values({}) == RECIPE == RECIPE.with_values(tiny().user_recipe)


@pytest.mark.parametrize("name", ["dimension", "seed", "schedule", "log_dir", "device", "with_values"])
def test_an_unknown_name_is_refused_and_the_known_ones_are_told(name):
    with pytest.raises(InputError, match=f"has no {name}: its numbers are dim, layers, .*learning_rate"):
        RECIPE.with_values({name: 1, "dim": 64})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"dim": 64.5}, "dim is 64.5: give a whole number"),
        ({"layers": float("nan")}, "layers is nan: give a whole number"),
        ({"layers": 0}, "layers is 0: give 1 or more"),
        ({"heads": 3}, "128 dimensions cannot be shared by 3 heads"),
        ({"dropout": 1.5}, "dropout is 1.5: give a share"),
        ({"shrinkage": -1}, "shrinkage is -1.0: give 0 events or more"),
        ({"learning_rate": 0}, "learning_rate is 0.0: give more than 0"),
    ],
)
def test_a_number_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(InputError, match=sentence):
        RECIPE.with_values(values)
