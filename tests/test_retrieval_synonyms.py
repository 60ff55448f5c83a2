import pytest

from recsys.arrays import Requests
from recsys.errors import InputError, NotFoundError
from recsys.retrieval.text.analysis import tokenize
from recsys.retrieval.text.bm25 import LexicalIndex, LexicalRetriever
from recsys.retrieval.text.synonyms import Synonyms

FILE = """# furniture
sofa, couch, settee
i-phone 4 => telephone   # one way only

手机, 移动电话
cell phone, mobile
"""


@pytest.fixture
def synonyms(tmp_path):
    (tmp_path / "synonyms.txt").write_text(FILE, encoding="utf-8")
    return Synonyms.read(tmp_path / "synonyms.txt")


def found(synonyms, text):
    phrases = synonyms.matches(tokenize(text))
    return [
        (start, stop, "".join(token.folded for token in phrase)) for start, stop, phrase in phrases
    ]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("red sofas", [(1, 2, "couch"), (1, 2, "settee")]),
        ("iPhone 4 case", [(0, 2, "telephone")]),
        ("telephone", []),
        ("苹果手机壳", [(1, 2, "移动电话")]),
        ("移动电话", [(0, 1, "手机")]),
        ("a cell phone mobile", [(1, 3, "mobile"), (3, 4, "cellphone")]),
        ("cell", []),
        ("", []),
    ],
)
def test_finds_phrases(synonyms, text, answer):
    assert found(synonyms, text) == answer


def test_the_longest_phrase_wins():
    both = Synonyms.parse(["phone => handset", "cell phone => mobile"])
    assert found(both, "cell phone") == [(0, 2, "mobile")]


def test_lines_of_one_phrase_add_up():
    assert found(Synonyms.parse(["a1, b1", "c1, a1, b1"]), "a1") == [(0, 1, "b1"), (0, 1, "c1")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sofa", r"line 2 of .* is 'sofa', one phrase: name at least one other"),
        ("sofa, , couch", r"line 2 of .* has the phrase '', which has no word"),
        ("a => b => c", r"line 2 of .* has two arrows"),
        ("=> sofa", r"line 2 of .* has the phrase ''"),
        ("sofa, 🛋", r"line 2 of .* has the phrase '🛋', which has no word"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    (tmp_path / "bad.txt").write_text(f"# fine\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        Synonyms.read(tmp_path / "bad.txt")


def test_a_bad_file_is_a_sentence(tmp_path):
    with pytest.raises(NotFoundError, match="no file of synonyms"):
        Synonyms.read(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("café, bar".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8 at byte 3"):
        Synonyms.read(tmp_path / "latin.txt")
    (tmp_path / "empty.txt").write_bytes(b"\xef\xbb\xbf# nothing\n")
    assert len(Synonyms.read(tmp_path / "empty.txt")) == 0


TITLES = [
    "red sofa",
    "red couch",
    "red chair",
    "移动电话 新款",
    "手机壳",
    "mobile charger",
    "cell battery phone",
    "cell",
]


def test_a_synonym_counts_for_less_than_the_word_and_covers_as_much(synonyms):
    index = LexicalIndex.build({"title": TITLES}, {})
    plain, wide = index.scores("red sofa"), index.scores("red sofa", synonyms)
    assert plain[0] == wide[0], "the word itself scores as before"
    assert wide[0] > wide[1] > wide[2] == plain[2] == plain[1]
    assert index.coverage("red sofa", synonyms)[:3].tolist() == [
        1,
        1,
        index.coverage("red sofa")[2],
    ]


def test_an_item_with_both_words_counts_once(synonyms):
    index = LexicalIndex.build({"title": ["sofa couch", "sofa table", "x1", "x2"]}, {})
    scores = index.scores("sofa", synonyms)
    assert scores[0] == scores[1] > 0


@pytest.mark.parametrize(
    ("query", "row"),
    [("手机", 3), ("移动电话", 4), ("cell phone", 5), ("mobile", 6), ("settees", 0)],
)
def test_a_retriever_finds_by_synonyms(synonyms, query, row):
    retriever = LexicalRetriever(LexicalIndex.build({"title": TITLES}, {}), synonyms)
    requests = Requests(size=1, texts=(query,))
    assert row in retriever.retrieve(requests, 5).rows_BN[0]
    assert retriever.index.coverage(query, synonyms)[row] == pytest.approx(1)


def test_a_phrase_is_there_only_when_all_its_words_are(synonyms):
    index = LexicalIndex.build({"title": TITLES}, {})
    assert index.scores("mobile", synonyms)[7] == 0
