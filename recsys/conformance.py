"""Every implementation of a seam, assigned to its Protocol: mypy fails where one does not fit.

Nothing here runs: add a line for a part of your own, in your own package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsys.datasets.completejourney import CompleteJourney
    from recsys.datasets.files import FilesAdapter
    from recsys.datasets.platforms.adapter import ItemsAndEvents
    from recsys.datasets.platforms.bigcommerce import BigCommerce
    from recsys.datasets.platforms.ga4 import Ga4
    from recsys.datasets.platforms.magento import Magento
    from recsys.datasets.platforms.merchant_feed import MerchantFeed
    from recsys.datasets.platforms.schema_org import SchemaOrg
    from recsys.datasets.platforms.segment import SegmentCalls
    from recsys.datasets.platforms.shopify import Shopify
    from recsys.datasets.platforms.snowplow import Snowplow
    from recsys.datasets.platforms.woocommerce import WooCommerce
    from recsys.datasets.uci_online_retail import UciOnlineRetail
    from recsys.datasets.yanxuan import Yanxuan
    from recsys.encoders.hashing import HashingEncoder
    from recsys.encoders.static import StaticEncoder
    from recsys.encoders.transformer import TransformerEncoder
    from recsys.events.archive import ArchivedEventLog
    from recsys.events.redis import RedisEventStore
    from recsys.events.spool import SpooledEventLog
    from recsys.events.sqlite import SqliteEventStore
    from recsys.interfaces import (
        ArchivableStore,
        Classifier,
        DatasetAdapter,
        Encoder,
        EventStore,
        ExplainableRanker,
        Ranker,
        Retriever,
        Scorer,
        UserModel,
    )
    from recsys.ranking.linear import LinearRanker, WeightedSum
    from recsys.ranking.mixer import Mixer
    from recsys.ranking.network import NetRanker
    from recsys.ranking.trees import TreeRanker
    from recsys.retrieval.behaviour.cooccurrence import CoOccurrenceRetriever
    from recsys.retrieval.behaviour.long_tail import LongTailRetriever
    from recsys.retrieval.behaviour.new_items import NewItemRetriever
    from recsys.retrieval.behaviour.popularity import (
        CategoryPopularityRetriever,
        PopularityRetriever,
    )
    from recsys.retrieval.behaviour.repurchase import RepurchaseRetriever
    from recsys.retrieval.behaviour.successors import SuccessorRetriever
    from recsys.retrieval.behaviour.user_knn import UserKnnRetriever
    from recsys.retrieval.interest import DeclaredInterest, InterestRanker
    from recsys.retrieval.text.bm25 import LexicalRetriever
    from recsys.retrieval.vectors.exact import ExactRetriever
    from recsys.retrieval.vectors.fp16 import Fp16Retriever
    from recsys.retrieval.vectors.ivf import IvfRetriever
    from recsys.retrieval.vectors.precomputed import PrecomputedNeighbours
    from recsys.understanding.intent import IntentClassifier
    from recsys.users.recency import RecencyMean
    from recsys.users.sequence import SequenceModel

    def encoders(a: HashingEncoder, b: StaticEncoder, c: TransformerEncoder) -> list[Encoder]:
        return [a, b, c]

    def user_models(a: RecencyMean, b: SequenceModel) -> list[UserModel]:
        return [a, b]

    def vector_retrievers(
        a: ExactRetriever, b: Fp16Retriever, c: IvfRetriever, d: PrecomputedNeighbours
    ) -> tuple[list[Retriever], list[Scorer]]:
        return [a, b, c, d], [a, b, c, d]

    def purchase_retrievers(
        a: CoOccurrenceRetriever, b: SuccessorRetriever, c: RepurchaseRetriever, d: UserKnnRetriever
    ) -> list[Retriever]:
        return [a, b, c, d]

    def catalogue_retrievers(
        a: PopularityRetriever,
        b: CategoryPopularityRetriever,
        c: NewItemRetriever,
        d: LongTailRetriever,
    ) -> list[Retriever]:
        return [a, b, c, d]

    def text_retrievers(a: LexicalRetriever, b: DeclaredInterest) -> list[Retriever]:
        return [a, b]

    def linear_rankers(
        a: WeightedSum, b: LinearRanker, c: InterestRanker
    ) -> tuple[list[Ranker], list[ExplainableRanker]]:
        return [a, b, c], [a, b, c]

    def learned_rankers(
        a: Mixer, b: TreeRanker, c: NetRanker
    ) -> tuple[list[Ranker], list[ExplainableRanker]]:
        return [a, b, c], [a, b, c]

    def classifiers(a: IntentClassifier) -> Classifier:
        return a

    def datasets(
        a: CompleteJourney, b: Yanxuan, c: UciOnlineRetail, d: FilesAdapter
    ) -> list[DatasetAdapter]:
        return [a, b, c, d]

    def platforms(
        a: Shopify, b: WooCommerce, c: Magento, d: BigCommerce, e: ItemsAndEvents
    ) -> list[DatasetAdapter]:
        return [a, b, c, d, e]

    def feeds_and_trackers(
        a: MerchantFeed, b: SchemaOrg, c: Ga4, d: SegmentCalls, e: Snowplow
    ) -> list[DatasetAdapter]:
        return [a, b, c, d, e]

    def event_logs(
        a: SqliteEventStore, b: RedisEventStore, c: ArchivedEventLog, d: SpooledEventLog
    ) -> tuple[list[EventStore], ArchivableStore]:
        return [a, b, c, d], b
