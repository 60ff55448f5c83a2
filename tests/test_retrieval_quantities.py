"""Quantities in one normal form: spellings that any person reads in one way find each other."""

import numpy as np
import pytest

from recsys.attributes.units import normal_form, unit_words
from recsys.retrieval.text.analysis import fold_fractions, normal_forms_of
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.quantities import find_quantities


def forms(text):
    return sorted(quantity.text for quantity in find_quantities(fold_fractions(text)))


@pytest.mark.parametrize(
    ("normal", "spellings"),
    [
        ("3000 mm", "3m|3 m|3 metres|3-meter|3 metros|3 метра|3米|长3米|٣ متر|３ｍ|3 mètres"),
        ("1500 ml", "1,5 l|1.5L|1500 ml|150 cl|1½ Liter|1-1/2 litres|1,5 л|1.5升|1500毫升装"),
        ("1000 W", "1,000 W|1000w|1 kW|1 000 Watt|1'000 W|1000-watt"),
        ("127 mm", "5\"|5”|5″|5''|5 in|5 in.|5 inch|5-inch|5 Zoll|5 pouces|5 pulgadas|12.7cm"),
        ("12.7 mm", '.5 inch|0,5 in|1/2 in|½"|0-1/2 in'),
        ("609.6 mm", "2'|2′|2’|2 ft.|2-foot|24 in"),
        ("500 g", "500 гр|0,5 kg|500 gramos|500 г|500 gr."),
        ("18.5806 meter ** 2", "200 sq. ft.|200 square feet|200 sqft"),
        ("24 pcs", "24 pack|24-ct.|24 pieces"),
        ("m8 x 1.25", "M8 x 1.25|M8x1.25|M8 × 1,25"),
        ("185/60r14", "185/60R14|185/60 R14|185 60 r14|P185/60 R 14"),
    ],
)
def test_spellings_of_one_quantity(normal, spellings):
    assert {text: forms(text) for text in spellings.split("|")} == {
        text: [normal] for text in spellings.split("|")
    }


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("8 ft. x 10 ft.", ["2438.4 mm", "3048 mm"]),
        ("8x10 ft", ["2438.4 mm", "3048 mm"]),
        ("8 by 10' rug", ["2438.4 mm", "3048 mm"]),
        ("60 × 40 x 20 cm", ["200 mm", "400 mm", "600 mm"]),
        ("8x10, and 5 m", ["5000 mm"]),
        ("5'10\"", ["1524 mm", "254 mm"]),
        ("1.000 g", ["1 g", "1000 g"]),  # a comma or a point: nobody knows
        ("2.375 g", ["2.375 g"]),
    ],
)
def test_several_quantities(text, normal):
    assert forms(text) == normal


@pytest.mark.parametrize(
    "text", ["", "2 in 1", "2-in-1 tool", "iphone 5 s", "2 livres", "ab12 x", "1/0 in", "1.2.3 in"]
)
def test_no_quantity(text):
    assert forms(text) == []


def test_offsets_are_of_the_text_as_it_came():
    text = "Tür ½ Zoll, ５ｃｍ"
    spans = {text[quantity.start : quantity.end] for quantity in normal_forms_of(text)}
    assert spans == {"½ Zoll", "５ｃｍ"}


def test_units_have_one_meaning():
    """Every word for a unit has a normal form; that of no unit has none."""
    assert not [word for word in unit_words() if not normal_form(1, word)]
    assert normal_form(1, "chair") is None


TITLES = ["Cable 3m", "Cable 30 m", "Cable 5 m", "Kettle 1.5L", "Kettle 15 l", "Lamp 60 W 5 in."]
INDEX = LexicalIndex.build({"title": TITLES}, {})


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("cable 3 metres", ["Cable 3m"]),
        ("cable 300 cm", ["Cable 3m"]),
        ("kettle 1500 ml", ["Kettle 1.5L"]),
        ('lamp 5"', ["Lamp 60 W 5 in."]),
        ("cable 3", ["Cable 3m"]),  # 3 does not complete to 30
    ],
)
def test_items_with_the_quantity_cover_the_query(query, titles):
    coverage_I = INDEX.coverage(query)
    assert [TITLES[row] for row in np.flatnonzero(coverage_I > 0.999)] == titles
    assert TITLES[int(INDEX.scores(query).argmax())] == titles[0]


def test_a_number_is_not_completed_to_another():
    """Of 30 and 300 that start alike none stands for the other."""
    index = LexicalIndex.build({"title": ["rope 300", "rope 3000"]}, {})
    assert index.missing_terms("rope 30") == ("30",)
