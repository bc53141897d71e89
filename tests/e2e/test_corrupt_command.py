"""``zeroflaw corrupt`` as a user runs it: what it writes where, what it leaves alone, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import files, picture, refused, run
from zeroflaw.cli import corrupt as command
from zeroflaw.cli.corrupt import list_source
from zeroflaw.corruptions import CORRUPTIONS, corrupt, moved_mask
from zeroflaw.images import read_image
from zeroflaw.lab.datasets import open_dataset, open_mvtec
from zeroflaw.masks import open_mask

NOISE = ("--corruption", "gaussian_noise")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of two categories with a licence, a JPEG, a grey image and files beside the images."""
    root = tmp_path / "set"
    for number, category in enumerate(("nut", "cloth")):
        picture(root / category / "train/good/000.png", 10 * number)
        picture(root / category / "test/good/000.png", 10 * number + 1, mode="L")
        picture(root / category / "test/scratch/000.jpg", 10 * number + 2)
        picture(root / category / "ground_truth/scratch/000_mask.png", 10 * number + 3, mode="1")
    (root / "licence.txt").write_text("free")
    (root / "nut/test/good/note.txt").write_text("kept")
    return root


def test_a_data_set_keeps_its_layout_and_only_test_images_change(root: Path, tmp_path: Path) -> None:
    before = files(root)
    for name in ("out", "again"):
        assert run("corrupt", root, tmp_path / name, *NOISE, "--seed", 4) == 0
    assert files(root) == before
    assert files(tmp_path / "again") == files(tmp_path / "out")
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
        with Image.open(target) as copy:
            assert (copy.format, copy.mode) == ("PNG", "RGB")
    copies = open_mvtec(tmp_path / "out" / "gaussian_noise-3")
    assert [len(category.test) for category in copies] == [2, 2]
    assert all(category.has_masks for category in copies)
    assert run("corrupt", root, tmp_path / "out", "--corruption", "contrast", "--all") == 0
    after = files(tmp_path / "out" / "contrast-3")
    train, mask = "nut/train/good/000.png", "nut/ground_truth/scratch/000_mask.png"
    assert (after[train] == before[train], after[mask] == before[mask]) == (False, True)


