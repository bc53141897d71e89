"""The pictures of strangers through HTTP: each gets what it gets elsewhere, in bounded time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import serving
from starlette.testclient import TestClient

from hostile.inputs import IMAGES, SECONDS, Hostile

LARGEST = 64 * 2**20  # bytes; what is larger is a file of zeros, which nobody sends whole


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("hostile")) as (found, _):
        yield found


@pytest.mark.parametrize("one", IMAGES, ids=[one.name for one in IMAGES])
def test_it_gets_what_it_must(client: TestClient, one: Hostile, tmp_path: Path) -> None:
    path = one.plant(tmp_path)
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
        pytest.skip("this is about files, and nothing that HTTP carries")
    data = path.read_bytes()
    start = time.monotonic()
    answer = client.post("/v1/detect", files=[("files", (path.name, data))])
    took = time.monotonic() - start
    if one.refused is not None:
        assert answer.status_code == 415, answer.text
        assert re.search(one.refused, answer.json()["detail"])
        assert len(answer.json()["detail"]) < 1500
    else:
        assert answer.status_code == 200, answer.text
        [row] = answer.json()["results"]
        notes = " ".join(row["record"].get("notes", []))
        assert bool(notes) == (one.noted is not None)
        assert one.noted is None or re.search(one.noted, notes)
        assert client.get(row["thumbnail"]).status_code == 200
    assert took < 8 * SECONDS  # machines differ, and several tests share them
