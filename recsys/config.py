"""Choices as one frozen tree; a setup is a function that returns it.

`load("tiny")` finds a setup here, `load("my_shop.setups:winter")` one in a shop's own package: the
same string works for jobs and for serve. Parts are factories (`functools.partial`, classes,
functions): they pickle small and are called where the work is."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from recsys.catalogue.changes import CatalogueLog
from recsys.catalogue.redis import RedisCatalogueLog
from recsys.catalogue.spool import SpooledCatalogueLog
from recsys.catalogue.sqlite import SqliteCatalogueLog
from recsys.datasets.choices import CatalogueChoices
from recsys.datasets.completejourney import CompleteJourney
from recsys.datasets.yanxuan import Yanxuan
from recsys.demo.catalogue import ATTRIBUTES as DEMO_ATTRIBUTES
from recsys.demo.shop import SYNONYMS as DEMO_SYNONYMS
from recsys.demo.shop import demo_dataset
from recsys.encoders import minilm, multilingual_e5
from recsys.encoders.efficientnet import EfficientNetEncoder
from recsys.errors import InputError
from recsys.events.archive import ArchivedEventLog
from recsys.events.bots import BotLimits
from recsys.events.redis import RedisEventStore
from recsys.events.spool import SpooledEventLog
from recsys.events.sqlite import SqliteEventStore
from recsys.experiments.assignment import Experiment, validate_experiments
from recsys.experiments.exploration import Exploration
from recsys.interfaces import Classifier, DatasetAdapter, Encoder, EventStore, Ranker, UserModel
from recsys.pictures.choices import PictureChoices
from recsys.pipeline.hits import FEATURES
from recsys.pipeline.searcher import SearchChoices
from recsys.ranking.cross_encoder import CrossEncoder
from recsys.ranking.linear import RETAIL_WEIGHTS, SEARCH_WEIGHTS, LinearRanker
from recsys.release.checks import ReleaseLimits
from recsys.storage.files import below
from recsys.training.influence import OnlineConfig
from recsys.users.recency import RecencyMean

_REDIS = ("redis://", "rediss://")


@dataclass(frozen=True, kw_only=True)
class Night:
    """How the night is cut and what each worker gets. CPUs are Ray's logical ones; fractions are
    welcome.

    A worker of `encoder_*` size that looks for the users' nearest items holds at most
    `items_resident` of them: on a GPU dimensions x 2 bytes each, 0.8 GB a million of 384; on CPUs 4
    bytes, mapped from the file. Large numbers are rounded down to whole blocks of
    `exact.BLOCK_ITEMS`. With `complements` each item has a list of so many that go with it by a
    learned compatibility. `users_per_block` bounds what a worker holds for users. A night with more
    than `max_bad_share` of unusable rows is refused, and a release that `limits` do not pass. What
    accounts did that are `bots` is set aside."""

    items_per_shard: int = 250_000
    events_per_shard: int = 1_000_000
    texts_per_shard: int = 16_384
    pictures_per_shard: int = 256
    users_per_block: int = 512
    items_resident: int = 1_048_576
    candidates: int = 100
    similar: int = 50
    complements: int = 0
    neighbours: int = 100
    neighbours_per_shard: int = 8_192
    history: int = 500
    max_bad_share: float = 0.05
    limits: ReleaseLimits = field(default_factory=ReleaseLimits)
    bots: BotLimits = field(default_factory=BotLimits)
    keep_releases: int = 5
    ann_above: int = 1_000_000
    task_cpus: float = 1.0
    encoder_workers: int = 1
    encoder_cpus: float = 1.0
    encoder_gpus: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Day:
    """How the application is spread. `fused` encodes in the replica that answers; `split` in
    replicas of its own.

    A request's deadline is `deadline_ms` after it came: a stage that has not begun by then is
    skipped, and the answer names it. The cross-encoder stops `search_ms` after the request came. A
    replica handles `max_ongoing` requests at once and lets `max_queued` wait; more are refused.
    Changes of the catalogue are looked for every `changes_s`.
    `storefront` says whether /shop/ answers anybody who reaches this application, without a key;
    None: where there are no keys, which is on this machine alone.
    Between `replicas` and `max_replicas` (None: the same) there are as many as `target_ongoing`
    requests each call for. Browsers of `cors_origins` alone may ask. Log lines hold queries and
    user ids only with `log_queries`. Front-ends of Algolia know the shop as the index `index_name`.

    The learned ranker re-ranks the best `rerank_depth` candidates of the first stage; `explore` is
    the exploration policy; with `online` the net learns by day too. A recommendation that asks for
    no diversity gets `diversity` (0..1, `ranking.diversity`); at least `tail_share` of its places
    hold items of the long tail, while there are any. Raises InputError where a share is not within
    0..1."""

    layout: Literal["fused", "split"] = "fused"
    replicas: int = 2
    replica_cpus: float = 1.0
    encoder_replicas: int = 1
    encoder_cpus: float = 1.0
    encoder_gpus: float = 0.0
    batch_size: int = 16
    batch_wait_ms: float = 0.0
    refresh_s: float = 1.0
    changes_s: float = 0.1
    max_k: int = 100
    max_query_characters: int = 500
    search_ms: float = 150.0
    deadline_ms: float = 1000.0
    max_ongoing: int = 32
    max_queued: int = 256
    target_ongoing: float = 4.0
    max_replicas: int | None = None
    cors_origins: tuple[str, ...] = ()
    storefront: bool | None = None
    index_name: str = "products"
    log_queries: bool = False
    live_events: int = 200
    diversity: float = 0.0
    tail_share: float = 0.0
    rerank_depth: int = 100
    explore: Exploration = field(default_factory=Exploration)
    online: OnlineConfig | None = None

    def __post_init__(self) -> None:
        for name, share in (("diversity", self.diversity), ("tail_share", self.tail_share)):
            if not 0 <= share <= 1:
                raise InputError(f"{name} of the day is {share}: give a number from 0 to 1")


def retail_ranker() -> Ranker:
    return LinearRanker(RETAIL_WEIGHTS)


def search_ranker(weights: Mapping[str, float] = SEARCH_WEIGHTS) -> Ranker:
    """A ranker of `hits.FEATURES`; a feature without a weight does not count."""
    return LinearRanker({name: weights.get(name, 0.0) for name in FEATURES})


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything a night or a day needs to know. `dataset` is given the night's time, `until`;
    `catalogue` says how its cells are read. `catalogue_store` makes the log of the catalogue's
    changes by day; None: `catalogue_log(home)`.

    Without `pictures` the items' pictures are not read.

    `synonyms` is a file for `retrieval.synonyms`. What `jobs.train_models` published for this home
    takes the place of `encoder`, `search_ranker`, `cross_encoder` and `intent`: see
    `models.composition.with_models`. The numbers in `user_recipe` replace those by which the user
    model is trained (`training.user_recipe.UserModelRecipe.with_values`); `jobs.tune_user_model`
    finds them.

    `rankers` by name put a request's candidates in their last order, by features that
    `rerank.TABLE` names; training adds its own (`models.RANKERS`). `ranker` is the one that serves;
    `rerank.FIRST`, or one that is not there yet, leaves the order of `recommend_ranker` and
    `search_ranker`. `experiments` may give others their turn."""

    name: str
    home: str
    dataset: Callable[[datetime], DatasetAdapter]
    encoder: Callable[[], Encoder]
    event_store: Callable[[], EventStore]
    catalogue_store: Callable[[], CatalogueLog] | None = None
    user_model: Callable[[], UserModel] = RecencyMean
    recommend_ranker: Callable[[], Ranker] = retail_ranker
    search_ranker: Callable[[], Ranker] = search_ranker
    cross_encoder: Callable[[], CrossEncoder] | None = None
    intent: Callable[[], Classifier] | None = None
    search: SearchChoices = field(default_factory=SearchChoices)
    synonyms: str | None = None
    user_recipe: Mapping[str, float] = field(default_factory=dict)
    rankers: Mapping[str, Callable[[], Ranker]] = field(default_factory=dict)
    ranker: str = "net"
    experiments: tuple[Experiment, ...] = ()
    catalogue: CatalogueChoices = field(default_factory=CatalogueChoices)
    pictures: PictureChoices | None = None
    night: Night = field(default_factory=Night)
    day: Day = field(default_factory=Day)

    def __post_init__(self) -> None:
        # Rankers come and go with releases: one that is not there leaves the first stage's order
        # (`Reranker.teams`).
        validate_experiments(
            self.experiments, {name for each in self.experiments for name in each.rankers.values()}
        )

    def catalogue_log(self) -> CatalogueLog:
        """Opens the log of the catalogue's changes."""
        return (self.catalogue_store or catalogue_log(self.home))()


