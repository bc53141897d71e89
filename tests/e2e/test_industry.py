"""The command on pictures and data sets as they come from lines and annotators: right, or said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import lines, measured, picture, run
from pictures import encoded, png16, tiff

CASES = Path(__file__).parents[3] / "shared" / "cases"
SHAPE = (48, 60)
FLAW = np.zeros(SHAPE, dtype=bool)
FLAW[12:24, 20:36] = True


@pytest.fixture
def detector(tiny_backbone: Path) -> tuple[str, ...]:
    return ("--detector", "winclip", "--backbone", f"local-dir:{tiny_backbone}")


def grey(flawed: bool, white: int = 255) -> np.ndarray:
    noise = np.random.default_rng(int(flawed)).normal(0.6, 0.01, SHAPE)
    return (np.where(FLAW & flawed, 0.05, noise) * white).round()


def labelled(root: Path, mask: bytes, name: str = "0_mask.png") -> Path:
    """A product with one good and one flawed photo, and the mask of that."""
    for kind in ("good", "spot"):
        path = root / "test" / kind / "0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey(kind == "spot").astype(np.uint8)).save(path)
    (root / "ground_truth" / "spot").mkdir(parents=True)
    (root / "ground_truth" / "spot" / name).write_bytes(mask)
    return root


VALUES = FLAW.astype(np.uint8)
BORDER = np.where(np.roll(FLAW, 12, 0) & ~FLAW, 255, VALUES).astype(np.uint8)
DOUBTFUL = {
    "inverted": (encoded(Image.fromarray(255 - VALUES * 255)), "more than 90% of the picture is marked"),
    "empty": (encoded(Image.fromarray(VALUES * 0)), "nothing is marked"),
    "ignored": (encoded(Image.fromarray(BORDER)), "--ignore-value 255"),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_notes_of_evaluate_name_doubtful_masks(case: str, detector: tuple[str, ...], tmp_path: Path) -> None:
    mask, said = DOUBTFUL[case]
    root = labelled(tmp_path / "cup", mask)
    assert run("evaluate", root, *detector, "-o", tmp_path / "out", "-q") == 0
    (row,) = measured(tmp_path / "out")
    (note,) = [note for note in row["notes"] if note.startswith("mask:")]
    assert said in note
    assert note.endswith("(1: cup/test/spot/0.png)")


def test_what_is_ignored_is_not_measured(detector: tuple[str, ...], tmp_path: Path) -> None:
    plain = labelled(tmp_path / "plain" / "cup", encoded(Image.fromarray(VALUES)))
    border = labelled(tmp_path / "border" / "cup", encoded(Image.fromarray(BORDER)))
    found = {}
    for name, root, more in (
        ("plain", plain, ()),
        ("counted", border, ()),
        ("ignored", border, ("--ignore-value", 255)),
    ):
        assert run("evaluate", root, *detector, *more, "-o", tmp_path / f"out-{name}", "-q") == 0
        (row,) = measured(tmp_path / f"out-{name}")
        found[name] = row["pixel_aupr"]
        assert any(note.startswith("mask:") for note in row["notes"]) == (name == "counted")
    assert found["ignored"] != pytest.approx(found["counted"], abs=1e-6)
    assert found["ignored"] != pytest.approx(found["plain"], abs=1e-6)  # good pixels are fewer


def test_a_set_of_which_no_image_can_be_read(
    detector: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("good", "bad"):
        (tmp_path / "cup" / kind).mkdir(parents=True)
        (tmp_path / "cup" / kind / "0.png").write_bytes(b"\x89PNG but no more")
    assert run("evaluate", tmp_path / "cup", *detector) == 3
    assert "no image of cup could be read" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [(), ("--white", "1023")])
def test_ten_bits_score_as_eight_do(
    extra: tuple[str, ...], detector: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flawed in (False, True):
        Image.fromarray(grey(flawed).astype(np.uint8)).save(tmp_path / f"{flawed}-a8.png")
        values = grey(flawed, 1023).astype(np.uint16)
        (tmp_path / f"{flawed}-b.png").write_bytes(png16(values))
        (tmp_path / f"{flawed}-c.tif").write_bytes(tiff(np.dstack([values] * 3), planar=True))
    assert run("detect", tmp_path, *detector, *extra) == 0
    out, err = capsys.readouterr()
    rows = lines(out)
    for flawed in ("False", "True"):
        first, *others = [row for row in rows if Path(row["source"]).name.startswith(flawed)]
        for row in others:
            assert row["logit"] == pytest.approx(first["logit"], abs=0.2)
            assert ("notes" in row) == (not extra)
    assert ("its white is not known and was taken for 1023" in err) == (not extra)


def test_large_pictures_are_read_and_larger_ones_by_an_option(
    detector: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size, mode in (
        ("camera", (4096, 3000), "RGB"),
        ("web", (16384, 2048), "L"),
        ("strip", (30_000, 64), "L"),
    ):
        Image.new(mode, size).save(tmp_path / f"{name}.bmp")
    assert run("detect", tmp_path, *detector, "-q") == 0
    assert len(lines(capsys.readouterr().out)) == 3
    assert run("detect", tmp_path / "strip.bmp", *detector, "--max-megapixels", 1) == 3
    assert "--max-megapixels" in capsys.readouterr().err
    assert run("detect", tmp_path / "strip.bmp", *detector, "--max-megapixels", 2, "-q") == 0


def test_masks_and_results_among_photos_are_no_photos(
    detector: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("1.png", "1_mask.png", "2.png", "2_GT.png")):
        picture(tmp_path / "in" / name, number)
    assert run("detect", tmp_path / "in", *detector, "-o", tmp_path / "in" / "results", "-q") == 0
    capsys.readouterr()
    assert run("detect", tmp_path / "in", *detector) == 0
    out, err = capsys.readouterr()
    assert [Path(row["source"]).name for row in lines(out)] == ["1.png", "2.png"]
    assert "results: results of an earlier run, left out" in err
    assert "2 masks of photos left out" in err


def test_own_words_in_a_model_card_are_no_markdown(tiny_backbone: Path, tmp_path: Path) -> None:
    words = ("--object", "*b* [l](j:x)", "--anomalous", "a ![x](h://e) {}", "--normal", "<b>ok</b> {}")
    command = ("fit", "--detector", "clip", "--backbone", f"local-dir:{tiny_backbone}", *words)
    assert run(*command, "-o", tmp_path / "det", "-q") == 0
    card = (tmp_path / "det" / "README.md").read_text("utf-8")
    assert "\\*b\\* \\[l\\](j:x)" in card
    assert "<b>" not in card.replace("\\<b\\>", "")
    assert "![x]" not in card


@pytest.mark.shared
@pytest.mark.skipif(not CASES.is_dir(), reason="the folder of shared cases is not there")
@pytest.mark.parametrize(
    ("case", "arguments", "says"),
    [
        ("exif-6-mask-stored/p", ("evaluate",), "turned with its photo"),
        ("mask-inverted/p", ("evaluate",), "as in an inverted mask"),
        ("mask-one-empty/p", ("evaluate",), "nothing is marked"),
        ("masks-beside-images/p", ("evaluate",), "took 2 masks"),
        ("folders-ok-ng", ("evaluate",), "rwda"),
        ("folders-rgb-inside", ("evaluate",), "bagel"),
        ("csv-two-masks/labels.csv", ("evaluate",), "labels"),
        ("csv-backslash/labels.csv", ("evaluate",), "labels"),
        ("pages-tiff", ("detect",), "only the first of its 2 pages"),
        ("results-among-photos/photos", ("detect",), "2 images in"),
        ("depth-mono10-in-16", ("detect",), "taken for 1023"),
        ("tiff-greyalpha16", ("detect",), "1 image in"),
        ("pattern-brackets/lot [[]1]/*.png", ("detect",), "1 image in"),
    ],
)
def test_shared_cases(
    case: str, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, CASES / case) == 0
    assert says in capsys.readouterr().err
