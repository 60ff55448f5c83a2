"""User vectors and candidate lists: blocks of users through the same sources and ranker that serve
by day."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import Histories, Requests, utc_days
from recsys.batch import nearest
from recsys.batch.embed import user_space_item_vectors
from recsys.batch.ingest import USERS, users_table
from recsys.batch.plan import NightRun, ShardResult, one_batch
from recsys.pipeline import sources
from recsys.pipeline.candidates import pack_source_bits, retrieve_and_rank
from recsys.release import files
from recsys.release.arrow import histories_of, row_ranges, sellable_items


def embed_users(night: NightRun, part: int) -> ShardResult:
    """Vectors of the users of shard `part`, and the newest part of their histories, which the
    release keeps."""
    users = night.read_part("histories", part)
    histories = histories_of(users).newest(night.choices.history)
    items_ID, model = user_space_item_vectors(night), night.setup.user_model()
    vectors_UD = np.zeros((len(histories), items_ID.shape[1]), np.float32)
    for block in _blocks(night, histories):
        vectors_UD[block.start : block.stop] = model.encode_history(
            histories.slice(block.start, block.stop), items_ID
        )
    counts = {"without_vector": int((~vectors_UD.any(axis=1)).sum())}
    result = ShardResult(len(histories), counts=counts)
    table = users_table(users["user_id"].combine_chunks(), histories)
    night.write_table(result, files.USERS, part, [one_batch(table)], USERS)
    night.write_arrays(result, part, {files.USER_VECTORS: vectors_UD})
    return result


def rank_candidates(night: NightRun, part: int) -> ShardResult:
    """The best `night.candidates` items of each user, with the feature each source gave them;
    sellable items only."""
    histories = histories_of(night.read_part(files.USERS, part))
    vectors_UD, n = night.read_array(files.USER_VECTORS, part), night.choices.candidates
    ranker, now_days = night.setup.recommend_ranker(), utc_days(night.plan.now)
    names = ranker.feature_names
    retrievers = sources.make_sources(names, source_data(night, names))
    neighbours = nearest.NeighbourLists(night, part) if nearest.SOURCE in names else None
    sellable_I = sellable_items(night.open_table(files.ITEMS))
    rows_UN = np.full((len(histories), n), -1, np.int32)
    features_UNF = np.zeros((len(histories), n, len(retrievers)), np.float32)
    sources_UN = np.zeros((len(histories), n), np.uint16)
    for block in _blocks(night, histories):
        users = slice(block.start, block.stop)
        requests = Requests(
            size=len(block),
            vectors_BD=np.asarray(vectors_UD[users]),
            histories=histories.slice(block.start, block.stop),
            now_days=now_days,
        )
        of_block = neighbours.substitute_into(retrievers, block) if neighbours else retrievers
        best = retrieve_and_rank(of_block, ranker, requests, n, allowed=sellable_I)
        width = slice(0, best.rows_BK.shape[1])
        rows_UN[users, width], features_UNF[users, width] = best.rows_BK, best.features_BKF
        sources_UN[users, width] = pack_source_bits(best.retrieved_BKF)
    counts = {"empty": int((rows_UN < 0).all(axis=1).sum())}
    result = ShardResult(len(histories), counts=counts)
    arrays: tuple[np.ndarray, ...] = (rows_UN, features_UNF, sources_UN)
    night.write_arrays(result, part, dict(zip(files.CANDIDATES, arrays, strict=True)))
    return result


def source_data(night: NightRun, names: Sequence[str]) -> sources.SourceData:
    """What the sources are made of by day, out of the release in the making."""
    items = night.open_table(files.ITEMS)
    return sources.read_source_data(
        names,
        night.open_array,
        items_ID=user_space_item_vectors(night),
        now_days=utc_days(night.plan.now),
        categories_I=sources.category_codes(items),
        peers=histories_of(night.open_table(files.PEERS)),
    )


def _blocks(night: NightRun, histories: Histories) -> list[range]:
    return row_ranges(len(histories), night.choices.users_per_block)