def home() -> str:
    """Where releases and the live event log lie: $NIGHTSHELF_HOME, by default ~/.nightshelf; any
    pyarrow.fs URI."""
    return os.environ.get("NIGHTSHELF_HOME", str(Path.home() / ".nightshelf"))


def event_log(root: str) -> Callable[[], EventStore]:
    """The live event log beside the releases, or at $NIGHTSHELF_EVENTS where those are not on a
    local disk.

    redis://HOST:PORT/0?prefix=SHOP (rediss:// with TLS) is a log for many hosts: drained into the
    home by each night, and spooled below $NIGHTSHELF_SPOOL (default ~/.local/state/nightshelf)
    while the server is down."""
    path = os.environ.get("NIGHTSHELF_EVENTS") or f"{root.removeprefix('file://')}/events.sqlite"
    if path.startswith(_REDIS):
        server, folder = _redis_server(path)
        live = partial(RedisEventStore, *server)
        return partial(SpooledEventLog, partial(ArchivedEventLog, live, root), folder)
    if "://" in path:
        raise InputError(
            f"the event log cannot lie at {path}: set NIGHTSHELF_EVENTS to a path on a local disk"
        )
    return partial(SqliteEventStore, path)


def catalogue_log(root: str) -> Callable[[], CatalogueLog]:
    """The log of the catalogue's changes: in the home, or where that is on no local disk beside the
    event log; in the event log's Redis server where it has one (`event_log`)."""
    events = os.environ.get("NIGHTSHELF_EVENTS", "")
    if events.startswith(_REDIS):
        server, folder = _redis_server(events)
        log = partial(RedisCatalogueLog, *server)
        return partial(SpooledCatalogueLog, log, folder / "catalogue")
    path = Path(root.removeprefix("file://")) / "catalogue.sqlite"
    if "://" in root.removeprefix("file://"):
        if not events or "://" in events:
            raise InputError(
                f"the catalogue log cannot lie at {root}: set NIGHTSHELF_EVENTS to a path on a "
                "local disk, or to the URL of a Redis server; or give the setup a catalogue_store"
            )
        path = Path(events).parent / path.name
    return partial(SqliteCatalogueLog, path)


