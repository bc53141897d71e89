"""``zeroflaw datasets``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroflaw.cli.main import main
from zeroflaw.lab.datasets import LAYOUTS


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


@pytest.fixture
def sorted_photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for kind in ("good", "cracked"):
        (tmp_path / "bowl" / kind).mkdir(parents=True)
        for number in range(2):
            picture = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "bowl" / kind / f"{number}.png")
    return tmp_path / "bowl"


def evaluated(root: object, out: Path, tiny_backbone: Path, *more: str) -> dict[str, object]:
    flags = ["--detector", "clip", "--backbone", f"local-dir:{tiny_backbone}", "-q", "-o", str(out), *more]
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", str(root), *flags])
    assert exit_.value.code == 0
    (row,) = (row for row in json.loads((out / "metrics.json").read_text())["rows"] if row["domain"] is None)
    return dict(row)


def test_sorted_photos_are_evaluated(sorted_photos: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    row = evaluated(sorted_photos, tmp_path / "out", tiny_backbone)
    assert (row["category"], row["images"], row["anomalous"], row["missing"]) == ("bowl", 4, 2, 0)


def test_rows_of_a_table_that_are_not_there_are_counted(
    sorted_photos: Path, tmp_path: Path, tiny_backbone: Path
) -> None:
    lines = ("image,label", "good/0.png,0", "good/1.png,0", "cracked/0.png,1", "cracked/9.png,1")
    table = sorted_photos / "shift.csv"
    table.write_text("\n".join(lines))
    row = evaluated(table, tmp_path / "out", tiny_backbone, "--layout", "csv")
    assert (row["category"], row["images"], row["anomalous"], row["missing"]) == ("shift", 3, 1, 1)
    assert any("cracked/9.png" in note for note in row["notes"])  # type: ignore[attr-defined]


def test_elpv_needs_its_package(
    sorted_photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", "elpv"])
    assert exit_.value.code == 3
    assert "pip install 'zeroflaw[elpv]'" in capsys.readouterr().err


def test_unknown_layout_is_a_matter_of_usage(sorted_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", str(sorted_photos), "--layout", "visaa"])
    assert exit_.value.code == 2
    assert "did you mean 'visa'?" in capsys.readouterr().err
