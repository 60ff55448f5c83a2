"""The nouns. Frozen, and checked when made; this file imports nothing of ours.

Legend for array suffixes everywhere: B requests in a block, U users, I items, E events, Q queries,
N candidates, K answers, F features, D dimensions. Outside, items and users are strings; inside, an
item is its row in the release (int32). The crossing is `release.Release.rows_of` and
`Release.item_ids`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: An event's code is its place here; later ones are stronger signals of interest.
EVENT_TYPES = ("view", "click", "cart", "purchase")
PURCHASE = EVENT_TYPES.index("purchase")

#: Between the levels of a category: "grocery / frozen pizza".
BELOW = " / "
#: Between the paths of an item of several categories: no path has it.
NEXT_CATEGORY = "\n"
#: Between the references of an item's pictures, the main one first: no reference has it.
NEXT_PICTURE = "\n"
ATTRIBUTE_OPERATORS = ("eq", "gte", "lte", "gt", "lt")

#: `price` is the lowest first.
SORTS = ("relevance", "price", "-price", "newest", "popularity")

Ints = NDArray[np.integer[Any]]
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Item:
    """A catalogue row. Price is in the shop's currency; None where the shop has none. `list_price`
    is the higher one before a reduction; `currency` is its ISO 4217 code, "" where nothing says it.

    Variants of one product share a `group_id`; "" is no group. `added` is when the shop began to
    sell it. `category` is the first of `categories`. `attributes` are text to search,
    `attribute_values` the typed ones by name. What is `hidden` no answer shows or counts."""

    item_id: str
    title: str = ""
    description: str = ""
    category: str = ""
    brand: str = ""
    price: float | None = None
    in_stock: bool = True
    image: str = ""
    attributes: str = ""
    group_id: str = ""
    added: datetime | None = None
    list_price: float | None = None
    currency: str = ""
    gtin: str = ""
    mpn: str = ""
    hidden: bool = False
    categories: tuple[str, ...] = ()
    attribute_values: Mapping[str, AttributeValue] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """One thing a user did with one item. `request_id` names the answer that showed it, if one did.

    `origin` says where it was sent from, as a keyed hash of the client's address: equal ones came
    from one address."""

    event_id: str
    user_id: str
    item_id: str
    type: str
    time: datetime
    request_id: str | None = None
    quantity: float = 1.0
    price: float | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        if self.type not in EVENT_TYPES:
            raise ValueError(
                f"event type {self.type!r} is unknown: use one of {', '.join(EVENT_TYPES)}"
            )
        if self.time.tzinfo is None:
            raise ValueError(
                f"time {self.time.isoformat()} has no time zone: end it with Z for UTC"
            )


@dataclass(frozen=True)
class Quantity:
    """A number in a unit, as an attribute has it."""

    value: float
    unit: str


AttributeValue = str | bool | float | Quantity | tuple[str, ...] | tuple[float, ...]


@dataclass(frozen=True)
class AttributeFilter:
    """A condition on an attribute as a request writes it: `width` `lte` `60cm`.

    `operator` is one of ATTRIBUTE_OPERATORS; the release knows what the value means."""

    name: str
    operator: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What an answer's items must be. Empty fields do not filter; prices are inclusive bounds.

    Of several categories, brands, or values of one attribute an item needs one. `variants` are
    values that the text of a query names: an item that is a variant of a product and has another
    value does not pass. An item passes one at least of each of `any_of`, and none of `none_of`;
    counts of facets hold to these whatever is counted.
    """

    category: tuple[str, ...] = ()
    brand: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    in_stock: bool | None = None
    attributes: tuple[AttributeFilter, ...] = ()
    variants: tuple[AttributeFilter, ...] = ()
    any_of: tuple[tuple[Filters, ...], ...] = ()
    none_of: tuple[Filters, ...] = ()


