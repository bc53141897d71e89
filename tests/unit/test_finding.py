"""Finding images: files, folders, patterns, and what lies among photos that is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trees import plant
from zeroflaw.errors import InputError
from zeroflaw.finding import find_images, is_results, masks_among


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = [
        "b.png",
        "a.JPG",
        "sub/c.tiff",
        "sub/deep/d.webp",
        "notes.txt",
        "sub/e.gif",
        ".hidden.png",
        ".git/f.png",
    ]
    names += ["odd[1].png", "empty/readme.md"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.as_posix() for path in paths]


def test_a_folder_is_walked_in_order_and_what_it_skips_is_told(tree: Path) -> None:
    found = find_images(".")
    assert names(found.paths) == ["a.JPG", "b.png", "odd[1].png", "sub/c.tiff", "sub/deep/d.webp"]
    assert names(found.skipped) == ["empty/readme.md", "notes.txt", "sub/e.gif", "link"]
    assert len(found) == 5
    assert list(found) == list(found.paths)


def test_files_and_patterns_keep_the_order_given(tree: Path) -> None:
    assert names(find_images(["sub/*.tiff", "b.png", "*.png"]).paths) == ["sub/c.tiff", "b.png", "odd[1].png"]
    assert names(find_images("**/*.webp").paths) == ["sub/deep/d.webp"]
    assert names(find_images(Path("sub/**")).paths)[:1] == ["sub/c.tiff"]
    assert names(find_images(str(tree / "s*")).paths) == [f"{tree}/sub/c.tiff", f"{tree}/sub/deep/d.webp"]


def test_brackets_of_a_folder_in_a_pattern(tree: Path) -> None:
    (tree / "lot [1]").mkdir()
    (tree / "lot [1]" / "a.png").touch()
    assert names(find_images("lot [1]/*.png").paths) == ["lot [1]/a.png"]


def test_a_file_named_outright_is_taken_whatever_its_extension(tree: Path) -> None:
    assert names(find_images(["notes.txt", ".hidden.png"]).paths) == ["notes.txt", ".hidden.png"]
    assert names(find_images("odd[1].png").paths) == ["odd[1].png"]
    found = find_images([".", "notes.txt"])
    assert Path("notes.txt") in found.paths
    assert Path("notes.txt") not in found.skipped


def test_no_file_comes_twice(tree: Path) -> None:
    assert names(find_images(["b.png", str(tree / "b.png"), ".", "*.png"]).paths).count("b.png") == 1


@pytest.mark.parametrize(
    ("given_paths", "words"),
    [
        ("absent.png", "there is no file or folder 'absent.png'"),
        ("", "there is no file or folder ''"),
        (["b.png", "absent"], "there is no file or folder 'absent'"),
        ("*.xyz", r"pattern '\*.xyz' matches no image"),
        ("*.txt", "1 other entries were skipped"),
        ("empty", "folder 'empty' holds no image; 1 other"),
        ([], "no image was named"),
        ("x" * 5000, "cannot be looked at"),
    ],
)
def test_paths_without_an_image_are_refused(tree: Path, given_paths: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_images(given_paths)  # type: ignore[arg-type]


def test_loops_of_links_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a/x.png", "b/y.png")
    for place, other in (("a", "b"), ("b", "a")):
        for number in range(4):
            (tmp_path / place / f"to-{number}").symlink_to(tmp_path / other)
    monkeypatch.chdir(tmp_path)
    assert names(find_images("**/*.png").paths) == ["a/x.png", "b/y.png"]
    assert names(find_images("**/**/*.png").paths) == ["a/x.png", "b/y.png"]
    assert names(find_images("**").paths) == ["a/x.png", "b/y.png"]
    assert names(find_images(".").paths) == ["a/x.png", "b/y.png"]
    assert names(find_images("a/to-*/*.png").paths)[0] == "a/to-0/y.png"  # no '**': as many steps as parts
    with pytest.raises(InputError, match="matches no image"):
        find_images("**/nothing/*.png")


def test_masks_beside_their_photos_are_left_out(tmp_path: Path) -> None:
    masks = [
        "1_mask.png",
        "2_GT.jpg",
        "3-label.png",
        "4_seg.png",
        "5_mask_1.png",
        "5_mask_02.png",
        "6.mask.png",
    ]
    plant(tmp_path, *(f"{number}.jpg" for number in range(1, 8)), *masks, "face_mask.png", "sub/1_mask.png")
    found = find_images(tmp_path)
    assert sorted(path.name for path in found.masks) == sorted(masks)
    assert len(found) == 7 + 2  # masks without a photo of their name are photos
    assert find_images(tmp_path / "1_mask.png").paths == (tmp_path / "1_mask.png",)
    assert masks_among([Path("a/1.png"), Path("b/1_gt.png")]) == []


@pytest.mark.parametrize(
    ("mask", "photo"),
    [
        ("cup/ground_truth/crack/000_mask.png", "cup/test/crack/000.png"),
        ("cup/ground_truth/ko/000.png", "cup/test/ko/000.bmp"),
        ("cup/Ground Truth/000.png", "cup/anything/000.png"),
        ("Data/Masks/Anomaly/000.png", "Data/Images/Anomaly/000.JPG"),
        ("masks/000_mask.png", "crack/000.png"),
        ("masks/000.png", "000.jpg"),
        ("test/crack/gt/000.png", "test/crack/000.png"),
        ("masks/cup/ground_truth/crack/000_mask.png", "masks/cup/test/crack/000.png"),
    ],
)
def test_masks_in_folders_of_their_own_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str, photo: str
) -> None:
    plant(tmp_path, mask, photo, f"{Path(mask).parent}/999.png")
    for root in (tmp_path, Path()):
        monkeypatch.chdir(tmp_path)
        found = find_images(root)
        assert found.masks == (root / mask,)
        assert root / photo in found.paths
        assert len(found) == 2  # a mask whose photo is not there may be a photo
    assert find_images(tmp_path / mask).paths == (tmp_path / mask,)
    assert len(find_images(tmp_path / Path(mask).parent)) >= 2


@pytest.mark.parametrize(
    "photos",
    [
        ("masks/001.png", "gloves/001.png"),  # products
        ("masks/good/001.png", "gloves/good/001.png"),
        ("gt/001.png", "ground_truth/001.png"),
        ("ground_truth/crack/001.png", "test/dent/001.png"),
        ("masks/test/001.png", "masks/train/002.png"),
    ],
)
def test_photos_in_folders_called_like_those_of_masks_are_judged(
    tmp_path: Path, photos: tuple[str, ...]
) -> None:
    plant(tmp_path, *photos)
    assert find_images(tmp_path).masks == ()


def test_results_of_earlier_runs_are_left_out(tmp_path: Path) -> None:
    plant(tmp_path, "1.png", "2.png", "out/maps/1.png", "out/masks/1.png", "out/contact-sheet-01.png")
    plant(tmp_path, "out/report.html", "out/mine.png", "maps/3.png", "other/maps/4.png")
    assert len(find_images(tmp_path)) == 8  # nothing says that detect wrote them
    (tmp_path / "out" / "predictions.jsonl").write_text('{"schema": 1, "source": "1.png"}\n')
    (tmp_path / "other" / "predictions.jsonl").write_text('{"mine": 1}\n')
    found = find_images(tmp_path)
    assert names(tuple(path.relative_to(tmp_path) for path in found.paths)) == [
        "1.png",
        "2.png",
        "maps/3.png",
        "other/maps/4.png",
        "out/mine.png",
    ]
    assert found.results == (tmp_path / "out",)
    assert not is_results(tmp_path / "other")
    os.mkfifo(tmp_path / "maps" / "predictions.jsonl")
    assert not is_results(tmp_path / "maps")
    (tmp_path / "out" / "mine.png").unlink()
    with pytest.raises(InputError, match="holds no image; results of an earlier run were left out"):
        find_images(tmp_path / "out")
