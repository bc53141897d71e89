"""Requests made up from the service's own description: none may end in a fault, or in what it does not say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import files, photo, serving

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with serving(tmp_path_factory.mktemp("openapi")) as (client, _):
        client.post("/v1/detect", files=files(photo(1), photo(-4)))
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        # A stream without end is no answer to compare.
        yield schema.exclude(path="/v1/events"), client


schema = schemathesis.pytest.from_fixture("usable")


@pytest.fixture(scope="module")
def usable(described: Any) -> Any:
    return described[0]


@schema.parametrize()
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_ends_in_a_fault(case: Any, described: Any) -> None:
    client = described[1]
    case.call_and_validate(session=client, base_url=str(client.base_url), checks=CHECKS)