@dataclass(frozen=True)
class ValueFacets:
    """Facets by value, of all that an answer has: `names` are `category`, `brand`, `price`,
    `in_stock` or attributes, every one where none is named. With a `text` only values in which each
    of its words begins one."""

    names: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Query:
    """One request: search when `text` is set, recommendation when it is not; an empty text browses
    everything that passes the filters, best sellers first.

    A search may ask for one of `SORTS`, for the page that begins at `offset`, for one item of each
    group (`collapse`), and for `facets`. A recommendation may ask for `diversity`, from 0 (as
    ranked) to 1 (as little alike as can be), and say what the user is interested in, in their
    own words. A further page may ask for the `snapshot` that the first one was of. `value_facets`
    take the place of `facets`; an answer that is not `logged` is no impression.

    `deadline` is a time of `time.perf_counter`: optional stages that have not begun by then are
    skipped."""

    request_id: str
    k: int = 10
    user_id: str | None = None
    text: str | None = None
    filters: Filters = field(default_factory=Filters)
    sort: str = "relevance"
    offset: int = 0
    collapse: bool = False
    facets: bool = False
    diversity: float = 0.0
    interest: str | None = None
    snapshot: str | None = None
    value_facets: ValueFacets | None = None
    logged: bool = True
    deadline: float = field(default=math.inf, compare=False)

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise ValueError(f"sort {self.sort!r} is unknown: use one of {', '.join(SORTS)}")
        if not 0 <= self.diversity <= 1:
            raise ValueError(f"diversity is {self.diversity}: give a number from 0 to 1")
        if self.interest is not None and not self.interest.strip():
            raise ValueError(
                f"interest is {self.interest!r}: say in words what the user wants, or leave it None"
            )

    @property
    def past_deadline(self) -> bool:
        return time.perf_counter() >= self.deadline


@dataclass(frozen=True, kw_only=True)
class QueryUnderstanding:
    """What a search text was taken to mean.

    `text` is as typed; `normalised` is what is searched: folded, corrected, without the price
    words. `language` is en, zh, mixed, other (a script we have no words for) or none (nothing to
    search). `corrections` are pairs (typed, taken for). `identifiers` are item ids that a code in
    the text names: all of them when `exact`, the whole text being one code. `facts` may hold brand,
    colour, size (as the catalogue spells them), min_price and max_price, and the shop's attributes
    by name; `price_currency` is the code, symbol or word that stands beside the price. `excluded`
    are words that the items must not have, `phrases` words that an item should have as they stand.
    `intent` is the likeliest class, None for "none of these", with its calibrated probability."""

    text: str
    normalised: str
    language: str = "none"
    corrections: tuple[tuple[str, str], ...] = ()
    identifiers: tuple[str, ...] = ()
    exact: bool = False
    facts: Mapping[str, str | float] = field(default_factory=dict)
    price_currency: str = ""
    excluded: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    intent: str | None = None
    intent_probability: float = 0.0


@dataclass(frozen=True)
class FacetCount:
    """How many of the found items have a value of a facet, and whether the request selects it. A
    range of numbers may have a unit."""

    value: str
    count: int
    selected: bool = False
    unit: str = ""


@dataclass(frozen=True)
class NumberStatistics:
    """Of the prices of an answer's items, or the numbers that they have of an attribute."""

    low: float
    high: float
    mean: float
    total: float


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The features that N items were ranked with: `values_NF` float32, a column a name.

    It stays an array from the ranker to the event log; only the edge names its columns (`row`)."""

    names: tuple[str, ...] = ()
    values_NF: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def __post_init__(self) -> None:
        if self.values_NF.ndim != 2 or self.values_NF.shape[1] != len(self.names):
            raise ValueError(
                f"features of shape {self.values_NF.shape} have {len(self.names)} names: "
                "give one a column"
            )

    def __len__(self) -> int:
        return len(self.values_NF)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, FeatureTable)
            and self.names == other.names
            and np.array_equal(self.values_NF, other.values_NF)
        )

    def row(self, place: int) -> dict[str, float]:
        """One item's features by name."""
        return dict(zip(self.names, self.values_NF[place].tolist(), strict=True))


