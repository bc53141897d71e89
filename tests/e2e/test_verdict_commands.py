"""Verdicts by the command, on rendered parts with the bundled model: from photos to exit codes."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command import lines, refused, run
from zeroflaw.lab.samples import render

COARSE = ("--set", "sizes=240")  # one input size is faster
FLAWS = ("stained", "torn", "snagged")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered cloths: ``good``, ``line`` (others, good ones and flawed ones), ``sorted``; and washers."""
    root = tmp_path_factory.mktemp("photos")

    def write(name: str, product: str, flaw: str | None, count: int, seed: int) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture = render(product, flaw, seed=seed, index=index)[0]
            path = root / f"{name}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).resize((176, 176)).save(path)

    write("good/", "cloth", None, 6, 0)
    write("line/good-", "cloth", None, 6, 1)
    for flaw in FLAWS:
        write(f"line/{flaw}-", "cloth", flaw, 1, 1)
        write(f"sorted/{flaw}/", "cloth", flaw, 2, 2)
    write("sorted/good/", "cloth", None, 6, 2)
    write("washers/", "washer", None, 5, 0)
    return root


@pytest.fixture(scope="module")
def saved(photos: Path) -> Path:
    """A memory of the good cloths."""
    assert run("fit", photos / "good", "-o", photos / "detectors/cloth", *COARSE, "-q") == 0
    return photos / "detectors/cloth"


@pytest.fixture
def mine(saved: Path, tmp_path: Path) -> Path:
    """A copy of it whose threshold may be changed."""
    return shutil.copytree(saved, tmp_path / "mine")


def rows(text: str) -> dict[str, dict[str, Any]]:
    return {Path(row["source"]).stem: row for row in lines(text)}


def calls_the_flawed(found: dict[str, dict[str, Any]]) -> None:
    assert len(found) == 9
    assert all(found[f"{flaw}-0"]["label"] for flaw in FLAWS)
    assert sum(row["label"] for row in found.values()) <= 4


