"""Static token embeddings (model2vec): a text is the mean of its tokens' vectors, without a
transformer at run time; ten thousand texts a second on one CPU.

`distill` makes one from a transformer, a better one with the texts of the catalogue.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError, NotFoundError
from recsys.types import Floats, Mask

_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_POOLING = {"mean": "mean", "cls": "first", "last": "last"}
_TEXTS_AT_ONCE = 4_096
#: Of the ridge regression, for means of token vectors of about unit length.
RIDGE = 0.003
STEPS = 30
#: Length of the vectors of tokens that no text has, relative to the mean of those that some text
#: has.
UNSEEN = 0.5


class StaticEncoder:
    """The weighted mean of a text's token vectors, of unit length: any model2vec folder (Tulkens &
    van Dongen, 2024).

    Making one hashes the folder; `tokenize` loads the tokenizer alone; the first `encode_tokens`
    loads the table. A text without known tokens has the vector (1, 0, 0, ...). Items and queries
    are encoded alike, at any length."""

    def __init__(self, folder: str, name: str | None = None) -> None:
        """`name` begins the space, by default the folder's. Raises NotFoundError where there is no
        such model."""
        self.folder = Path(folder)
        missing = [file for file in _FILES if not (self.folder / file).is_file()]
        if missing:
            raise NotFoundError(
                f"{folder} has no {missing[0]}: "
                "name a folder that recsys.encoders.static.distill wrote"
            )
        config = json.loads((self.folder / "config.json").read_bytes())
        if config.get("model_type") != "model2vec":
            raise InputError(
                f"{folder} holds a model of type {config.get('model_type')!r}: distill it first"
            )
        self.dim = int(config["hidden_dim"])
        self.space = f"{name or self.folder.name}-{self.dim}-{self._fingerprint()}"

    def tokenize(self, texts: Sequence[str]) -> pa.ListArray:
        """Ids of the known tokens, as many as there are."""
        tokenizer, unknown = self._tokenizer
        encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = [[token for token in encoding.ids if token != unknown] for encoding in encodings]
        return pa.array(ids, pa.list_(pa.int32()))

    def load(self) -> None:
        _ = self.table_VD

    def encode_tokens(self, tokens: pa.ListArray) -> Floats:
        sums_ND = np.empty((len(tokens), self.dim), np.float32)
        for start in range(0, len(tokens), _TEXTS_AT_ONCE):
            block = tokens.slice(start, _TEXTS_AT_ONCE)
            sums_ND[start : start + len(block)] = self.token_weights(block) @ self.table_VD
        lengths_N = np.linalg.norm(sums_ND, axis=1)
        empty_N = lengths_N < 1e-12
        sums_ND[empty_N, 0] = lengths_N[empty_N] = 1
        return sums_ND / lengths_N[:, None]

    def encode_items(self, texts: Sequence[str]) -> Floats:
        return self.encode_tokens(self.tokenize(texts))

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        return self.encode_tokens(self.tokenize(texts))

    def token_weights(self, tokens: pa.ListArray) -> Any:
        """Sparse [N, V]: the weight of each row of the table in a text."""
        from scipy.sparse import csr_array

        ids = tokens.flatten().to_numpy()
        offsets = np.concatenate([[0], np.cumsum(tokens.value_lengths().to_numpy())])
        shape = (len(tokens), len(self.table_VD))
        return csr_array((self._weights[ids], self._rows[ids], offsets), shape=shape)

    @cached_property
    def table_VD(self) -> Floats:
        return self._tensors["embeddings"].astype(np.float32)

    @cached_property
    def _tokenizer(self) -> tuple[Any, int | None]:
        """The tokenizer, and the id of its unknown token."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        model = json.loads((self.folder / "tokenizer.json").read_bytes())["model"]
        unknown = model.get("unk_token")
        return tokenizer, tokenizer.token_to_id(unknown) if unknown else model.get("unk_id")

    @cached_property
    def _tensors(self) -> dict[str, NDArray[Any]]:
        from safetensors.numpy import load_file

        return load_file(self.folder / "model.safetensors")

    @cached_property
    def _weights(self) -> Floats:
        weights = self._tensors.get("weights")
        return (
            np.ones(len(self._rows), np.float32) if weights is None else weights.astype(np.float32)
        )

    @cached_property
    def _rows(self) -> NDArray[np.int32]:
        """Each token's row of the table; several share one where the vocabulary was quantised."""
        rows = self._tensors.get("mapping")
        return (
            np.arange(len(self.table_VD), dtype=np.int32) if rows is None else rows.astype(np.int32)
        )

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=4)
        for file in _FILES:
            digest.update((self.folder / file).read_bytes())
        return digest.hexdigest()


