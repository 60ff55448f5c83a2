"""What the day looks texts and vectors up in, over the whole catalogue: one shard an index."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.batch import log_copy
from recsys.batch.plan import NightRun, ShardResult
from recsys.batch.stages import Stage
from recsys.release import files
from recsys.release.arrow import visible_items
from recsys.retrieval.text.bm25 import LexicalIndex
from recsys.retrieval.text.fields import FIELD_BOOSTS, searchable_fields
from recsys.retrieval.vectors.relevance import DenseRelevance
from recsys.understanding.codes import CodeIndex
from recsys.understanding.suggestion_builder import build_suggestion_file


def index_stages(night: NightRun) -> list[Stage]:
    """All of them; faiss's only where the catalogue is larger than `ann_above`."""
    items = len(night.open_array(files.ITEM_VECTORS))
    return [
        Stage("lexical", 1, build_lexical),
        Stage("codes", 1, build_codes),
        Stage("suggestions", 1, build_suggestions),
        Stage("relevance", 1, calibrate_relevance),
        *([Stage("dense", 1, build_ann)] if items > night.choices.ann_above else []),
    ]


def build_lexical(night: NightRun, shard: int) -> ShardResult:
    """The BM25 index over the catalogue's fields."""
    items = night.open_table(files.ITEMS)
    with tempfile.TemporaryDirectory() as folder:
        languages = night.setup.catalogue.languages
        LexicalIndex.build(searchable_fields(items), FIELD_BOOSTS, languages).save(Path(folder))
        for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            name = f"{files.LEXICAL.name}{file.relative_to(folder).as_posix()}"
            night.assemble(name, file.read_bytes())
    return ShardResult(items.num_rows)


def build_suggestions(night: NightRun, shard: int) -> ShardResult:
    """Completions out of the catalogue and of past queries."""
    items = night.open_table(files.ITEMS)
    queries = pq.read_table(night.store.open(night.work_path(log_copy.QUERIES)))
    visible = items.filter(pa.array(visible_items(items)))
    night.assemble(files.SUGGESTIONS.name, build_suggestion_file(visible, queries))
    return ShardResult(items.num_rows)


def build_codes(night: NightRun, shard: int) -> ShardResult:
    """The codes in the catalogue's ids, titles, attributes, GTINs and part numbers."""
    items = night.open_table(files.ITEMS)
    index = CodeIndex.of_items(items)
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder))
        night.assemble(files.CODES.name, (Path(folder) / files.CODES.name).read_bytes())
    return ShardResult(items.num_rows, counts={"codes": len(index)})


def calibrate_relevance(night: NightRun, shard: int) -> ShardResult:
    """Which cosines chance reaches, with this encoder in this catalogue."""
    items_ID = night.open_array(files.ITEM_VECTORS)
    relevance = DenseRelevance.calibrate(night.setup.encoder().encode_queries, items_ID)
    night.assemble(files.RELEVANCE.name, relevance.to_json())
    return ShardResult(len(items_ID))


def build_ann(night: NightRun, shard: int) -> ShardResult:
    """The faiss index, for catalogues above the setup's size."""
    from recsys.retrieval.vectors import ivf

    items_ID = night.open_array(files.ITEM_VECTORS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / files.ANN.name
        ivf.write_ivf(ivf.build_ivf(items_ID, seed=0), file)
        night.assemble(files.ANN.name, file.read_bytes())
    return ShardResult(len(items_ID))
