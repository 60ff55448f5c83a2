import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.retrieval.text.highlights import highlight_ranges
from recsys.retrieval.text.synonyms import Synonyms

GROUPS = Synonyms.parse(["sofa, couch", "手机, 移动电话", "cell phone, mobile"])


@pytest.mark.parametrize(
    ("query", "text", "hits"),
    [
        ("drills", "Cordless Drill 18V, drilling", ["Drill", "drilling"]),
        ("running sho", "Men's Running Shoes", ["Running", "Shoes"]),
        ("sho running", "Running Shoes", ["Running"]),
        ("c", "a c", ["c"]),
        ("c", "a cat", []),
        ("手机壳", "华为手机壳 Huawei", ["手机壳"]),
        ("蓝牙耳机", "耳机 蓝牙", ["耳机", "蓝牙"]),
        ("手", "女士手提包", ["手提包"]),
        ("fine", "a ﬁne ｆｉｎｅ x", ["ﬁne", "ｆｉｎｅ"]),
        ("cafe\u0301", "le cafe\u0301 noir", ["cafe\u0301"]),
        ("mailbox", "a Mail Box b", ["Mail Box"]),
        ("mail box", "Mailbox", ["Mailbox"]),
        ("1 2", "12", []),
        ("ab-123", "AB123, AB 123, AB_123", ["AB123", "AB 123", "AB_123"]),
        ("1/2 inches", "½ in. x 1/2in", ["½ in", "1/2in"]),
        ("1500 ml", "Kettle 1.5L, 2 l", ["1.5L"]),
        ('5"', "5-inch 5″ 5 ft", ["5-inch", "5″", "5"]),
        ("4x8", "4 x 8", ["4", "8"]),
        ("couches", "red SOFA", ["SOFA"]),
        ("手机", "新款移动电话", ["移动电话"]),
        ("mobile", "cell and Phone", ["cell", "Phone"]),
        ("mobile", "prison cell", []),
        ("", "drill", []),
        ("drill", "", []),
    ],
)
def test_hits(query, text, hits):
    assert [text[low:high] for low, high in highlight_ranges(query, text, GROUPS)] == hits


MIXED = st.text(st.sampled_from("ab -.'½x手机壳日のﾎﾞ한\u0301İßﬁ1"), max_size=30)


@given(st.one_of(st.text(max_size=30), MIXED), st.one_of(st.text(max_size=30), MIXED))
def test_ranges_are_inside_disjoint_and_ascending(query, text):
    flat = [place for pair in highlight_ranges(query, text, GROUPS) for place in pair]
    assert flat == sorted(set(flat))
    assert not flat or (flat[0] >= 0 and flat[-1] <= len(text))


@given(st.text(st.sampled_from("ab手机壳 "), max_size=20))
def test_a_text_hits_itself_at_both_ends(text):
    hits, bare = highlight_ranges(text, text), text.strip()
    start = len(text) - len(text.lstrip())
    assert (hits[0][0], hits[-1][1]) == (start, start + len(bare)) if bare else hits == ()
