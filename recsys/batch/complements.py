"""What goes with each item: a model learned from a sample of the baskets, then a block of items a
shard. Where too few baskets are there to learn from, the release has no such lists."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.arrays import Histories
from recsys.batch.ingest import history_parts
from recsys.batch.item_lists import neighbour_blocks
from recsys.batch.plan import NightRun, ShardResult
from recsys.batch.stages import Stage
from recsys.errors import InputError
from recsys.pipeline.sources import category_codes
from recsys.release import files
from recsys.release.arrow import IdMap, sellable_items
from recsys.retrieval.compatibility import Behaviour, Compatibility, ItemContent, ListedBehaviour
from recsys.retrieval.complements import complement_lists
from recsys.training.compatibility import fit_compatibility, sample_baskets
from recsys.types import Floats, Ints

#: Parts that the first stage leaves.
WEIGHTS, FORM, COUNTS = "compatibility_weights", "compatibility_form", "compatibility_counts"


def complement_stages(night: NightRun) -> list[Stage]:
    """One after the other, when lists by baskets and by content are there."""
    if not night.choices.complements:
        return []
    blocks = len(neighbour_blocks(night))
    return [
        Stage("compatibility", 1, learn_compatibility),
        Stage("complements", blocks, compute_complements, files.COMPLEMENTS),
    ]


def learn_compatibility(night: NightRun, shard: int) -> ShardResult:
    """From a sample of the baskets; leaves nothing where they are too few."""
    content = _content(night)

    def parts() -> Iterator[Histories]:
        return (histories for _, histories in history_parts(night))

    baskets_RI = sample_baskets(parts(), len(content.categories_I))
    result = ShardResult(baskets_RI.shape[0])
    behaviour = Behaviour.of(baskets_RI)
    try:
        model = fit_compatibility(content, behaviour, baskets_RI)
    except InputError:
        result.counts["too_few"] = 1
        return result
    arrays = {WEIGHTS: model.weights_F, FORM: model.form_SS, COUNTS: behaviour.counts_I}
    night.write_arrays(result, 0, arrays)
    return result


def compute_complements(night: NightRun, shard: int) -> ShardResult:
    """The lists of a block; nothing where nothing was learned."""
    block = neighbour_blocks(night)[shard]
    result = ShardResult(len(block))
    if not night.store.exists(night.work_path(f"{WEIGHTS}/00000.npy")):
        return result
    model = Compatibility(
        weights_F=np.array(night.read_array(WEIGHTS, 0)),
        form_SS=np.array(night.read_array(FORM, 0)),
    )
    items = night.open_table(files.ITEMS)
    rows_bK, scores_bK = complement_lists(
        model,
        _content(night),
        _behaviour(night),
        block,
        night.choices.complements,
        content_rows_IC=night.open_array(files.CONTENT_ROWS),
        sellable_I=sellable_items(items),
        groups_I=_group_codes(items),
    )
    night.write_arrays(
        result, shard, {files.COMPLEMENT_ROWS: rows_bK, files.COMPLEMENT_SCORES: scores_bK}
    )
    return result


def _behaviour(night: NightRun) -> ListedBehaviour:
    """Items of which the whole log says something are not new; how much they are in baskets, on the
    scale of the sample."""
    sampled_I, touches_TI = night.read_array(COUNTS, 0), night.open_array(files.TOUCHES)
    counts_I = touches_TI.sum(axis=0) * (sampled_I.sum() / max(touches_TI.sum(), 1))
    rows_IN, scores_IN = (night.open_array(file) for file in files.CO_OCCURRENCE)
    return ListedBehaviour.of(counts_I.astype(np.float32), rows_IN, scores_IN)


def _content(night: NightRun) -> ItemContent:
    """Made once a worker process."""
    if night.plan.version not in _CONTENT:
        _CONTENT.clear()
        items = night.open_table(files.ITEMS)
        _CONTENT[night.plan.version] = ItemContent.of(
            items,
            night.open_array(files.ITEM_VECTORS),
            category_codes(items),
            _main_pictures(night, items),
        )
    return _CONTENT[night.plan.version]


_CONTENT: dict[str, ItemContent] = {}


def _main_pictures(night: NightRun, items: pa.Table) -> Floats | None:
    """[I, E]: the vector of each item's first picture, zeros where it has none."""
    if not night.is_assembled(files.PICTURES) or not night.is_assembled(files.PICTURE_VECTORS):
        return None
    pictures = night.open_table(files.PICTURES)
    rows_G = IdMap(items["item_id"]).rows(pictures["item_id"])
    vectors_GE = night.open_array(files.PICTURE_VECTORS)
    rows, first = np.unique(rows_G, return_index=True)
    first, rows = first[rows >= 0], rows[rows >= 0]
    vectors_IE = np.zeros((items.num_rows, vectors_GE.shape[1]), np.float32)
    vectors_IE[rows] = vectors_GE[first]
    return vectors_IE


def _group_codes(items: pa.Table) -> Ints:
    """[I]: variants of one product have one number, -1 of none."""
    coded = items["group_id"].combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(coded.indices, -1)).astype(np.int64)
