"""Any Hugging Face transformer as a text encoder, from a folder or by its id."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from recsys.encoders.batching import pad_batch, random_tokens
from recsys.encoders.model_folders import resolve_model, sample_weights, weight_files
from recsys.encoders.tokens import WordTokenizer
from recsys.pretrained import load_pretrained
from recsys.types import Floats

if TYPE_CHECKING:
    from recsys.encoders.packed import PackedModel

Pooling = Literal["mean", "cls", "last"]
Dtype = Literal["float32", "bfloat16"]
#: Least cosine of packed to padded vectors over random texts; a model whose attention crosses the
#: bounds of texts is far below it.
MIN_COSINE = 0.99


class TransformerEncoder:
    """Pools the last hidden states of a transformer to unit vectors.

    Making one reads config.json and a MiB of the weights; `tokenize` loads the tokenizer alone;
    `load`, or the first `encode_tokens`, loads the model. `tokenize` is for items and writes
    `item_prefix` before each text."""

    def __init__(
        self,
        path_or_id: str,
        *,
        query_prefix: str = "",
        item_prefix: str = "",
        max_tokens: int = 128,
        pooling: Pooling = "mean",
        device: str | None = None,
        batch_size: int = 64,
        threads: int | None = None,
        name: str | None = None,
        row_tokens: int = 131_072,
        dtype: Dtype | None = None,
    ) -> None:
        """`device` is a GPU where there is one; `threads` bounds torch's CPU threads in this
        process; `name` begins the space, by default the last part of `path_or_id`. A text is cut at
        `max_tokens`. A GPU reads `row_tokens` of many texts at once (`packed.PackedModel`); a CPU,
        and a GPU for few, `batch_size` texts.

        Weights are bfloat16 on a GPU and float32 on a CPU, or of `dtype`: bfloat16 is nearly twice
        as fast on CPUs that compute in it (AVX512-BF16, AMX) and slow on others. The space is one:
        cosines between the two are above .999."""
        if pooling not in ("mean", "cls", "last"):
            raise ValueError(f"pooling {pooling!r} is unknown: use mean, cls or last")
        if dtype not in (None, "float32", "bfloat16"):
            raise ValueError(f"dtype {dtype!r} is unknown: use float32 or bfloat16")
        self.folder = resolve_model(path_or_id)
        self.query_prefix, self.item_prefix = query_prefix, item_prefix
        self.max_tokens, self.pooling = max_tokens, pooling
        self.device, self.threads, self.dtype = device, threads, dtype
        self.batch_size, self.row_tokens = batch_size, max(row_tokens, max_tokens)
        config = json.loads((self.folder / "config.json").read_bytes())
        self.dim = int(config.get("hidden_size") or config.get("d_model") or config["dim"])
        self.pad = int(config.get("pad_token_id") or 0)
        name = name or Path(path_or_id).name
        self.space = f"{name}-{self.dim}-{self._fingerprint()}"

    def words(self) -> frozenset[str]:
        """The whole words of the tokenizer's vocabulary, lower case: a dictionary of the
        language."""
        pieces = self._tokenizer.get_vocab()
        initial = [piece[1:] for piece in pieces if piece.startswith("\u2581")]
        whole = (
            initial or pieces
        )  # Unigram and BPE mark the beginning of a word, WordPiece all else
        return frozenset(word.casefold() for word in whole if word.isalpha())

    def tokenize(self, texts: Sequence[str]) -> pa.ListArray:
        """Token ids of item texts, at most `max_tokens` each, special tokens included."""
        return self._by_word([self.item_prefix + text for text in texts])

    def tokenize_queries(self, texts: Sequence[str]) -> pa.ListArray:
        """Token ids of queries, with `query_prefix` before each."""
        return self._tokenize([self.query_prefix + text for text in texts])

    def load(self) -> None:
        """On a GPU also compiles the packed model."""
        _ = self._model, self._packed

    def encode_tokens(self, tokens: pa.ListArray) -> Floats:
        if not len(tokens):
            return np.empty((0, self.dim), np.float32)
        if len(tokens.flatten()) >= self.row_tokens // 2 and self._packed is not None:
            return self._packed.encode(tokens)
        return self.encode_padded(tokens)

    def encode_padded(self, tokens: pa.ListArray) -> Floats:
        """As `encode_tokens`, in padded batches of `batch_size` texts of similar length: the
        reference implementation."""
        import torch

        lengths = tokens.value_lengths().to_numpy()
        longest_first = np.argsort(-lengths, kind="stable")
        with torch.inference_mode():
            batches = np.array_split(
                longest_first, range(self.batch_size, len(tokens), self.batch_size)
            )
            parts = [
                self._forward(*pad_batch(tokens.take(pa.array(batch)), self.pad))
                for batch in batches
            ]
            vectors_ND = torch.cat(parts).cpu().numpy()
        unsorted_ND = np.empty_like(vectors_ND)
        unsorted_ND[longest_first] = vectors_ND
        return unsorted_ND

    def encode_items(self, texts: Sequence[str]) -> Floats:
        return self.encode_tokens(self.tokenize(texts))

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        return self.encode_tokens(self.tokenize_queries(texts))

    def _tokenize(self, texts: list[str]) -> pa.ListArray:
        encodings = self._tokenizer.encode_batch_fast(texts)
        # A tokenizer without special tokens has no token for an empty text: it gets one pad.
        return pa.array(
            [encoding.ids or [self.pad] for encoding in encodings], pa.list_(pa.int32())
        )

    def _forward(self, ids: Any, lengths: Any) -> Any:
        import torch

        model = self._model
        ids_BT = torch.from_numpy(ids).to(model.device)
        lengths_B = torch.from_numpy(lengths).to(model.device)
        mask_BT = torch.arange(ids.shape[1], device=model.device) < lengths_B[:, None]
        hidden_BTD = model(
            input_ids=ids_BT, attention_mask=mask_BT.long()
        ).last_hidden_state.float()
        return torch.nn.functional.normalize(
            pool(hidden_BTD, mask_BT, lengths_B, self.pooling), dim=1
        )

    @cached_property
    def _by_word(self) -> WordTokenizer:
        return WordTokenizer(self._read_tokenizer(), self.max_tokens, self.pad)

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = self._read_tokenizer()
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    def _read_tokenizer(self) -> Any:
        """A `tokenizers.Tokenizer`, read directly where possible: importing transformers costs
        seconds."""
        if (self.folder / "tokenizer.json").exists():
            from tokenizers import Tokenizer

            return Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, use_fast=True).backend_tokenizer

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModel

        return load_pretrained(AutoModel, self.folder, self.device, self.threads, self.dtype)

    @cached_property
    def _packed(self) -> PackedModel | None:
        """The model over packed sequences, for many texts; None on a CPU, in float32, and where its
        vectors differ from the padded model's."""
        if self._model.device.type != "cuda" or self.dtype == "float32":
            return None
        from recsys.encoders.packed import PackedModel

        try:
            packed = PackedModel(self._model, self.pooling, self.row_tokens)
            tokens = random_tokens(self.max_tokens, self._model.config.vocab_size)
            cosine = float((packed.encode(tokens) * self.encode_padded(tokens)).sum(axis=1).min())
        except NotImplementedError as error:
            logging.getLogger(__name__).warning("%s is encoded padded: %s", self.space, error)
            return None
        if cosine < MIN_COSINE:
            logging.getLogger(__name__).warning(
                "%s is encoded padded: packed gives cosine %.4f", self.space, cosine
            )
            return None
        return packed

    def _fingerprint(self) -> str:
        """8 hex digits over config, tokenizer, pooling, prefixes, length and a sample of the
        weights."""
        digest = hashlib.blake2b(digest_size=4)
        recipe = [self.pooling, self.query_prefix, self.item_prefix, self.max_tokens]
        digest.update(json.dumps(recipe).encode())
        for path in [self.folder / "config.json", *sorted(self.folder.glob("tokenizer.json"))]:
            digest.update(path.read_bytes())
        for path in weight_files(self.folder):
            sample_weights(path, digest)
        return digest.hexdigest()


def pool(hidden_BTD: Any, mask_BT: Any, lengths_B: Any, pooling: str) -> Any:
    """Pooling of last hidden states to one vector a text [B, D]; `mask_BT` is False at pads."""
    if pooling == "cls":
        return hidden_BTD[:, 0]
    if pooling == "last":
        return hidden_BTD[range(len(hidden_BTD)), lengths_B - 1]
    return (hidden_BTD * mask_BT[:, :, None]).sum(dim=1) / lengths_B[:, None]
