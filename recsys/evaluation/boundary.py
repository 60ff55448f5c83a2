"""Evaluation of the boundary of what a search finds: how much of it is relevant, whether the
cheapest of it is, and whether a text that fits nothing finds nothing; for each encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from recsys.datasets import data_folder
from recsys.datasets.completejourney import CompleteJourney
from recsys.datasets.judged_catalogue import JudgedCatalogue, read_judged_catalogue
from recsys.datasets.judgments import GOOD, USABLE, JudgedPairs
from recsys.datasets.labelled_texts import read_labelled_texts
from recsys.encoders import minilm, multilingual_e5
from recsys.encoders.hashing import HashingEncoder
from recsys.encoders.static import StaticEncoder, distill
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import NotFoundError
from recsys.evaluation.results import Criterion
from recsys.evaluation.search_systems import (
    NightshelfSystem,
    SearchCatalogue,
    query_parser,
    untrained_searcher,
)
from recsys.interfaces import Encoder
from recsys.intervals import bootstrap_mean
from recsys.metrics import Values, mean
from recsys.retrieval.text.analysis import index_terms, index_tokens
from recsys.retrieval.vectors.exact import top_k
from recsys.retrieval.vectors.relevance import pseudowords
from recsys.training.vectors import item_vectors
from recsys.types import Ints, Mask

#: The catalogue: the items judged for the queries, and others by chance up to this many.
ITEMS = 12_000
QUERIES = 400
FOREIGN_QUERIES = 200
#: Departments of completejourney that sell what no hardware shop does.
FRESH_FOOD = ("Produce", "Meat", "Meat-pckgd", "Deli", "Pastry", "Seafood", "Seafood-pckgd")
_STOP_WORDS = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with")
)
#: Where an English title stops naming the thing: "Door Lock in Brass", "Blade (2-Pack)".
_AFTER_HEAD = re.compile(r"\s(?:in|with|for|w/|by|from|at|-|–)\s|[,(]")
_AFTER_NAME = re.compile(r"\s(?:with|for|w/)\s|\(")
Say = Callable[[str], None]


def evaluate_boundary(
    folder: Path, models_folder: Path, seed: int = 0, say: Say = print, split: str = "test"
) -> list[Criterion]:
    """Acceptance criteria for each encoder as it comes, nothing trained, on `split` of a judged
    folder of English titles. Vectors and the distilled encoder are kept in `models_folder`."""
    shop = JudgedShop.of(read_judged_catalogue(folder), split, seed)
    catalogue = shop.catalogue
    unsold = foreign_queries(catalogue.items["title"].to_pylist(), seed)
    say(f"{len(catalogue.texts):,} items, {len(shop.queries):,} queries of {split}; of others:")
    say(", ".join(f"{len(texts)} {name}" for name, texts in unsold.items()))
    criteria = []
    for name, make in boundary_encoders(catalogue.texts, models_folder).items():
        encoder = make()
        vectors_ID = item_vectors(encoder, catalogue.texts, models_folder)
        words = encoder.words() if isinstance(encoder, TransformerEncoder) else frozenset()
        system = NightshelfSystem(
            query_parser(catalogue, words).parse,
            untrained_searcher(catalogue, encoder, vectors_ID),
            encoder,
        )
        row = boundary_row(system, shop, unsold, seed)
        say(f"{name}: " + ", ".join(f"{key} {mean(values):.3f}" for key, values in row.items()))
        criteria += _criteria(name, row)
    return criteria


def boundary_encoders(
    texts: Sequence[str], models_folder: Path
) -> dict[str, Callable[[], Encoder]]:
    """By name; the static one is distilled from MiniLM with the catalogue's texts."""

    def static() -> Encoder:
        folder = models_folder / "boundary_static"
        if not folder.exists():
            teacher = minilm()
            distill(teacher, folder, 256, texts, item_vectors(teacher, texts, models_folder))
        return StaticEncoder(str(folder))

    return {
        "minilm": minilm,
        "multilingual-e5-small": multilingual_e5,
        "static": static,
        "hashing": HashingEncoder,
    }


@dataclass(frozen=True, kw_only=True)
class JudgedQuery:
    """A real query, the rows of its relevant items, of items that are surely not, and of all that
    are relevant or of its own category."""

    text: str
    relevant: Ints
    irrelevant: Ints
    own_category_I: Mask