def distill(
    encoder: TransformerEncoder,
    folder: Path,
    dim: int = 256,
    texts: Sequence[str] = (),
    vectors_NE: Floats | None = None,
) -> None:
    """Writes a static encoder that imitates `encoder`; `folder` appears whole or not at all.

    Without texts this is model2vec: each token alone through the transformer, PCA, Zipf weights.
    With texts, the catalogue's (and past queries, where there are any), the token vectors are
    fitted so that a text's mean lies where the transformer puts the text: far closer, for one
    encoding of the texts. `vectors_NE` are their vectors by `encoder` where these exist
    already. Raises InputError where the folder exists, `dim` is more than the encoder's, or there
    is not one vector a text."""
    _check(encoder, folder, dim, texts, vectors_NE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        model = Path(aside) / "model"
        _model2vec(encoder, model, encoder.dim if texts else dim)
        if texts:
            targets_NE = encoder.encode_items(texts) if vectors_NE is None else vectors_NE
            _refit(model, texts, targets_NE, dim)
        model.rename(folder)


def _check(
    encoder: TransformerEncoder,
    folder: Path,
    dim: int,
    texts: Sequence[str],
    vectors_NE: Floats | None,
) -> None:
    if folder.exists():
        raise InputError(f"{folder} exists already: give a new folder, a space never changes")
    if not 1 <= dim <= encoder.dim:
        raise InputError(f"dim is {dim}: give 1 to {encoder.dim}, the encoder's own")
    if vectors_NE is not None and vectors_NE.shape != (len(texts), encoder.dim):
        raise InputError(
            f"vectors of shape {vectors_NE.shape} for {len(texts)} texts: "
            "give a vector of each text"
        )


def _model2vec(encoder: TransformerEncoder, folder: Path, dim: int) -> None:
    try:
        from model2vec.distill import distill_from_model
    except ImportError as error:
        raise NotFoundError(
            "distillation needs model2vec: pip install 'nightshelf[static]'"
        ) from error
    import torch
    from transformers import AutoModel, AutoTokenizer

    # float32: weights saved in fp16 do not run on a CPU.
    teacher = AutoModel.from_pretrained(encoder.folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(encoder.folder)
    pooling = _POOLING[encoder.pooling]
    model = distill_from_model(
        teacher, tokenizer, device=encoder.device, pca_dims=dim, pooling=pooling
    )
    model.config["tokenizer_name"] = encoder.space  # not a path of this machine
    model.save_pretrained(folder)
    _repair_unknown_id(folder / "tokenizer.json", tokenizer.unk_token)


def _repair_unknown_id(path: Path, unknown: str) -> None:
    """model2vec 0.8 takes special pieces out of a Unigram vocabulary and does not update
    its `unk_id`."""
    tokenizer = json.loads(path.read_bytes())
    if tokenizer["model"]["type"] == "Unigram":
        pieces = [piece for piece, _ in tokenizer["model"]["vocab"]]
        tokenizer["model"]["unk_id"] = pieces.index(unknown)
        path.write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")


def _refit(folder: Path, texts: Sequence[str], vectors_NE: Floats, dim: int) -> None:
    """Replaces the table of the model in `folder` by one fitted to the texts."""
    from safetensors.numpy import load_file, save_file

    encoder = StaticEncoder(str(folder))
    table_VD = fit_token_vectors(_means(encoder, texts), vectors_NE, encoder.table_VD, dim)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "embeddings": table_VD.astype(np.float16)}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(
        json.dumps({**config, "hidden_dim": dim, "apply_pca": dim}, indent=4)
    )


def _means(encoder: StaticEncoder, texts: Sequence[str]) -> Any:
    """Sparse [N, V]: weights of each text's tokens over their number."""
    tokens = encoder.tokenize(texts)
    counts_N = np.maximum(tokens.value_lengths().to_numpy(), 1).astype(np.float32)
    return encoder.token_weights(tokens) / counts_N[:, None]


def fit_token_vectors(means_NV: Any, vectors_NE: Floats, prior_VF: Floats, dim: int) -> Floats:
    """[V, dim]: token vectors whose means are nearest to the texts' vectors, these about their mean
    and in their `dim` main directions. Tokens that no text has keep `prior_VF`, mapped linearly
    into those."""
    centred_NE = vectors_NE - vectors_NE.mean(axis=0)
    _, directions_EE = np.linalg.eigh(centred_NE.T @ centred_NE)  # the last are the largest
    targets_ND = centred_NE @ directions_EE[:, ::-1][:, :dim]
    table_VD = _ridge(means_NV, targets_ND)
    seen_V: Mask = np.asarray(means_NV.sum(axis=0)) > 0
    mapping_FD, *_ = np.linalg.lstsq(means_NV @ prior_VF, targets_ND, rcond=None)
    prior_VD = prior_VF @ mapping_FD
    scale = UNSEEN * _mean_length(table_VD[seen_V]) / max(_mean_length(prior_VD[seen_V]), 1e-12)
    table_VD[~seen_V] = scale * prior_VD[~seen_V]
    return table_VD


def _mean_length(vectors_ND: Floats) -> float:
    return float(np.linalg.norm(vectors_ND, axis=1).mean()) if len(vectors_ND) else 0.0


def _ridge(means_NV: Any, targets_ND: Floats) -> Floats:
    """[V, D]: the least squares of means @ table - wanted with a penalty of RIDGE, by STEPS
    conjugate gradients."""
    residual_VD = means_NV.T @ targets_ND
    table_VD, direction_VD = np.zeros_like(residual_VD), residual_VD.copy()
    power_D = np.einsum("vd,vd->d", residual_VD, residual_VD)
    for _ in range(STEPS):
        image_VD = means_NV.T @ (means_NV @ direction_VD) + np.float32(RIDGE) * direction_VD
        step_D = power_D / np.maximum(np.einsum("vd,vd->d", direction_VD, image_VD), 1e-30)
        table_VD += step_D * direction_VD
        residual_VD -= step_D * image_VD
        before_D, power_D = power_D, np.einsum("vd,vd->d", residual_VD, residual_VD)
        direction_VD = residual_VD + power_D / np.maximum(before_D, 1e-30) * direction_VD
    return table_VD
