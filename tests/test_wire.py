"""What the wire takes is what the types have."""

from typing import get_args

import pytest

from recsys.config import Day
from recsys.types import EVENT_TYPES, SORTS, Filters, Query
from serve.wire import Event, Filtered, Page, Prefix, RefusedError, Search, check_size, query_of

DAY = Day(max_k=20, max_query_characters=5)


def test_every_event_type_and_sort_is_known() -> None:
    assert get_args(Event.model_fields["type"].annotation) == EVENT_TYPES
    assert get_args(Search.model_fields["sort"].annotation) == SORTS


def test_a_page_becomes_a_query() -> None:
    assert query_of("r", Page(k=3), DAY) == Query("r", 3)
    assert query_of("r", Filtered(user_id="u", brand=["a", "b"]), DAY) == Query(
        "r", 10, "u", None, Filters((), ("a", "b"))
    )
    search = Search(q=" red ", k=2, sort="newest", offset=4, collapse=True, facets=True)
    assert query_of("r", search, DAY) == Query("r", 2, None, "red", Filters(), "newest", 4, True, True)


@pytest.mark.parametrize("asked", [Search(q="x" * 10_000), Prefix(q="x" * 10_000)])
def test_a_text_too_long_is_a_sentence(asked: Search | Prefix) -> None:
    with pytest.raises(RefusedError, match=r"^q is 'x{100}\.\.\.': give 1 to 5 characters"):
        check_size(asked, DAY)
