"""``zeroflaw datasets``, and what `evaluate` says of data sets that are not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import lines, measured, picture, refused, run
from zeroflaw.lab.datasets import LAYOUTS


def test_table_says_layout_licence_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("datasets") == 0
    blocks = capsys.readouterr().out.split("\n\n")
    for block, layout in zip(blocks, LAYOUTS.values(), strict=True):
        assert block.startswith(f"{layout.name} ")
        assert all(f"    {pattern}\n" in block for pattern in layout.picture)
        assert f"  licence  {layout.licence}\n" in block
        assert f"  from     {layout.source}\n" in block
    assert run("datasets", "--json") == 0
    rows = lines(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(LAYOUTS)
    assert rows[1]["aliases"]["macaroni2"] == "macaroni"
    assert all(set(row) == set(rows[0]) and row["layout"] and row["licence"] for row in rows)


def test_sorted_photos_and_a_table_of_which_a_row_is_not_there(tmp_path: Path, tiny_backbone: Path) -> None:
    for number, name in enumerate(("good/0", "good/1", "cracked/0", "cracked/1")):
        picture(tmp_path / "bowl" / f"{name}.png", number)
    table = tmp_path / "bowl" / "shift.csv"
    command = ("--detector", "clip", "--backbone", f"local-dir:{tiny_backbone}", "-q", "-o")
    assert run("evaluate", tmp_path / "bowl", *command, tmp_path / "sorted") == 0
    table.write_text("image,label\ngood/0.png,0\ngood/1.png,0\ncracked/0.png,1\ncracked/9.png,1")
    assert run("evaluate", table, "--layout", "csv", *command, tmp_path / "table") == 0
    (whole,), (part,) = measured(tmp_path / "sorted"), measured(tmp_path / "table")
    facts = ("category", "images", "anomalous", "missing")
    assert [whole[name] for name in facts] == ["bowl", 4, 2, 0]
    assert [part[name] for name in facts] == ["shift", 3, 1, 1]
    assert "cracked/9.png" in json.dumps(part["notes"])


def test_what_cannot_be_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, 2, "did you mean 'visa'?", "evaluate", tmp_path, "--layout", "visaa")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(capsys, 3, "pip install 'zeroflaw[elpv]'", "evaluate", "elpv")
