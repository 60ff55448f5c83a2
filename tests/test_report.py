"""The release page, from a small invented release."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from recsys.release.checks import Check
from recsys.release.price_moves import PriceMoves
from recsys.release.report import ExampleAnswer, ExampleItem, ReportData, StageRow, render


def example_report() -> ReportData:
    random = np.random.default_rng(7)
    tea = ExampleItem("Oolong & <b>leaf</b> tea", "Tea · Moonhill", 7.5, ("lexical", "vectors"))
    pot = ExampleItem("Cast iron pot, 0.8 l", "Kitchen", None, ("co-occurrence",))
    return ReportData(
        version="2026-01-03T02.00.00Z",
        previous="2026-01-02T02.00.00Z",
        setup="tiny",
        space="minilm-384",
        commit="0c1b93c",
        counts={"items": 92_331, "events": 1_469_307, "users": 801, "quarantined": 3},
        quarantined={"price is negative": 2, "item_id is <empty>": 1},
        stages=[
            StageRow(name="items", rows=92_331, seconds=41.0, workers=2),
            StageRow(name="embed", rows=92_331, seconds=0.0, workers=2, skipped=True),
            StageRow(name="index", rows=92_331, seconds=0.0, workers=1),
        ],
        quality=[
            {"name": "popularity", "recall@10": 0.103},
            {"name": "nightshelf", "recall@10": 0.2871, "mrr": 0.5},
        ],
        checks=[
            Check("recall", True, "0.287 is above popularity's 0.103"),
            Check("lists", True, "none is empty"),
        ],
        price_moves=[
            PriceMoves(
                category="all categories", up=1_204, down=31, median_up=0.05, median_down=-0.333
            ),
            PriceMoves(
                category="Tea & <i>pots</i>", up=0, down=31, median_up=None, median_down=-0.333
            ),
        ],
        prices=random.lognormal(1.2, 0.8, 5_000),
        events_per_user=random.lognormal(6.5, 1, 801).astype(int),
        item_events=random.zipf(1.6, 5_000),
        list_scores={
            "vectors": random.normal(0.5, 0.1, 4_000),
            "lexical": random.gamma(2, 3, 4_000),
        },
        source_share={"vectors": 5_000, "lexical": 3_000, "co-occurrence": 2_000},
        searches=[
            ExampleAnswer(["oolong & tea"], [tea, pot]),
            ExampleAnswer(["nothing like it"], []),
        ],
        recommendations=[ExampleAnswer(["Green tea", "<i>Cup</i>"], [pot, tea])],
    )


class Parts(HTMLParser):
    """Tags that are open, what is loaded from elsewhere, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "srcset", "data", "action")
        ]
        self.loaded += ["script"] * (tag in ("script", "link", "iframe", "img"))
        if tag not in ("meta", "br", "use", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "br", "use", "path"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "br", "use", "path"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def page() -> str:
    return render(example_report())


def test_the_page_says_what_the_release_is(page: str) -> None:
    words = Parts(page).words
    for value in (
        "2026-01-03T02.00.00Z",
        "2026-01-02T02.00.00Z",
        "minilm-384",
        "0c1b93c",
        "1,469,307",
        "0.2871",
        "2,252",
        "1,204",
        "-33.3%",
    ):
        assert value in words
    assert "All 2 checks passed." in words
    assert "there already" in words
    assert "nothing came" in words


def test_what_shops_write_is_text(page: str) -> None:
    assert "<b>leaf" not in page
    assert "<i>Cup" not in page
    assert "Oolong & <b>leaf</b> tea" in "".join(Parts(page).words)


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    assert [link for link in Parts(page).loaded if not link.startswith("#")] == []
    assert re.findall(r"https?://|@import|url\((?!#)", page) == []


def test_the_page_is_well_formed_and_has_its_plots(page: str) -> None:
    assert Parts(page).open == []
    assert page.count("<figure>") == 5
    assert "#010203" not in page
    assert "var(--accent)" in page.split("</style>", 1)[1]


def test_the_same_release_makes_the_same_page(page: str) -> None:
    assert render(example_report()) == page


def test_a_failed_check_is_what_one_sees_first() -> None:
    page = render(
        replace(
            example_report(),
            checks=[Check("lists", False, "12 lists are empty"), Check("nan", True, "none")],
        )
    )
    assert "1 of 2 checks failed." in Parts(page).words
    assert "All" not in Parts(page).words


def test_a_first_release_with_nothing_to_plot() -> None:
    page = render(
        ReportData(
            version="v1",
            previous=None,
            setup="tiny",
            space="minilm-384",
            commit="0c1b93c",
            counts={"items": 0},
            prices=np.array([np.nan, 0.0]),
        )
    )
    assert "none: the first" in page
    assert "<figure>" not in page
    assert "<h2>" not in page


def test_without_numbers_there_are_none() -> None:
    bare = ReportData(version="v", previous=None, setup="s", space="x", commit="c", counts={})
    assert [each.size for each in (bare.prices, bare.events_per_user, bare.item_events)] == [0] * 3


def test_one_price_for_all_is_a_plot_too() -> None:
    assert "<figure>" in render(replace(example_report(), prices=np.full(10, 2.5)))
