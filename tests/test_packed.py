"""Packed sequences beside the same model padded, in fp32 on the CPU; compiled on a GPU alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recsys.encoders.batching import pack_sequences, random_tokens
from recsys.encoders.transformer import TransformerEncoder

torch = pytest.importorskip("torch")
from recsys.encoders import packed  # noqa: E402

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SMALL = {"vocab_size": 1000, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
#: A bidirectional encoder, one whose positions begin after the pad's, one with heads of 64, and
#: decoders whose heads share keys, one of them with heads wider than its states.
MODELS = {
    "bert": ("BertConfig", SMALL | {"intermediate_size": 256, "max_position_embeddings": 1024}),
    "roberta": (
        "XLMRobertaConfig",
        SMALL | {"intermediate_size": 256, "max_position_embeddings": 1026},
    ),
    "wide": (
        "BertConfig",
        SMALL | {"hidden_size": 256, "intermediate_size": 256, "max_position_embeddings": 1024},
    ),
    "llama": ("LlamaConfig", SMALL | {"intermediate_size": 256, "num_key_value_heads": 2}),
    "qwen": (
        "Qwen3Config",
        SMALL | {"intermediate_size": 256, "num_key_value_heads": 1, "head_dim": 64},
    ),
}


def saved(name: str, folder) -> str:  # type: ignore[no-untyped-def]
    import transformers

    kind, choices = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**choices)
    model = transformers.AutoModel.from_config(config)
    for parameter in model.parameters():  # as trained ones are, not all but equal
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flex attention as plain matrix products: rows must be short."""
    from torch.nn.attention.flex_attention import flex_attention

    monkeypatch.setattr(packed, "_flex_attention", flex_attention)
    monkeypatch.setattr(packed, "_layers", lambda model: [])
    monkeypatch.setattr("recsys.pretrained._can_prepack", lambda: False)


@pytest.mark.parametrize(
    ("name", "pooling"), [("bert", "mean"), ("roberta", "cls"), ("llama", "last"), ("qwen", "mean")]
)
def test_a_row_of_texts_is_encoded_as_each_alone(  # type: ignore[no-untyped-def]
    name: str, pooling: str, tmp_path, uncompiled: None
) -> None:
    encoder = TransformerEncoder(
        saved(name, tmp_path), pooling=pooling, max_tokens=100, device="cpu"
    )
    tokens = random_tokens(100, 1000)[:12]
    assert len(tokens.flatten()) > 2 * 256
    vectors = packed.PackedModel(encoder._model, pooling, row_tokens=200).encode(tokens)
    np.testing.assert_allclose(vectors, encoder.encode_padded(tokens), atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_block_of_queries_reads_all_keys_of_its_texts(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 200, 20)
    ids = np.arange(lengths.sum())
    for _, _, row in pack_sequences(ids, lengths, 8 * packed.BLOCK):
        counts, indices = packed.key_blocks(row[1:])
        for block, count in enumerate(counts):
            tokens = slice(block * packed.BLOCK, (block + 1) * packed.BLOCK)
            needed = np.arange(row[1, tokens].min(), row[2, tokens].max()) // packed.BLOCK
            assert indices[block, :count].tolist() == np.unique(needed).tolist()


def test_an_attention_that_flex_cannot_do_is_refused() -> None:
    query = torch.zeros(1, 2, 64, 8)
    with pytest.raises(NotImplementedError, match="heads of 8 dimensions"):
        packed._attend(None, query, query, query, None, scaling=1.0)
    with pytest.raises(NotImplementedError, match="needs softcap"):
        packed._attend(None, query, query, query, None, scaling=1.0, softcap=30.0)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("name", MODELS)
def test_packed_is_padded(name: str, pooling: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    choices = {"path_or_id": saved(name, tmp_path), "pooling": pooling, "max_tokens": 700}
    gpu, cpu = (
        TransformerEncoder(**choices, row_tokens=4096),
        TransformerEncoder(**choices, device="cpu"),
    )
    tokens = random_tokens(700, 1000)
    assert len(tokens.flatten()) > 4 * 4096
    assert gpu._packed is not None
    vectors, reference = gpu.encode_tokens(tokens), cpu.encode_tokens(tokens)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * reference).sum(axis=1).min() > 0.999
    np.testing.assert_array_equal(vectors, gpu.encode_tokens(tokens))


@pytest.mark.gpu
@on_gpu
def test_what_stands_beside_a_text_does_not_matter(tmp_path) -> None:  # type: ignore[no-untyped-def]
    encoder = TransformerEncoder(
        saved("bert", tmp_path), max_tokens=64, row_tokens=1001
    )  # no whole tiles
    tokens = random_tokens(64, 1000)
    backwards = tokens.take(pa.array(np.arange(len(tokens))[::-1]))
    likeness = (encoder.encode_tokens(tokens) * encoder.encode_tokens(backwards)[::-1]).sum(axis=1)
    assert likeness.min() > 0.9999


@pytest.mark.gpu
@on_gpu
def test_a_model_that_looks_through_a_window_is_encoded_padded(tmp_path, caplog) -> None:  # type: ignore[no-untyped-def]
    from transformers import AutoModel, MistralConfig

    config = MistralConfig(**SMALL, intermediate_size=256, num_key_value_heads=2, sliding_window=16)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    encoder = TransformerEncoder(str(tmp_path), max_tokens=64, row_tokens=1024)
    vectors = encoder.encode_tokens(random_tokens(64, 1000))
    assert encoder._packed is None
    assert "padded" in caplog.text
    assert np.isfinite(vectors).all()
