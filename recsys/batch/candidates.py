"""User vectors and candidate lists: blocks of users through the same sources and ranker that serve
by day."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.batch import nearest
from recsys.batch.embed import user_space_item_vectors
from recsys.batch.ingest import USERS, users_table
from recsys.batch.plan import NightRun, ShardResult, one_batch
from recsys.pipeline import sources
from recsys.pipeline.candidates import find, packed
from recsys.release.release import histories_of, read_arrow, row_ranges
from recsys.types import Histories, Requests, utc_days


def embed_users(night: NightRun, part: int) -> ShardResult:
    """Vectors of the users of shard `part`, and the newest part of their histories, which the
    release keeps."""
    users = night.read_part("histories", part)
    known = histories_of(users).newest(night.choices.history)
    items_ID, model = user_space_item_vectors(night), night.setup.user_model()
    vectors_UD = np.zeros((len(known), items_ID.shape[1]), np.float32)
    for block in _blocks(night, known):
        vectors_UD[block.start : block.stop] = model.encode_history(
            known.slice(block.start, block.stop), items_ID
        )
    result = ShardResult(
        len(known), counts={"without_vector": int((~vectors_UD.any(axis=1)).sum())}
    )
    kept = users_table(users["user_id"].combine_chunks(), known)
    night.write_tables(result, f"users/{part:05d}.arrow", [one_batch(kept)], USERS)
    night.write_arrays(result, part, {"user_vectors": vectors_UD})
    return result


def rank_candidates(night: NightRun, part: int) -> ShardResult:
    """The best `night.candidates` items of each user, with the feature each source gave them;
    sellable items only."""
    known = histories_of(night.read_part("users", part))
    vectors_UD, n = night.read_array("user_vectors", part), night.choices.candidates
    ranker = night.setup.recommend_ranker()
    of, now_days = source_data(night, ranker.feature_names), utc_days(night.plan.now)
    asked = sources.sources(ranker.feature_names, of)
    near = nearest.NeighbourLists(night, part) if nearest.SOURCE in ranker.feature_names else None
    sellable_I = np.asarray(night.open_items()["in_stock"])
    rows_UN = np.full((len(known), n), -1, np.int32)
    features_UNF = np.zeros((len(known), n, len(asked)), np.float32)
    sources_UN = np.zeros((len(known), n), np.uint16)
    for block in _blocks(night, known):
        users = slice(block.start, block.stop)
        histories = known.slice(block.start, block.stop)
        requests = Requests(
            size=len(block),
            texts=None,
            vectors_BD=np.asarray(vectors_UD[users]),
            histories=histories,
            now_days=now_days,
        )
        found = find(
            near.substitute_into(asked, block) if near else asked, ranker, requests, n, sellable_I
        )
        width = slice(0, found.rows_BK.shape[1])
        rows_UN[users, width], features_UNF[users, width] = found.rows_BK, found.features_BKF
        sources_UN[users, width] = packed(found.brought_BKF)
    result = ShardResult(len(known), counts={"empty": int((rows_UN < 0).all(axis=1).sum())})
    lists: dict[str, np.ndarray] = {
        "candidates_rows": rows_UN,
        "candidates_features": features_UNF,
        "candidates_sources": sources_UN,
    }
    night.write_arrays(result, part, lists)
    return result


def source_data(night: NightRun, names: Sequence[str]) -> sources.Fitted:
    """What the sources are made of by day, out of the release in the making."""
    peers = histories_of(read_arrow(night.assembled_file("peers.arrow")))
    categories_I = sources.categories(night.open_items())
    now_days = utc_days(night.plan.now)
    return sources.read(
        names, night.open_array, user_space_item_vectors(night), now_days, categories_I, peers
    )


def _blocks(night: NightRun, known: Histories) -> list[range]:
    return row_ranges(len(known), night.choices.users_per_block)
