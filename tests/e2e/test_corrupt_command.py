"""``zeroflaw corrupt`` as a user runs it: what it writes where, what it leaves alone, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroflaw.cli import corrupt as command
from zeroflaw.cli.corrupt import list_source
from zeroflaw.cli.main import main
from zeroflaw.corruptions import CORRUPTIONS, corrupt
from zeroflaw.images import read_image
from zeroflaw.lab.datasets import open_dataset, open_mvtec

NOISE = ["--corruption", "gaussian_noise"]


def save(path: Path, seed: int = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of two categories with a licence, a JPEG, a grey image and files beside the images."""
    root = tmp_path / "set"
    for number, category in enumerate(("nut", "cloth")):
        save(root / category / "train/good/000.png", 10 * number)
        save(root / category / "test/good/000.png", 10 * number + 1, "L")
        save(root / category / "test/scratch/000.jpg", 10 * number + 2)
        save(root / category / "ground_truth/scratch/000_mask.png", 10 * number + 3, "1")
    (root / "licence.txt").write_text("free")
    (root / "nut/test/good/note.txt").write_text("kept")
    return root


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_data_set_keeps_its_layout_and_only_test_images_change(root: Path, tmp_path: Path) -> None:
    before = files(root)
    assert run("corrupt", root, tmp_path / "out", *NOISE, "--seed", 4) == 0
    assert files(root) == before
    after = files(tmp_path / "out" / "gaussian_noise-3")
    record = json.loads(after.pop("corruption.json"))
    assert (record["corruption"], record["severity"], record["seed"]) == ("gaussian_noise", 3, 4)
    assert (record["corrupted"], record["copied"], record["unreadable"]) == (4, 6, [])
    tested = {name for name in before if "/test/" in name and not name.endswith(".txt")}
    assert {name: data for name, data in after.items() if "/test/" not in name or name.endswith(".txt")} == {
        name: data for name, data in before.items() if name not in tested
    }
    for name in tested:
        target = tmp_path / "out" / "gaussian_noise-3" / Path(name).with_suffix(".png")
        expected = corrupt(read_image(root / name), "gaussian_noise", 3, seed=4, key=name)
        assert np.array_equal(read_image(target), expected)
        with Image.open(target) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
    copies = open_mvtec(tmp_path / "out" / "gaussian_noise-3")
    assert [len(category.test) for category in copies] == [2, 2]
    assert all(category.has_masks for category in copies)


def test_all_corrupts_training_images_too_but_never_masks(root: Path, tmp_path: Path) -> None:
    assert run("corrupt", root, tmp_path / "out", "--corruption", "contrast", "--all") == 0
    before, after = files(root), files(tmp_path / "out" / "contrast-3")
    assert after["nut/train/good/000.png"] != before["nut/train/good/000.png"]
    mask = "nut/ground_truth/scratch/000_mask.png"
    assert after[mask] == before[mask]