def _redis_server(url: str) -> tuple[tuple[str, str], Path]:
    """The address without our own setting, and that; where on this host its spools lie."""
    parts = urlsplit(url)
    settings = dict(parse_qsl(parts.query))
    prefix = settings.pop("prefix", "nightshelf")
    address = urlunsplit(parts._replace(query=urlencode(settings)))
    spool = Path(os.environ.get("NIGHTSHELF_SPOOL") or Path.home() / ".local/state/nightshelf")
    digest = hashlib.sha256(url.rpartition("@")[2].encode()).hexdigest()[:16]
    return (address, prefix), spool / digest


def demo() -> Setup:
    """The default shop: made-up products with pictures, in English and Chinese, on a laptop with
    two cores. The encoder reads both languages: 95 MB to install, as MiniLM 88."""
    root = below(home(), "demo")
    return replace(
        tiny(),
        name="demo",
        home=root,
        dataset=demo_dataset,
        encoder=multilingual_e5,
        event_store=event_log(root),
        night=replace(tiny().night, texts_per_shard=256),
        synonyms=DEMO_SYNONYMS,
        catalogue=CatalogueChoices(attributes=DEMO_ATTRIBUTES, languages=()),
        pictures=PictureChoices(encoder=EfficientNetEncoder),
        # The 100 nearest of 900 items would be a ninth of the shop.
        search=SearchChoices(dense_k=20),
    )


def completejourney(until: datetime) -> DatasetAdapter:
    """Groceries: their year moved by whole weeks to end before the day of `until`."""
    return CompleteJourney(last_day=until.date() - timedelta(days=1))


def tiny() -> Setup:
    """The larger shop, of groceries, and the default encoder in fractions of a CPU: all of it
    fits on a laptop with two cores."""
    return Setup(
        name="tiny",
        home=home(),
        dataset=completejourney,
        encoder=minilm,
        event_store=event_log(home()),
        night=Night(
            items_per_shard=50_000,
            events_per_shard=500_000,
            texts_per_shard=4_096,
            task_cpus=1.0,
            encoder_workers=2,
            encoder_cpus=0.5,
        ),
        day=Day(replicas=2, replica_cpus=0.2, encoder_cpus=0.2, max_ongoing=8, max_queued=64),
    )


def yanxuan_goods(until: datetime) -> DatasetAdapter:
    """The Chinese shop: its log moved by whole weeks to end before the day of `until`."""
    return Yanxuan(last_day=until.date() - timedelta(days=1))


def yanxuan() -> Setup:
    """A Chinese and English catalogue of 814 items, searched in both languages; beside the default
    shop's home."""
    root = below(home(), "yanxuan")
    return replace(
        tiny(),
        name="yanxuan",
        home=root,
        dataset=yanxuan_goods,
        encoder=multilingual_e5,
        event_store=event_log(root),
        # The 100 nearest of 814 items would be an eighth of the shop.
        search=SearchChoices(dense_k=20),
    )


def load(name: str) -> Setup:
    """A setup by name: a function of this module, or `package.module:function` anywhere on the
    path."""
    module_name, _, function_name = name.rpartition(":")
    try:
        function = getattr(importlib.import_module(module_name or __name__), function_name)
        setup = function()
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(
            f"setup {name!r} cannot be loaded ({error}): name a function that returns a Setup, "
            "for example tiny or my_shop.setups:winter"
        ) from error
    if not isinstance(setup, Setup):
        raise InputError(
            f"setup {name!r} returned {type(setup).__name__}: return a recsys.config.Setup"
        )
    return setup
