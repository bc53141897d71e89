"""Strips by the command: tiles and white are kept with a detector, and what does not fit is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import lines, measured, refused, run
from pictures import png16
from zeroflaw.runtime import stream

SMALL = ("--set", "rows=300", "--set", "words_weight=0", "-q")


def strip(path: Path, seed: int, *, flaw: bool = False) -> Path:
    grey = 128 + 10 * np.sin(np.arange(500) / 7) + np.random.default_rng(seed).normal(0, 6, (80, 500))
    if flaw:
        grey[30:42, 350:365] = 10
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good strips, two to judge, and a detector that was made from the good ones in tiles."""
    root = tmp_path_factory.mktemp("strips")
    for seed in range(4):
        strip(root / "good" / f"{seed}.png", seed)
    strip(root / "line" / "flawed.png", 8, flaw=True)
    strip(root / "line" / "sound.png", 9)
    assert run("fit", root / "good", "--tile", 80, *SMALL, "-o", root / "detector") == 0
    return root


def test_a_detector_remembers_its_tiles(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((folder / "detector" / "config.json").read_text())["parameters"]["tile"] == 80
    line = (folder / "line", "--detector", folder / "detector", "-q")
    assert run("detect", *line, "-o", tmp_path / "out", "--fail-on-anomaly") == 1
    rows = lines((tmp_path / "out" / "predictions.jsonl").read_text())
    assert [row["label"] for row in rows] == [True, False]
    left, top, width, height = rows[0]["regions"][0]["box"]
    assert left <= 357 <= left + width
    assert top <= 36 <= top + height
    mask = np.asarray(Image.open(tmp_path / "out" / rows[0]["mask"]))
    assert mask.shape == (80, 500)
    assert mask[36, 357] == 255
    capsys.readouterr()
    assert run("detect", *line, "--tile", 80) == 0
    refused(capsys, 2, "made with tile 80", "detect", *line, "--tile", 64)


def test_sides_and_detectors_that_cannot_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, 2, "--tile", "detect", folder / "line", "--tile", 5)
    refused(capsys, 2, "--tile", "detect", folder / "line", "--tile", "large")
    refused(capsys, 2, "cannot judge tiles", "detect", folder / "line", "--together", "--tile", 80, "-q")
    good = ("--good", folder / "good", "--roi", "0,0 1,0 1,1", "--tile", 80, "-q")
    refused(capsys, 2, "roi and ignore", "detect", folder / "line", *good)


def test_a_calibration_keeps_how_its_photos_were_cut(folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "words"
    assert run("fit", "--detector", "clip", "-o", saved, "-q") == 0
    assert run("calibrate", saved, "--good", folder / "good", "--tile", 80, "-q") == 0
    assert json.loads((saved / "config.json").read_text())["parameters"]["tile"] == 80
    assert run("detect", folder / "line", "--detector", saved, "-o", tmp_path / "out", "-q") == 0
    rows = lines((tmp_path / "out" / "predictions.jsonl").read_text())
    assert all(row["label"] is not None for row in rows)
    before = (saved / "config.json").read_bytes()
    assert run("calibrate", saved, "--good", folder / "good", "-q") == 0  # as it was cut before
    assert (saved / "config.json").read_bytes() == before


def test_a_detector_remembers_its_white(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(5):
        values = np.random.default_rng(seed).integers(100, 1000, (40, 50)).repeat(3, 0).repeat(3, 1)
        path = tmp_path / ("good" if seed < 4 else "line") / f"{seed}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png16(values))
    white, saved = ("--white", 1500, "-q"), tmp_path / "detector"
    assert run("fit", tmp_path / "good", *white, *SMALL[:4], "-o", saved) == 0
    assert json.loads((saved / "config.json").read_text())["parameters"]["white"] == 1500
    line = ("detect", tmp_path / "line", "--detector", saved)
    logits = []
    capsys.readouterr()
    for more in (("-q",), white):
        assert run(*line, *more) == 0
        logits += [row["logit"] for row in lines(capsys.readouterr().out)]
    assert logits[0] == pytest.approx(logits[1], abs=1e-4)
    refused(capsys, 2, "made with white 1500", *line, "--white", 1023, "-q")
    shutil.copytree(saved, tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"white": 1500.0', '"white": null'))
    refused(capsys, 2, "made with white none", *line[:-1], tmp_path / "other", *white)


def test_a_missing_backbone_is_said_before_a_photo_is_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "detector"
    shutil.copytree(folder / "detector", saved)
    config = saved / "config.json"
    config.write_text(
        config.read_text().replace('"backbone": "mini"', f'"backbone": "local-dir:{tmp_path}/gone"')
    )

    def read(*given: object, **more: object) -> None:
        raise AssertionError("a photo was read")

    monkeypatch.setattr(stream, "read_picture", read)
    monkeypatch.setattr("zeroflaw.detectors.tiled.open_bands", read)
    refused(capsys, 4, "gone", "detect", folder / "line", "--detector", saved, "-q")
    refused(capsys, 4, "gone", "calibrate", saved, "--good", folder / "good", "-q")


def test_an_evaluation_judges_tiles(tmp_path: Path) -> None:
    """Beside a detector of whole photos, which shares no features with one of tiles."""
    for seed in range(2):
        strip(tmp_path / "set" / "good" / f"{seed}.png", seed)
        strip(tmp_path / "set" / "flawed" / f"{seed}.png", 10 + seed, flaw=True)
    found = []
    for more in ((), ("--tile", 80)):
        out = tmp_path / f"out{len(more)}"
        assert run("evaluate", tmp_path / "set", "--detector", "clip", *more, "-o", out, "-q") == 0
        found.append(measured(out)[0]["f1max_threshold_logit"])
    assert found[0] != pytest.approx(found[1], abs=1e-3)