@dataclass(frozen=True)
class VariantRange:
    """How many items a group has, and their prices from the lowest to the highest; None where none
    has a price."""

    count: int
    min_price: float | None
    max_price: float | None


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """One position of an answer: the item, its score, and the scores of the sources that retrieved
    it.

    `highlights` are the ranges (start, end) of the title's characters that match the query.
    `propensity` is the probability with which this item came to this position; `team` is the ranker
    that chose it where two are interleaved; `moved` says in words why it does not stand where its
    score puts it. `variants` is the range of its group where the item stands for it."""

    item: Item
    score: float
    sources: dict[str, float]
    highlights: tuple[tuple[int, int], ...] = ()
    propensity: float = 1.0
    team: str = ""
    moved: str = ""
    variants: VariantRange | None = None


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """An answer, best first, from exactly one release. `stages_ms` is the latency of each stage.

    `features` are those of `items`, row by row, where a ranker saw them. `ranker` names the model
    that made the scores, `arms` the arm of each experiment that the request is in. A search also
    has its understanding; `total`, how many items all pages have; `facets`, those by value with the
    `statistics` of their numbers; `relaxed`, in words,
    which of its constraints were dropped to find any; and `no_good_match` where even that found
    nothing worth showing. `skipped` names the stages that the deadline left no time for. `snapshot`
    is the release and the number of the last change of the catalogue that the answer is of."""

    request_id: str
    release: str
    items: tuple[ScoredItem, ...]
    features: FeatureTable = field(default_factory=FeatureTable)
    personalised: bool = False
    understanding: QueryUnderstanding | None = None
    total: int | None = None
    facets: Mapping[str, tuple[FacetCount, ...]] = field(default_factory=dict)
    statistics: Mapping[str, NumberStatistics] = field(default_factory=dict)
    relaxed: tuple[str, ...] = ()
    no_good_match: bool = False
    skipped: tuple[str, ...] = ()
    stages_ms: dict[str, float] = field(default_factory=dict, compare=False)
    ranker: str = ""
    arms: Mapping[str, str] = field(default_factory=dict)
    snapshot: str = ""


@dataclass(frozen=True, kw_only=True)
class Impression:
    """A logged answer: the items shown, in order, with the features that they were ranked with.
    Rankers are trained on these.

    Row i of `features` is item i as the ranker saw it, `scores[i]` the score that the model
    `ranker` gave it, `propensities[i]` the probability with which it came to position i (empty:
    the order was deterministic), `teams[i]` the ranker that chose it where two were interleaved.
    The page began at `offset`. `arms` names the arm of each experiment; `parameters` are the rest
    of the request, plain values as JSON has them. `sequence` is its number in the log it was read
    from."""

    request_id: str
    time: datetime
    release: str
    surface: str
    item_ids: tuple[str, ...]
    features: FeatureTable = field(default_factory=FeatureTable)
    user_id: str | None = None
    query: str | None = None
    offset: int = 0
    scores: tuple[float, ...] = ()
    propensities: tuple[float, ...] = ()
    teams: tuple[str, ...] = ()
    ranker: str = ""
    arms: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = field(default=0, compare=False)


@dataclass(frozen=True)
class PrivacyState:
    """What a user decided about what is known of them.

    What they did up to `forgotten` does not exist any more. While they have `opted_out` nothing
    that they do is logged, and their answers are those of a stranger."""

    forgotten: datetime | None = None
    opted_out: bool = False

    def allows(self, time: datetime) -> bool:
        """Whether something of that time may be kept."""
        return not self.opted_out and (self.forgotten is None or time > self.forgotten)


@dataclass(frozen=True)
class Vectors:
    """One row per id: `matrix_ND` float32. Dot products mean something only within one `space`."""

    ids: Sequence[str]
    matrix_ND: Floats
    space: str

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.matrix_ND):
            raise ValueError(
                f"{len(self.ids)} ids for {len(self.matrix_ND)} vectors: give one vector an id"
            )
