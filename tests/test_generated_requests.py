"""Requests made from our own OpenAPI: nothing breaks, and every answer is as the description
says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve.routes.api import build_api
from tests.fake_shop import FakeShop

#: Over all routes. `NIGHTSHELF_GENERATED=10000 python -m pytest tests/test_generated_requests.py`
#: makes the full count.
REQUESTS = int(os.environ.get("NIGHTSHELF_GENERATED", "1000"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

ALL = list(HealthCheck)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "ray.serve")


@pytest.mark.slow
def test_no_generated_request_breaks_a_route(
    record_property: Callable[[str, object], None],
) -> None:
    described = schemathesis.openapi.from_asgi("/openapi.json", build_api(FakeShop()))
    operations = [result.ok() for result in described.get_all_operations()]
    counts, statuses = Counter[str](), Counter[int]()
    for operation in operations:
        while counts[operation.label] < REQUESTS / len(operations):
            before = counts[operation.label]
            for mode in schemathesis.GenerationMode:
                try:
                    ask(operation, mode, counts, statuses)
                except Unsatisfiable:  # what takes no parameters cannot be asked wrongly
                    assert mode == schemathesis.GenerationMode.NEGATIVE
            if counts[operation.label] - before < 5:  # there is one way to ask it, or hardly more
                break
    record_property("requests", f"{sum(counts.values())} {dict(counts)} {dict(statuses)}")
    assert len(counts) == len(operations) >= 9
    assert sum(counts.values()) >= 0.6 * REQUESTS
    assert {200, 422} <= set(statuses)


def ask(operation: Any, mode: Any, counts: Counter[str], statuses: Counter[int]) -> None:
    """As many requests again as would be half of an operation's share."""

    @seed(sum(counts.values()))
    @settings(
        max_examples=REQUESTS // 20,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=ALL,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: schemathesis.Case) -> None:
        answer = case.call()
        counts[operation.label] += 1
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    one()
