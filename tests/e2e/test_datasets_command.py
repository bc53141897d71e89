"""``zeroflaw datasets``."""

from __future__ import annotations

import json

import pytest

from zeroflaw.cli import main
from zeroflaw.datasets import LAYOUTS


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["datasets", *arguments])
    assert exit_.value.code == 0
    return capsys.readouterr().out


def test_table_says_layout_licence_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = printed(capsys).split("\n\n")
    assert len(blocks) == len(LAYOUTS)
    for block, layout in zip(blocks, LAYOUTS.values(), strict=True):
        assert block.startswith(f"{layout.name} ")
        assert all(f"    {pattern}\n" in block for pattern in layout.picture)
        assert f"  licence  {layout.licence}\n" in block
        assert f"  from     {layout.source}\n" in block


def test_json_has_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in printed(capsys, "--json").splitlines()]
    assert [row["name"] for row in rows] == list(LAYOUTS)
    assert rows[1]["aliases"]["macaroni2"] == "macaroni"
    assert all(set(row) == set(rows[0]) and row["layout"] and row["licence"] for row in rows)
