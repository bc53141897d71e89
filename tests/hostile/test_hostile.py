"""Inputs of strangers get what they must, in bounded time and memory; the page that lists them is true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hostile import make_table
from hostile.inputs import INPUTS, SECONDS, Hostile

ROOT = Path(__file__).parents[2]
SLACK = 5  # machines differ, and several tests share them

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    program = [
        sys.executable,
        str(Path(__file__).with_name("try_inputs.py")),
        str(tmp_path_factory.mktemp("in")),
    ]
    where = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, env=where, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"after {len(lines)} inputs: {done.stderr[-2000:]}"
    return lines


@pytest.mark.parametrize(
    ("number", "one"), list(enumerate(INPUTS)), ids=[f"{i.door}: {i.name}" for i in INPUTS]
)
def test_it_gets_what_it_must(number: int, one: Hostile, found: list[dict[str, object]]) -> None:
    got = found[number]
    refused, notes = got["refused"], got["notes"]
    assert isinstance(notes, list)
    if one.refused is not None:
        assert isinstance(refused, str), notes
        assert re.search(one.refused, refused), refused
        assert refused.isprintable()
        assert len(refused) < 1500
    else:
        assert refused is None
        assert bool(notes) == (one.noted is not None), notes
        assert one.noted is None or re.search(one.noted, " ".join(notes)), notes
    assert isinstance(got["seconds"], float)
    assert got["seconds"] < SECONDS * SLACK


def test_the_page_lists_them_all() -> None:
    kept = make_table.PAGE.read_text(encoding="utf-8")
    assert kept == make_table.page(), (
        "inputs changed; write the page again: python tests/hostile/make_table.py"
    )
    assert len({(one.door, one.name) for one in INPUTS}) == len(INPUTS)
