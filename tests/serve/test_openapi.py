"""Requests made up from the service's own description: none may end in a fault, or otherwise than it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import files, on_socket, photo

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

EXAMPLES = 5


def test_no_request_ends_in_a_fault(tmp_path: Path) -> None:
    with on_socket(tmp_path) as port:
        address = f"http://127.0.0.1:{port}"
        httpx.post(f"{address}/v1/detect", files=files(photo(1), photo(-4)), timeout=60)
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
        tried = set()
        # A stream without end is no answer to compare.
        for found in schema.exclude(path="/v1/events").get_all_operations():
            operation = found.ok()

            @given(case=operation.as_strategy())
            @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.generate])
            def holds(case: Any) -> None:
                case.call_and_validate(checks=CHECKS)

            holds()
            tried.add(operation.label)
        assert len(tried) >= 20