def test_one_category_gets_the_same_noise_as_the_whole_and_as_an_evaluation(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("corrupt", root, tmp_path / "all", *NOISE) == 0
    whole = files(tmp_path / "all" / "gaussian_noise-3")
    places = {"nut": root, "..": root / "nut" / "test", ".": root / "nut"}
    for number, (source, place) in enumerate(places.items()):
        monkeypatch.chdir(place)
        assert run("corrupt", source, tmp_path / str(number), *NOISE) == 0
        part = files(tmp_path / str(number) / "gaussian_noise-3")
        assert {k: v for k, v in part.items() if k != "corruption.json"} == {
            k: v for k, v in whole.items() if k.startswith("nut/")
        }
    listed = {item.path: item.key for item in list_source(root, train=True)[0]}
    for category in open_mvtec(root):
        for record in (*category.test, *category.train):
            assert listed[record.image] == record.key == record.image.relative_to(root).as_posix()


def test_images_that_a_table_names_keep_their_names(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for kind in ("Normal", "Anomaly"):
        picture(root / f"candle/Data/Images/{kind}/000.JPG")
    picture(root / "candle/Data/Masks/Anomaly/000.png", mode="1")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text(
        "object,split,label,image,mask\ncandle,test,normal,candle/Data/Images/Normal/000.JPG,\n"
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
    )
    assert run("corrupt", root, tmp_path / "out", *NOISE) == 0
    (category,) = open_dataset(str(tmp_path / "out" / "gaussian_noise-3"))
    assert [record.label for record in category.test] == [1, 0]
    assert category.has_masks
    with Image.open(category.test[0].image) as copy:
        assert copy.format == "PNG"


def test_several_corruptions_and_severities_at_once(root: Path, tmp_path: Path) -> None:
    both = ["--corruption", "brightness", "--corruption", "defocus_blur", "--severity", 1, "--severity", 5]
    assert run("corrupt", root / "nut", tmp_path / "out", *both) == 0
    names = {"brightness-1", "brightness-5", "defocus_blur-1", "defocus_blur-5"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    assert len({files(p)["nut/test/good/000.png"] for p in (tmp_path / "out").iterdir()}) == 4


def test_a_folder_of_photos_and_a_single_photo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "photos/a.png")
    picture(tmp_path / "photos/below/ü.webp", 1)
    (tmp_path / "photos/readme.txt").write_text("no picture")
    assert run("corrupt", tmp_path / "photos", tmp_path / "out", *NOISE) == 0
    several = files(tmp_path / "out/gaussian_noise-3")
    assert set(several) == {"a.png", "below/ü.png", "corruption.json"}
    out, err = capsys.readouterr()
    assert out == ""
    assert "readme.txt: skipped" in err
    assert run("corrupt", tmp_path / "photos/a.png", tmp_path / "one", *NOISE) == 0
    assert files(tmp_path / "one/gaussian_noise-3")["a.png"] == several["a.png"]


def test_a_new_run_takes_the_place_of_the_old_one_if_asked_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("corrupt", root, out, *NOISE) == 0
    before = files(out)
    refused(capsys, 2, "--overwrite", "corrupt", root, out, *NOISE, "--seed", 1)
    with monkeypatch.context() as broken:
        broken.setattr(command, "write_png", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run("corrupt", root, out, *NOISE, "--seed", 1, "--overwrite") == 130
    assert files(out) == before
    (root / "nut/test/good/000.png").write_bytes(b"no picture")
    assert run("corrupt", root / "nut", out, *NOISE, "--overwrite") == 3  # an earlier run goes as a whole
    assert "000.png: it is text" in capsys.readouterr().err
    after = files(out / "gaussian_noise-3")
    assert all("cloth" not in name for name in after)
    assert "nut/test/good/000.png" not in after
    assert "nut/test/scratch/000.png" in after
    record = json.loads(after["corruption.json"])
    assert (record["unreadable"], record["corrupted"]) == (["nut/test/good/000.png"], 1)
    (out / "gaussian_noise-3" / "note.txt").write_text("mine")
    before = files(out)
    says = "note.txt, which was not written by an earlier run"
    refused(capsys, 2, says, "corrupt", root, out, *NOISE, "--overwrite")
    assert files(out) == before


def test_help_names_every_corruption(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("corrupt", "--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in CORRUPTIONS)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{root}", "{out}"], 2, "--corruption"),
        (["{root}", "{out}", "--corruption", "fog"], 2, "known: brightness"),
        (["{root}", "{out}", *NOISE, "--severity", "6"], 2, "severity"),
        (["{root}", "{out}", *NOISE, "--seed", "-1"], 2, "seed"),
        (["{out}", "{out}", *NOISE], 3, "there is no file or folder"),
        (["{root}/..", "{out}", *NOISE], 3, "holds masks (ground_truth)"),
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
    picture(places["twins"] / "a.png")
    picture(places["twins"] / "a.jpg")
    picture(places["bare"] / "nut/train/good/000.png")
    (places["bare"] / "nut/test").mkdir()
    places["empty"].mkdir()
    places["file"].write_text("a file")
    before = files(tmp_path)
    filled = [argument.format(root=root, **places) for argument in arguments]
    refused(capsys, code, says, "corrupt", *filled)
    assert files(tmp_path) == before


def flawed_set(root: Path, *, turned: bool = False) -> Path:
    """A data set of one grey part with a white flaw, whose mask is drawn on the stored pixels."""
    pixels, mask = np.full((60, 90, 3), 90, np.uint8), np.zeros((60, 90), np.uint8)
    pixels[20:35, 50:70], mask[20:35, 50:70] = 255, 255
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    for name, array in (("test/scratch/000.png", pixels), ("test/good/000.png", pixels // 2)):
        path = root / "nut" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path, exif=exif)
    path = root / "nut/ground_truth/scratch/000_mask.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(mask).save(path)
    picture(root / "nut/train/good/000.png")
    return root


@pytest.mark.parametrize(("kind", "turned"), [("moved", False), ("contrast", True), ("moved", True)])
def test_masks_go_with_pictures_that_are_moved_or_turned(kind: str, turned: bool, tmp_path: Path) -> None:
    root = flawed_set(tmp_path / "set", turned=turned)
    assert run("corrupt", root, tmp_path / "out", "--corruption", kind, "--severity", 5) == 0
    (category,) = open_mvtec(tmp_path / "out" / f"{kind}-5")
    (record,) = [record for record in category.test if record.label]
    copy = read_image(record.image)
    assert copy.shape[:2] == ((90, 60) if turned else (60, 90))
    assert record.mask is not None
    marked = open_mask(record.mask, copy.shape[:2], image=record.image)
    bright = copy[:, :, 0] > (copy.min() / 2 + copy.max() / 2)
    assert (marked.marked & bright).sum() / (marked.marked | bright).sum() > 0.9
    assert not marked.notes
    before = np.asarray(Image.open(root / "nut/ground_truth/scratch/000_mask.png"))
    assert not np.array_equal(np.asarray(Image.open(record.masks[0])), before)


def test_an_evaluation_moves_masks_as_well(tmp_path: Path) -> None:
    root = flawed_set(tmp_path / "set")
    assert run("corrupt", root, tmp_path / "out", "--corruption", "moved", "--severity", 5) == 0
    (there,), (here,) = (open_mvtec(folder) for folder in (tmp_path / "out/moved-5", root))
    (saved,), (moved,) = ([r for r in c.test if r.label] for c in (there, here))
    assert saved.mask is not None
    assert moved.mask is not None
    size = (60, 90)
    np.testing.assert_array_equal(
        moved_mask(open_mask(moved.mask, size).marked, "moved", 5), open_mask(saved.mask, size).marked
    )
