import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.understanding.brands import Brands
from recsys.understanding.facts import extract_facts, extract_prices
from recsys.understanding.normalisation import normalise

BRANDS = Brands(
    [
        "Moen",
        "TP-Link",
        "GE",
        "ge",
        "Levi's",
        "General Electric",
        "General Electric Pro",
        "小米",
        "n/a",
        "",
        "X",
        "3M",
        "360",
    ]
)


@pytest.mark.parametrize(
    ("text", "low", "high", "rest"),
    [
        ("under $20 drill", None, 20, "drill"),
        ("drill below 20 dollars", None, 20, "drill"),
        ("lamp less than 50 usd", None, 50, "lamp"),
        ("drill for under $1,299.99", None, 1299.99, "drill"),
        ("drill $50 or less", None, 50, "drill"),
        ("tv up to $5k", None, 5000, "tv"),
        ("no more than $5 pen", None, 5, "pen"),
        ("max 20€ mug", None, 20, "mug"),
        ("over $100 saw", 100, None, "saw"),
        ("no less than $5 pen", 5, None, "pen"),
        ("$50+ drill", 50, None, "drill"),
        ("$10-$20 lamp", 10, 20, "lamp"),
        ("$10-20 lamp", 10, 20, "lamp"),
        ("lamp between $20 and $10", 10, 20, "lamp"),
        ("from 10 to 20 dollars", 10, 20, ""),
        ("over $10 under $20 pen", 10, 20, "pen"),
        ("kerze unter 19,99 €", None, 19.99, "kerze"),
        ("kerze unter 1.000 €", None, 1000, "kerze"),
        ("tisch von 10 bis 20 euro", 10, 20, "tisch"),
        ("tisch zwischen 1.299,50 und 1.500 euro", 1299.5, 1500, "tisch"),
        ("lampe à moins de 50 €", None, 50, "lampe"),
        ("chaise à partir de 20 euros", 20, None, "chaise"),
        ("silla entre 10 y 20 euros", 10, 20, "silla"),
        ("sedia meno di 40 euro", None, 40, "sedia"),
        ("cadeira até 40 reais", None, 40, "cadeira"),
        ("lamp tot 30 euro", None, 30, "lamp"),
        ("stół do 100 zł", None, 100, "stół"),
        ("lampa från 100 kr till 200 kr", 100, 200, "lampa"),
        ("лампа до 500 руб", None, 500, "лампа"),
        ("20 tl altında lamba", None, 20, "lamba"),
        ("20元以下的耳机", None, 20, "耳机"),
        ("不超过50块的杯子", None, 50, "杯子"),
        ("50块钱以内 杯子", None, 50, "杯子"),
        ("￥100以下手机壳", None, 100, "手机壳"),
        ("1千元以下 路由器", None, 1000, "路由器"),
        ("低于1.5万元 电脑", None, 15000, "电脑"),
        ("100元以上耳机", 100, None, "耳机"),
        ("不低于100元的鞋", 100, None, "鞋"),
        ("100-200元耳机", 100, 200, "耳机"),
        ("耳机100到200元之间", 100, 200, "耳机"),
        ("耳机￥100-￥200", 100, 200, "耳机"),
    ],
)
def test_price_bounds(text, low, high, rest):
    expected = {"min_price": low, "max_price": high}
    bounds, left = extract_prices(normalise(text))
    assert bounds == {name: value for name, value in expected.items() if value is not None}
    assert left == rest


@pytest.mark.parametrize(
    "text",
    ["under cabinet light", "over 30 inch range", "under 20", "less than 2 gallon", "10-20 screws",
     "$20 drill",
     "lamp $100 and 200 ft hose", "100以下", "between 10 and 20", "dollar tree", ""],
)  # fmt: skip
def test_no_price(text):
    assert extract_prices(text) == ({}, text)


@pytest.mark.parametrize(
    ("text", "brand"),
    [
        ("moen faucet", "Moen"),
        ("moens faucet", None),
        ("tp link router", "TP-Link"),
        ("tp-link", "TP-Link"),
        ("ge bulb", "GE"),
        ("gel bulb", None),
        ("general electric pro oven", "General Electric Pro"),
        ("general electric oven", "General Electric"),
        ("levis jeans", "Levi's"),
        ("levi's jeans", "Levi's"),
        ("新款小米手机", "小米"),
        ("大米手机", None),
        ("小米ge", "小米"),
        ("x n/a 360", None),
        ("3m tape", "3M"),
    ],
)
def test_brand(text, brand):
    assert extract_facts(text, BRANDS)[0].get("brand") == brand


@pytest.mark.parametrize(
    ("text", "colour", "size"),
    [
        ("grey shoes size 10.5", "gray", "10.5"),
        ("off white paint 5 gal.", "off-white", "5 gal"),
        ("xl 红色t恤", "红色", "XL"),
        ("粉红色 l码", "粉色", "L"),
        ("42码 鞋", None, "42"),
        ("2xl tee", None, "2XL"),
        ("10-1/2 in. strip", None, "10-1/2 in"),
        ("tile 12 in x 24 in. white", "white", "12 in x 24 in"),
        ("1.5米 桌布", None, "1.5米"),
        ("500ml bottle", None, "500ml"),
        ("whitehaus sinks, sizes of red6", None, None),
        ("红茶 100 w", None, None),
        ("10 inset lights", None, None),
    ],
)
def test_colour_and_size(text, colour, size):
    found = extract_facts(text, BRANDS)[0]
    assert (found.get("colour"), found.get("size")) == (colour, size)


def test_only_price_words_leave_the_text():
    found, rest = extract_facts("red moen faucet 10 in under $20", BRANDS)
    assert rest == "red moen faucet 10 in"
    assert found == {"max_price": 20.0, "brand": "Moen", "colour": "red", "size": "10 in"}


PIECES = ["under", "over", "$", "20", "-", "to", "元", "以下", "不超过", "between", "and", "k",
          "的", "usd", " ",
          "lamp", "1,000", ".5"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_nothing_is_left_to_find(text):
    bounds, rest = extract_prices(normalise(text))
    assert extract_prices(rest) == ({}, rest)
    assert set(bounds) <= {"min_price", "max_price"}
    assert (rest == normalise(text)) == (not bounds)
