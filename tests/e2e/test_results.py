"""What `detect` does to folders that already hold something, and to names that are odd."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from command import files, lines, picture, refused, run
from zeroflaw import images
from zeroflaw.bands import read_overview
from zeroflaw.cli import drawn, progress, results
from zeroflaw.errors import ImageError
from zeroflaw.images import find_images
from zeroflaw.runtime.prediction import Prediction

FINISHED = ["maps/a.png", "predictions.csv", "predictions.jsonl", "report.html"]


@pytest.fixture(scope="session")
def saved(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted detector on the tiny backbone."""
    folder = tmp_path_factory.mktemp("detector") / "saved"
    fast = ["--set", "n_pairs=40", "--set", "epochs=2"]
    assert run("fit", "--backbone", f"local-dir:{tiny_backbone}", *fast, "-o", folder, "-q") == 0
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        picture(tmp_path / "photos" / name, number)
    return tmp_path / "photos"


def rows(folder: Path) -> list[dict[str, Any]]:
    return lines((folder / "predictions.jsonl").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["maps/mine.png", "contact-sheet-01.png", "maps/deep/note"])
@pytest.mark.parametrize("earlier", [False, True])
def test_files_of_the_user_are_never_replaced(
    name: str, earlier: bool, photos: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("detect", photos, "--detector", saved, "-o", out, "--no-maps", "-q", "--overwrite")
    if earlier:
        assert run(*command) == 0
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("mine")
    before = files(out)
    if earlier and name == "contact-sheet-01.png":  # which results speak of
        assert run(*command) == 0
        return
    refused(capsys, 2, f"{name}, which was not written by an earlier run", *command)
    assert files(out) == before


@pytest.mark.parametrize(
    "text", ['{"source": "mine"}\n', "no JSON\n", '{"schema": 1}\nno JSON', '{"schema": []\n']
)
def test_other_results_are_never_replaced(text: str, photos: Path, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "predictions.jsonl").write_text(text)
    assert run("detect", photos, "--detector", saved, "-o", out, "--overwrite") == 2
    assert files(out) == {"predictions.jsonl": text.encode()}


def test_a_new_run_takes_the_place_of_the_old_one(photos: Path, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert run("detect", photos, "--detector", saved, "-o", out, "-q") == 0
    before = files(out)
    assert run("detect", photos / "a.png", "--detector", saved, "-o", out, "-q") == 2
    assert files(out) == before
    assert run("detect", photos / "a.png", "--detector", saved, "-o", out, "-q", "--overwrite") == 0
    assert sorted(files(out)) == FINISHED
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_only_what_results_speak_of_counts_as_theirs(tmp_path: Path) -> None:
    row = {"schema": 1, "zeroflaw": "0", "source": "a", "heat_map": "maps/a.png"}
    bad = {"schema": 1, "zeroflaw": "0", "source": "a", "error": "gone"}
    lines = [json.dumps(row), json.dumps(bad)]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "contact-sheet-01.png").touch()  # of an earlier version
    assert results.written(tmp_path) >= {"predictions.jsonl", "maps/a.png", "contact-sheet-01.png"}
    assert "maps/b.png" not in results.written(tmp_path)


def test_maps_keep_the_folders_of_their_photos(saved: Path, tmp_path: Path) -> None:
    for name in ("gear/burnt/000.png", "gear/good/000.png", "nut/good/000.png", "nut/good/000.jpg"):
        picture(tmp_path / "set" / name)
    assert run("detect", tmp_path / "set", "--detector", saved, "-o", tmp_path / "out", "-q") == 0
    maps = [row["heat_map"] for row in rows(tmp_path / "out")]
    names = ["gear/burnt/000.png", "gear/good/000.png", "nut/good/000.png", "nut/good/000-2.png"]
    assert maps == [f"maps/{name}" for name in names]
    assert all((tmp_path / "out" / name).is_file() for name in maps)


@pytest.mark.parametrize("pattern", [".", "**/*.png", "out/maps/../../*.png"])
def test_own_results_are_no_input(
    pattern: str,
    photos: Path,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photos)
    assert run("detect", "a.png", "--detector", saved, "-o", "out", "-q") == 0
    picture(photos / "maps" / "of-the-user.png")
    capsys.readouterr()
    assert run("detect", pattern, "--detector", saved, "-o", "out", "--overwrite") == 0
    left_out = capsys.readouterr().err.count("out: results of an earlier run, left out\n")
    assert left_out == (".." not in pattern)
    found = {Path(row["source"]).name for row in rows(Path("out"))}
    assert found - {"of-the-user.png"} == {"a.png", "b.png", "c.png"}
    assert ("of-the-user.png" in found) == (".." not in pattern)
    assert run("detect", "out", "--detector", saved) == 3
    assert "results of an earlier run" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGTERM, 143, ["terminated"]), (signal.SIGINT, 130, ["interrupted"]), (signal.SIGKILL, -9, [])],
)
def test_a_killed_run_leaves_the_old_results(
    number: int, code: int, says: list[str], photos: Path, saved: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run("detect", photos / "a.png", "--detector", saved, "-o", out, "-q") == 0
    before = files(out)
    script = (
        "import os, signal, time\nfrom zeroflaw.cli import drawn, main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # jobs in the background ignore it
        "def slow(*_, **__):\n    os.write(1, b'drawing\\n')\n    time.sleep(5)\n"
        "drawn.panel = slow\nmain.main()\n"
    )
    words = ["detect", str(photos), "--detector", str(saved), "-o", str(out), "--overwrite", "-q"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "drawing\n"
        assert run(*words) == 2  # one at a time
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait() == code
    assert said.splitlines()[-1:] == [f"zeroflaw: {word}" for word in says]
    assert files(out) == before
    left = {p.name for p in tmp_path.iterdir()} - {"out", "photos"}
    assert left == ({".out.new.tmp", ".out.lock.tmp"} if code < 0 else set())
    assert run(*words) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"out", "photos"}
    assert len(rows(out)) == 3


def test_an_image_that_vanishes_before_it_is_drawn_is_unreadable(
    photos: Path,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    read = read_overview

    def vanishing(source: str, **named: Any) -> Any:
        if source.endswith("b.png"):
            Path(source).unlink()
        return read(source, **named)

    monkeypatch.setattr(drawn, "read_overview", vanishing)
    monkeypatch.setattr(drawn, "MOST_KEPT", 0)
    out = tmp_path / "out"
    assert run("detect", photos, "--detector", saved, "-o", out, "--threshold", "0") == 3
    found = rows(out)
    assert [Path(row["source"]).name for row in found] == ["a.png", "b.png", "c.png"]
    assert "no such file" in found[1]["error"]
    err = capsys.readouterr().err
    assert "2 images in" in err
    assert "1 could not be read; 2 anomalous" in err


def test_photos_are_decoded_once_and_again_where_too_many_wait(
    photos: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(photos / "d.png", 3, size=(900, 40))  # larger than it is drawn
    decoded: list[str] = []

    def counted(source: Path, limits: Any) -> Any:
        decoded.append(Path(source).name)
        return stored(source, limits)

    stored = images.stored
    monkeypatch.setattr(images, "stored", counted)
    command = ("detect", photos, "--detector", saved, "--threshold", "0", "-q", "-o")
    assert run(*command, tmp_path / "once") == 0
    assert sorted(decoded) == ["a.png", "b.png", "c.png", "d.png"]
    decoded.clear()
    monkeypatch.setattr(drawn, "MOST_KEPT", 0)
    assert run(*command, tmp_path / "twice") == 0
    assert sorted(decoded) == sorted(2 * ["a.png", "b.png", "c.png", "d.png"])
    once, twice = (files(tmp_path / name) for name in ("once", "twice"))
    assert once.keys() == twice.keys()
    for name in ("maps/a.png", "maps/d.png"):
        one, other = (np.asarray(Image.open(io.BytesIO(found[name])), int) for found in (once, twice))
        assert np.abs(one - other).max() <= 2, name


def test_photos_that_wait_to_be_drawn_are_small_and_few() -> None:
    waiting = drawn.Photos()
    for number in range(100):
        waiting.keep(str(number), np.zeros((1600, 800, 3), np.uint8))
    assert len(waiting._kept) == drawn.MOST_KEPT
    assert waiting.take("99").shape == (768, 384, 3)
    with pytest.raises(ImageError, match="no such file"):
        waiting.take("99")


def test_rows_come_in_the_order_of_the_images(
    photos: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("0.png", "bb.png", "z.png"):
        (photos / name).write_bytes(b"no picture")
    assert run("detect", photos, "--detector", saved, "--batch-size", "2") == 3
    found = lines(capsys.readouterr().out)
    names = ["0.png", "a.png", "b.png", "bb.png", "c.png", "z.png"]
    assert [Path(row["source"]).name for row in found] == names
    assert ["error" in row for row in found] == [True, False, False, True, False, True]


def test_the_bar_counts_unreadable_images_and_gives_way_to_messages(
    photos: Path, saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b.png").write_bytes(b"no picture")
    monkeypatch.setattr(progress, "bars_shown", lambda quiet: True)
    assert run("detect", photos, "--detector", saved) == 3
    err = capsys.readouterr().err
    assert "3/3" in err
    (message,) = [line for line in err.replace("\r", "\n").splitlines() if "b.png" in line]
    assert message.startswith("zeroflaw: ")
    assert "allowed are PNG, JPEG, WebP, BMP, TIFF" in message


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes no control characters in names")
def test_odd_names_and_links_in_messages(
    photos: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "red\x1b[31m.txt").write_text("")
    (photos / "bad\n.png").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    assert run("detect", photos, "--detector", saved) == 3
    err = capsys.readouterr().err
    assert "red\\x1b[31m.txt: skipped, it is not an image file\n" in err
    assert "link: skipped, it is a link to a folder, which is not followed\n" in err
    assert "bad\\n.png: the file is empty" in err


def test_lines_are_utf8_whatever_the_encoding_of_stdout(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "日.png")
    (tmp_path / "月.png").write_bytes(b"")
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="latin-1"))
    assert run("detect", tmp_path, "--detector", saved, "-q") == 3
    command = [sys.executable, "-m", "zeroflaw", "detect", str(tmp_path), "--detector", str(saved), "-q"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    for text in (out.getvalue(), done.stdout):
        assert [Path(row["source"]).name for row in lines(text.decode("utf-8"))] == ["日.png", "月.png"]


def judged(path: Path, logit: float, seed: int = 0) -> Prediction:
    values = np.random.default_rng(seed).random((4, 5)).astype(np.float32)
    made = Prediction(str(path), float(expit(logit)), logit, {}, (24, 32), map=values)
    return made.with_threshold(0.0, "20 good photos", p_value=0.1, map_threshold=0.7)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Results of three judged photos of two products, and of one that could not be read."""
    names = ["nut/1.png", "cap/1.png", "cap/2.png", "cap/3.png"]
    paths = [picture(tmp_path / "in" / name, number) for number, name in enumerate(names)]
    wanted = results.Wanted(("coco", "yolo", "label-studio"), save_maps=True)
    with results.open_results(
        tmp_path / "out", paths, overwrite=False, about="detector x", gone=print, wanted=wanted
    ) as place:
        for number, path in enumerate(paths[:3]):
            place.add(judged(path, number - 0.5, number))
        place.write({"source": str(paths[3]), "error": "the picture is damaged"})
        said = place.finish(tmp_path / "out", alarm="it is dark")
    assert [line for line in said if " in " in line] == [
        f"3 heat maps in {tmp_path / 'out' / 'maps'}",
        f"3 masks in {tmp_path / 'out' / 'masks'}",
    ]
    assert all((tmp_path / "out" / Path(line).name).is_file() for line in said if " in " not in line)
    return tmp_path / "out"


def test_a_folder_of_results_holds_tables_masks_maps_and_exports(full: Path) -> None:
    found = rows(full)
    for number, row in enumerate(found[:3]):
        made = judged(Path(row["source"]), number - 0.5, number)
        with Image.open(full / row["mask"]) as mask:
            np.testing.assert_array_equal(np.asarray(mask), 255 * made.mask().astype(np.uint8))
        saved_map = np.load(full / row["map"], allow_pickle=False)
        assert saved_map.dtype == np.float32
        np.testing.assert_array_equal(saved_map, made.resized_map())
        assert row["heat_map"] == row["mask"].replace("masks", "maps")
        assert len((full / row["labels"]).read_text().splitlines()) == len(row["regions"])
    assert found[3]["error"] == "the picture is damaged"
    with (full / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["source"] for row in table] == [row["source"] for row in found]
    assert [row["verdict"] for row in table] == ["good", "flawed", "flawed", ""]
    assert [row["error"] for row in table] == ["", "", "", "the picture is damaged"]
    text = (full / "report.html").read_text(encoding="utf-8")
    assert re.findall("<h2>(.*?)</h2>", text) == ["cap", "nut", "Not judged"]
    assert "it is dark" in text
    assert "cap/3.png: the picture is damaged" in text


def test_everything_that_was_written_counts_as_written_and_is_no_input(full: Path) -> None:
    there = set(files(full))
    assert there <= results.written(full)
    assert {"masks/cap/1.png", "maps/cap/1.npy", "labels/cap/1.txt", "coco.json", "report.html"} <= there
    found = find_images([str(full.parent)])
    kept = results.without_results(found, quiet=True).paths
    assert {path.parent.parent.name for path in kept} == {"in"}


def test_maps_and_exports_need_a_folder_and_regions(
    photos: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("detect", photos, "--detector", saved, "-q")
    for option in ("--save-maps", "--export=coco"):
        refused(capsys, 2, "need a folder", *command, option)
    out = tmp_path / "out"
    refused(capsys, 2, "need a threshold of the map", *command, "-o", out, "--export", "yolo")
    assert not out.exists()
    assert run(*command, "-o", out, "--save-maps") == 0
    assert sorted(path.name for path in (out / "maps").glob("*.npy")) == ["a.npy", "b.npy", "c.npy"]


@pytest.mark.parametrize(
    ("sources", "products"),
    [
        (["s/nut/test/a.png", "s/cap/test/b.png"], ["nut", "cap"]),
        (["s/nut/test/bad/a.png", "s/nut/test/good/b.png"], ["", ""]),
        (["s/a.png", "s/b.png"], ["", ""]),
        (["s/a.png", "s/cap/b.png"], ["", "cap"]),
        ([], []),
    ],
)
def test_a_product_is_the_first_folder_that_differs(sources: list[str], products: list[str]) -> None:
    product = drawn.product_of(sources)
    assert [product(source) for source in sources] == products