@dataclass(frozen=True)
class JudgedShop:
    """A catalogue with the queries that have a relevant item there."""

    catalogue: SearchCatalogue
    queries: tuple[JudgedQuery, ...]

    @classmethod
    def of(cls, judged: JudgedCatalogue, split: str, seed: int = 0) -> JudgedShop:
        """QUERIES of the split over ITEMS of the catalogue, drawn with the seed."""
        rng, pairs = np.random.default_rng(seed), judged.pairs[split]
        by_query = pairs.by_query()
        good = [at for at, (_, grades) in enumerate(by_query) if (grades >= GOOD).any()]
        chosen = [good[at] for at in rng.permutation(len(good))[:QUERIES]]
        rows = np.unique(np.concatenate([by_query[at][0] for at in chosen]))
        others = rng.permutation(np.setdiff1d(np.arange(judged.items.num_rows), rows))
        rows = np.sort(np.concatenate([rows, others[: max(0, ITEMS - len(rows))]]))
        place_I = np.full(judged.items.num_rows, -1)
        place_I[rows] = np.arange(len(rows))
        catalogue = SearchCatalogue.of(judged.items.take(pa.array(rows)))
        titles = catalogue.items["title"].to_pylist()
        unrelated = UnrelatedItems(judged.pairs.values(), place_I)
        heads, names = [head_noun(each) for each in titles], [_name_terms(each) for each in titles]
        queries = []
        for at in chosen:
            judged_rows, grades = place_I[by_query[at][0]], by_query[at][1]
            heads_of_own = {heads[row] for row in judged_rows[grades >= USABLE]}
            own_I = np.array([bool(heads_of_own & terms) for terms in names])
            own_I[judged_rows] = grades >= USABLE
            text = pairs.queries[at]
            queries.append(
                JudgedQuery(
                    text=text,
                    relevant=judged_rows[grades >= GOOD],
                    irrelevant=np.setdiff1d(unrelated.rows(text), judged_rows),
                    own_category_I=own_I,
                )
            )
        return cls(catalogue, tuple(queries))


class UnrelatedItems:
    """Judgements name few irrelevant items, and an unjudged item may be relevant. Surely irrelevant
    to a query is an item that was judged for others alone, none of which shares a word with it."""

    def __init__(self, splits: Iterable[JudgedPairs], place_I: Ints) -> None:
        """`place_I` numbers the items that count, -1 the others."""
        self._count = int(place_I.max()) + 1
        self._rows_of_word: dict[str, set[int]] = {}
        judged: set[int] = set()
        for pairs in splits:
            for text, (rows, _) in zip(pairs.queries, pairs.by_query(), strict=True):
                places = {int(place) for place in place_I[rows] if place >= 0}
                judged |= places
                for word in content_words(text):
                    self._rows_of_word.setdefault(word, set()).update(places)
        self._judged = np.array(sorted(judged), np.int64)

    def rows(self, query: str) -> Ints:
        """Ascending."""
        related_I = np.zeros(self._count, bool)
        for word in content_words(query):
            related_I[list(self._rows_of_word.get(word, ()))] = True
        return self._judged[~related_I[self._judged]]


def content_words(text: str) -> set[str]:
    """The stems of its words, without English function words, numbers and single letters."""
    stems = {token.stem for token in index_tokens(text)} - _STOP_WORDS
    return {stem for stem in stems if len(stem) > 1 and not stem.isdigit()}


def head_noun(title: str) -> str:
    """The last word of what an English title names: "Door Lock in Brass" is a lock."""
    words = [
        term for term in index_terms(_AFTER_HEAD.split(title)[0]) if term.isalpha() and term[2:]
    ]
    return words[-1] if words else ""


def _name_terms(title: str) -> set[str]:
    """The terms of a title up to what the thing comes with or is for."""
    return set(index_terms(_AFTER_NAME.split(title)[0]))


def foreign_queries(titles: Sequence[str], seed: int = 0) -> dict[str, list[str]]:
    """Texts that fit nothing in a hardware shop: made-up words; kinds of fresh food, questions to a
    bank and Chinese queries, but not those of which a title has all words."""
    rng = np.random.default_rng(seed)
    terms_I = [set(index_terms(title)) for title in titles]

    def sample(texts: Iterable[str]) -> list[str]:
        unique = sorted(set(texts))
        shuffled = (unique[at] for at in rng.permutation(len(unique)))
        fitting = (text for text in shuffled if not _is_in_one(text, terms_I))
        return [text for text, _ in zip(fitting, range(FOREIGN_QUERIES), strict=False)]

    sources: dict[str, Callable[[], list[str]]] = {
        "made_up": partial(pseudowords, FOREIGN_QUERIES, seed + 1),
        "food": fresh_food,
        "bank": _bank_questions,
        "chinese": _chinese_queries,
    }
    queries = {}
    for name, texts in sources.items():
        try:
            queries[name] = sample(texts())
        except NotFoundError:
            continue
    return queries