def test_good_photos_give_verdicts(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("detect", photos / "line", "--good", photos / "good", "--false-alarms", "0.1") == 0
    out, err = capsys.readouterr()
    found = rows(out)
    calls_the_flawed(found)
    for row in found.values():
        assert row["label"] is (row["logit"] >= row["threshold_logit"])
        assert 1 / 7 <= row["p_value"] <= 1
        assert "from 6 good photos, too few for a guarantee: expect about 10 % false" in row["threshold_from"]
        assert set(row["scores"]) == {"memory", "words"}
    assert found["torn-0"]["threshold_from"] in err
    assert "6 photos taken for good products" in err


def test_photos_are_compared_with_one_another(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run("detect", photos / "line", "--together", *COARSE, "--fail-on-anomaly", "-o", tmp_path / "out")
        == 1
    )
    _, err = capsys.readouterr()
    calls_the_flawed(found := rows((tmp_path / "out/predictions.jsonl").read_text()))
    assert found["torn-0"]["p_value"] is None
    assert found["torn-0"]["regions"]
    assert "9 of the judged photos, most of which must be good" in err
    assert "comparing them with one another takes the majority for good" in err  # 3 of 9 are many
    assert run("detect", *(photos / f"line/good-{n}.png" for n in range(3)), "--together") == 2
    assert "compared with one another from 4 on, got 3" in capsys.readouterr().err


def test_a_saved_memory_gives_exit_codes(
    photos: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--detector", saved, "--fail-on-anomaly")
    assert run("detect", photos / "line", *command) == 1
    calls_the_flawed(rows(capsys.readouterr().out))
    assert run("detect", photos / "line", *command, "--threshold-logit", "1000") == 0
    found = rows(capsys.readouterr().out)
    assert {(row["label"], row["threshold_logit"], row["threshold"]) for row in found.values()} == {
        (False, 1000, 1)
    }
    assert {row["threshold_from"] for row in found.values()} == {"given with --threshold"}
    assert found["torn-0"]["p_value"] == pytest.approx(1 / 7)
    assert run("detect", photos / "line/torn-0.png", *command, "--threshold-logit", "-1000") == 1


def test_one_good_photo_ranks_without_verdicts(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", photos / "good/0.png", "-o", tmp_path / "one", *COARSE) == 0
    assert "too few good photos for a threshold" in capsys.readouterr().err
    assert run("detect", photos / "line", "--detector", tmp_path / "one") == 0
    out, err = capsys.readouterr()
    found = rows(out)
    assert {row["label"] for row in found.values()} == {None}
    assert {*sorted(found, key=lambda name: -found[name]["logit"])[:3]} == {f"{flaw}-0" for flaw in FLAWS}
    assert "scores rank, they are no verdicts" in err
    assert run("detect", photos / "line", "--detector", tmp_path / "one", "--fail-on-anomaly") == 2
    assert "--fail-on-anomaly needs a verdict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (["--rule", "f1"], "6 good photos and 6 flawed ones by the best F1"),
        (["--rule", "cost", "--cost", "1", "20"], "by the lowest cost"),
        (["--rule", "recall", "--recall", "0.85"], "by the recall asked for"),
        ([], "Threshold from 6 good photos, too few for a guarantee"),
    ],
)
def test_sorted_photos_set_a_threshold(
    rule: list[str], says: str, photos: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("calibrate", mine, "--labelled", photos / "sorted", *rule) == 0
    assert says in capsys.readouterr().out
    assert run("detect", photos / "line", "--detector", mine, "--fail-on-anomaly", "-q") == 1
    found = rows(capsys.readouterr().out)
    assert sum(found[f"{flaw}-0"]["label"] for flaw in FLAWS) >= 2
    assert says in found["torn-0"]["threshold_from"]


def test_any_detector_gets_a_threshold_from_good_photos(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("detect", photos / "line", "--detector", "clip", "--good", photos / "good") == 0
    out, err = capsys.readouterr()
    assert {row["label"] is None for row in rows(out).values()} == {False}
    assert "Threshold from 6 good photos" in err


def test_good_photos_are_not_judged(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = photos / "line/torn-0.png"
    assert run("detect", photos / "good", torn, "--good", photos / "good") == 0
    out, err = capsys.readouterr()
    assert list(rows(out)) == ["torn-0"]
    assert "6 photos left out, given as good ones, too" in err
    assert run("detect", photos / "good", "--good", photos / "good") == 3
    assert "all photos to judge are given as good ones" in capsys.readouterr().err


def test_good_photos_of_another_product_raise_an_alarm(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("detect", photos / "line", "--good", photos / "washers", *COARSE) == 0
    out, err = capsys.readouterr()
    assert all(row["p_value"] == pytest.approx(1 / 6) for row in rows(out).values())
    assert "100% of the photos are unlike the good photos" in err
    assert "light, lens, camera or product have changed" in err


def test_the_threshold_of_another_detector_is_refused_and_the_command_mends_it(
    photos: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", photos / "washers", "-o", tmp_path / "washer", "-q") == 0
    shutil.copy(tmp_path / "washer/calibration.json", mine)
    assert run("detect", photos / "line", "--detector", mine) == 4
    said = capsys.readouterr().err
    command = re.search(r"calibrate again with: zeroflaw (.*)", said)
    assert command is not None
    words = [
        str(photos / "sorted/good") if word == "GOOD-PHOTOS" else word for word in shlex.split(command[1])
    ]
    capsys.readouterr()
    assert run(*words, "--false-alarms", "0.2", "-q") == 0
    sentence = capsys.readouterr().out.strip()
    assert sentence.startswith("Threshold from 6 good photos: expect about 1 false alarm in 7 good parts")
    assert run("detect", photos / "line", "--detector", mine, "-q") == 0
    found = rows(capsys.readouterr().out)
    calls_the_flawed(found)
    assert {row["threshold_from"] for row in found.values()} == {sentence}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("detect {line} --shifts", "give them with --good"),
        ("detect {line} --together --detector clip", "clip judges every photo by itself"),
        ("detect {line} --detector clip --good {good} --shifts", "--shifts is for detectors"),
        ("detect {line} --good {good}/0.png --fail-on-anomaly", "--fail-on-anomaly needs a verdict"),
        ("detect {line} --threshold 0.5 --threshold-logit 0", "one threshold in two units"),
        ("detect {line} --threshold-logit inf", "a finite number"),
        ("detect {line} --good nowhere --save-maps", "add -o DIR"),
        ("detect {line} --good nowhere --export coco -o {line}-out --no-maps", "drop --no-maps"),
        ("calibrate {saved}", "either --good PATH or --labelled ROOT"),
        ("calibrate {saved} --good {good} --rule f1", "photos of both kinds"),
        ("calibrate {saved} --good {good}", "6 of the 6 good photos are those that the detector was made"),
        ("calibrate {saved} --good {sorted}/good/0.png", "at least 4 good photos, got 1"),
        ("calibrate {saved} --labelled {sorted} --rule recall", "from 6 flawed photos, it takes 19"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    command: str, says: str, photos: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (saved / "calibration.json").read_bytes()
    named = {name: str(photos / name) for name in ("line", "good", "sorted")}
    words = [word.format(saved=saved, **named) for word in command.split()]
    refused(capsys, 2, says, *words, "-q")
    assert (saved / "calibration.json").read_bytes() == before
