"""Texts end to end on a GPU beside the same model padded, in fp32 on the CPU."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recsys.encoders.batching import random_tokens
from recsys.encoders.transformer import TransformerEncoder

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

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
    packed, padded = gpu.encode_tokens(tokens), cpu.encode_tokens(tokens)
    np.testing.assert_allclose(np.linalg.norm(packed, axis=1), 1, atol=1e-5)
    assert (packed * padded).sum(axis=1).min() > 0.999
    np.testing.assert_array_equal(packed, gpu.encode_tokens(tokens))


def test_what_stands_beside_a_text_does_not_matter(tmp_path) -> None:  # type: ignore[no-untyped-def]
    encoder = TransformerEncoder(
        saved("bert", tmp_path), max_tokens=64, row_tokens=1001
    )  # no whole tiles
    tokens = random_tokens(64, 1000)
    backwards = tokens.take(pa.array(np.arange(len(tokens))[::-1]))
    likeness = (encoder.encode_tokens(tokens) * encoder.encode_tokens(backwards)[::-1]).sum(axis=1)
    assert likeness.min() > 0.9999


def test_a_model_that_looks_through_a_window_is_encoded_padded(tmp_path, caplog) -> None:  # type: ignore[no-untyped-def]
    from transformers import AutoModel, MistralConfig

    config = MistralConfig(**SMALL, intermediate_size=256, num_key_value_heads=2, sliding_window=16)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    encoder = TransformerEncoder(str(tmp_path), max_tokens=64, row_tokens=1024)
    vectors = encoder.encode_tokens(random_tokens(64, 1000))
    assert encoder._packed is None
    assert "padded" in caplog.text
    assert np.isfinite(vectors).all()