def _is_in_one(text: str, terms_I: Sequence[set[str]]) -> bool:
    terms = set(index_terms(text))
    return any(terms <= each for each in terms_I)


def fresh_food() -> list[str]:
    """The product types of completejourney's food departments, as words."""
    shop, kinds = CompleteJourney(), set[str]()
    for chunk in shop.item_chunks():
        items = shop.read_items(chunk)
        columns = (items[name].to_pylist() for name in ("title", "category"))
        for title, category in zip(*columns, strict=True):
            if (category or "").partition(" / ")[0] in FRESH_FOOD:
                kind = (title or "").partition(",")[0].lower()
                kinds.add(" ".join(re.findall("[a-z]{3,}", kind)))
    return sorted(kinds - {""})


def _bank_questions() -> list[str]:
    return read_labelled_texts(data_folder("cs_banking77") / "test.csv")[0]


def _chinese_queries() -> list[str]:
    path = data_folder("zh_multicpr_queries") / "dev.query.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.partition("\t")[2].strip() for line in lines]


def boundary_row(
    system: NightshelfSystem, shop: JudgedShop, unsold: dict[str, list[str]], seed: int = 0
) -> dict[str, Values]:
    """Values by metric: of what is found, the share that is relevant (of what is judged), the same
    where the 100 nearest count as found, always; `recall`; `cheapest`: whether the cheapest is
    relevant or of the query's own category, prices drawn with the seed; `refused` real queries and
    the others."""
    prices_I = np.random.default_rng(seed).permutation(len(shop.catalogue.texts))
    columns: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        columns.setdefault(name, []).append(value)

    for query in tqdm(shop.queries, "judged", disable=None, leave=False):
        matched_I = system.matches(query.text).matched_I
        nearest_I = nearest_always(system, query.text)
        add("precision", _precision(matched_I, query))
        add("precision/nearest_always", _precision(nearest_I, query))
        add("recall", matched_I[query.relevant].mean())
        add("recall/nearest_always", nearest_I[query.relevant].mean())
        for name, mask_I in (("cheapest", matched_I), ("cheapest/nearest_always", nearest_I)):
            rows = np.flatnonzero(mask_I)
            if len(rows):
                add(name, query.own_category_I[rows[prices_I[rows].argmin()]])
        add("refused/real", not matched_I.any())
        add("found", matched_I.sum())
    for name, texts in unsold.items():
        for text in tqdm(texts, name, disable=None, leave=False):
            add(f"refused/{name}", not system.matches(text).matched_I.any())
    return {name: np.array(values, np.float64) for name, values in columns.items()}


def nearest_always(system: NightshelfSystem, text: str) -> Mask:
    """[I]: what a search would find if every item with enough of the words and the 100 nearest
    counted."""
    parsed, searcher = system.parse(text), system.searcher
    coverage_I = searcher.lexical.index.coverage(parsed.understanding.normalised)
    enough = min(searcher.choices.min_term_coverage, coverage_I.max(initial=0.0))
    matched_I = (coverage_I >= enough) & (enough > 0)
    vector_D = system.encode(parsed.understanding.normalised)
    matched_I[top_k(vector_D[None], searcher.item_vectors_ID, 100)[0][0]] = True
    matched_I[parsed.code_rows] = True
    return np.asarray(matched_I, bool)


def _precision(matched_I: Mask, query: JudgedQuery) -> float:
    """NaN where nothing judged was found."""
    hits, misses = matched_I[query.relevant].sum(), matched_I[query.irrelevant].sum()
    return float(hits / (hits + misses)) if hits + misses else float("nan")


def _criteria(encoder: str, row: dict[str, Values]) -> list[Criterion]:
    """The boundary's acceptance criteria; precision against that with the nearest always."""
    base = mean(row["precision/nearest_always"])
    bounds: dict[str, tuple[float, float]] = {
        "precision": (1.5 * base, 2 * base),
        "recall": (0.9, 0.9),
        "cheapest": (0.9, 0.97),
        "refused/real": (0.05, 0.02),
    }
    foreign = [name for name in row if name.startswith("refused/") and name != "refused/real"]
    bounds |= dict.fromkeys(foreign, (0.95, 0.98))
    return [
        Criterion(
            name=f"{encoder} {name}",
            value=mean(row[name]),
            interval=bootstrap_mean(row[name]),
            floor=floor,
            goal=goal,
            at_most=name == "refused/real",
        )
        for name, (floor, goal) in bounds.items()
    ]