def test_one_category_gets_the_same_noise_as_the_whole(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("corrupt", root, tmp_path / "all", *NOISE) == 0
    assert run("corrupt", root / "nut", tmp_path / "one", *NOISE) == 0
    monkeypatch.chdir(root / "nut" / "test")
    assert run("corrupt", "..", tmp_path / "above", *NOISE) == 0
    monkeypatch.chdir(root / "nut")
    assert run("corrupt", ".", tmp_path / "here", *NOISE) == 0
    whole = files(tmp_path / "all" / "gaussian_noise-3")
    for name in ("one", "above", "here"):
        part = files(tmp_path / name / "gaussian_noise-3")
        assert {k: v for k, v in part.items() if k != "corruption.json"} == {
            k: v for k, v in whole.items() if k.startswith("nut/")
        }


def test_noise_is_that_of_an_evaluation_under_corruption(root: Path) -> None:
    listed = {str(item.path): item.key for item in list_source(root, train=True)[0]}
    for category in open_mvtec(root):
        for record in (*category.test, *category.train):
            path = str(record.image)
            assert listed[path] == record.key == Path(path).relative_to(root).as_posix()


def test_images_that_a_table_names_keep_their_names(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for kind in ("Normal", "Anomaly"):
        save(root / f"candle/Data/Images/{kind}/000.JPG")
    save(root / "candle/Data/Masks/Anomaly/000.png", mode="1")
    (root / "split_csv").mkdir()
    rows = [
        f"candle,test,{label},candle/Data/Images/{kind}/000.JPG,"
        for label, kind in (("normal", "Normal"), ("anomaly", "Anomaly"))
    ]
    rows[1] += "candle/Data/Masks/Anomaly/000.png"
    (root / "split_csv/1cls.csv").write_text("\n".join(["object,split,label,image,mask", *rows]) + "\n")
    assert run("corrupt", root, tmp_path / "out", *NOISE) == 0
    copies = tmp_path / "out" / "gaussian_noise-3"
    (category,) = open_dataset(str(copies))
    assert [record.label for record in category.test] == [1, 0]
    assert category.has_masks
    with Image.open(category.test[0].image) as picture:
        assert picture.format == "PNG"


def test_several_corruptions_and_severities_at_once(root: Path, tmp_path: Path) -> None:
    both = ["--corruption", "brightness", "--corruption", "defocus_blur", "--severity", 1, "--severity", 5]
    assert run("corrupt", root / "nut", tmp_path / "out", *both) == 0
    names = {"brightness-1", "brightness-5", "defocus_blur-1", "defocus_blur-5"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    assert len({files(p)["nut/test/good/000.png"] for p in (tmp_path / "out").iterdir()}) == 4


def test_two_runs_write_the_same_bytes(root: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("corrupt", root, tmp_path / name, *NOISE, "-q") == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_folder_of_photos_and_a_single_photo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "photos/a.png")
    save(tmp_path / "photos/below/ü.webp", 1)
    (tmp_path / "photos/readme.txt").write_text("no picture")
    assert run("corrupt", tmp_path / "photos", tmp_path / "out", *NOISE) == 0
    assert set(files(tmp_path / "out")) == {
        "gaussian_noise-3/a.png",
        "gaussian_noise-3/below/ü.png",
        "gaussian_noise-3/corruption.json",
    }
    out, err = capsys.readouterr()
    assert out == ""
    assert "readme.txt: skipped" in err
    assert run("corrupt", tmp_path / "photos/a.png", tmp_path / "one", *NOISE) == 0
    one, all_ = (files(tmp_path / name / "gaussian_noise-3") for name in ("one", "out"))
    assert one["a.png"] == all_["a.png"]


def test_unreadable_images_are_reported_and_the_others_go_on(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("corrupt", root, tmp_path / "out", *NOISE) == 0
    (root / "nut/test/good/000.png").write_bytes(b"no picture")
    assert run("corrupt", root, tmp_path / "out", *NOISE, "--overwrite") == 3
    after = files(tmp_path / "out" / "gaussian_noise-3")
    assert "nut/test/good/000.png" not in after  # nor is the copy of the earlier run left there
    assert "nut/test/scratch/000.png" in after
    record = json.loads(after["corruption.json"])
    assert record["unreadable"] == ["nut/test/good/000.png"]
    assert record["corrupted"] == 3
    assert "000.png: it is text" in capsys.readouterr().err


def test_results_are_not_replaced_unless_asked_for(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("corrupt", root, out, *NOISE) == 0
    before = files(out)
    assert run("corrupt", root, out, *NOISE, "--seed", 1) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert files(out) == before
    assert run("corrupt", root, out, *NOISE, "--seed", 1, "--overwrite") == 0
    assert files(out).keys() == before.keys()
    assert files(out) != before


def test_files_of_somebody_else_among_the_copies_are_kept(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("corrupt", root, out, *NOISE) == 0
    assert run("corrupt", root / "nut", out, *NOISE, "--overwrite") == 0
    assert all("cloth" not in name for name in files(out))  # an earlier run goes as a whole
    (out / "gaussian_noise-3" / "note.txt").write_text("mine")
    before = files(out)
    capsys.readouterr()
    assert run("corrupt", root, out, *NOISE, "--overwrite") == 2
    assert "note.txt, which was not written by an earlier run" in capsys.readouterr().err
    assert files(out) == before


def test_an_interrupted_run_leaves_the_earlier_copies(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("corrupt", root, tmp_path / "out", *NOISE) == 0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = files(tmp_path / "out")
    monkeypatch.setattr(command, "write_png", interrupted)
    assert run("corrupt", root, tmp_path / "out", *NOISE, "--overwrite") == 130
    assert files(tmp_path / "out") == before


def test_help_names_every_corruption(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("corrupt", "--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in CORRUPTIONS)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{root}", "{out}"], 2, "--corruption"),
        (["{root}", "{out}", "--corruption", "fog"], 2, "known: brightness"),
        (["{root}", "{out}", "--corruption", "contrasts"], 2, "did you mean 'contrast'"),
        (["{root}", "{out}", *NOISE, "--severity", "6"], 2, "severity"),
        (["{root}", "{out}", *NOISE, "--seed", "-1"], 2, "seed"),
        (["{out}", "{out}", *NOISE], 3, "there is no file or folder"),
        (["{root}/*.png", "{out}", *NOISE], 3, "there is no file or folder"),
        (["{root}/..", "{out}", *NOISE], 3, "holds masks (ground_truth)"),
        (["{root}", "{root}", *NOISE], 2, "would mix with their source"),
        (["{root}", "{root}/nut", *NOISE], 2, "would mix with their source"),
        (["{root}", "{root}/licence.txt", *NOISE], 2, "would mix with their source"),
        (["{root}", "{file}", *NOISE], 2, "folder"),
        (["{twins}", "{out}", *NOISE], 3, "would both become 'a.png'"),
        (["{bare}", "{out}", *NOISE], 3, "images are wanted"),
        (["{empty}", "{out}", *NOISE], 3, "holds no image"),
    ],
)
def test_errors_are_one_sentence_and_nothing_is_written(
    arguments: list[str],
    code: int,
    says: str,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {name: tmp_path / name for name in ("out", "twins", "bare", "empty", "file")}
    save(places["twins"] / "a.png")
    save(places["twins"] / "a.jpg")
    save(places["bare"] / "nut/train/good/000.png")
    (places["bare"] / "nut/test").mkdir()
    places["empty"].mkdir()
    places["file"].write_text("a file")
    before = files(tmp_path)
    assert run("corrupt", *(argument.format(root=root, **places) for argument in arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert files(tmp_path) == before
