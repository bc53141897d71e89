"""Folders of good images to learn from."""

from __future__ import annotations

from pathlib import Path

import pytest

from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import Record, open_auxiliary, open_dataset, open_mvtec, open_normals


def plant(root: Path, *names: str) -> Path:
    """Make empty files: listing never opens one."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_folders_of_products(tmp_path):
    root = plant(tmp_path / "shop", "pcb/b.jpg", "pcb/a.PNG", "cube/1.jpg", "cube/.hidden.jpg")
    dataset = open_normals(root)
    assert (dataset.name, dataset.problems) == ("shop", ())
    assert [category.name for category in dataset] == ["cube", "pcb"]
    cube, pcb = dataset
    assert pcb.train == tuple(
        Record("shop", "pcb", "train", 0, "good", None, root / "pcb" / name, None)
        for name in ("a.PNG", "b.jpg")
    )
    assert [record.image.name for record in cube.train] == ["1.jpg"]
    assert (cube.test, cube.problems) == ((), ())


def test_the_layout_of_mvtec_gives_its_training_images(tmp_path):
    root = plant(
        tmp_path / "ad",
        *("nut/train/good/0.png", "nut/test/bent/0.png", "nut/test/good/0.png"),
        "bolt/train/good/1.png",
    )
    dataset = open_normals(root)
    assert [(c.name, [r.image.name for r in c.train], c.test) for c in dataset] == [
        ("bolt", ["1.png"], ()),
        ("nut", ["0.png"], ()),
    ]
    assert dataset.problems == ()


@pytest.mark.parametrize("inside", ["a.jpg", "train/good/a.jpg"])
def test_one_product_by_itself(tmp_path, inside):
    (category,) = dataset = open_normals(plant(tmp_path / "shop" / "pcb", inside))
    assert (dataset.name, category.dataset, category.name, len(category.train)) == ("shop", "shop", "pcb", 1)


def test_what_is_left_out_is_named(tmp_path):
    root = plant(
        tmp_path / "shop",
        *("cube/1.jpg", "cube/notes.txt", "cube/old/2.jpg"),
        *("nut/train/good/0.png", "nut/seen.png", "empty/deep/er/1.jpg", "preview.jpg"),
    )
    dataset = open_normals(root)
    cube, nut = dataset
    assert dataset.problems == (
        "shop: folders without good images were left out: empty.",
        "shop: images beside the products were left out: preview.jpg.",
    )
    assert cube.problems == (
        "cube: left out 1 entry that cannot be images: notes.txt.",
        "cube: folders inside were left out: old.",
    )
    assert nut.problems == ("nut: images beside train/good were left out: seen.png.",)
    assert [record.image.name for record in nut.train] == ["0.png"]


def test_no_folder_and_no_image(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        open_normals(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="is a file"):
        open_auxiliary(plant(tmp_path, "a.txt") / "a.txt")
    with pytest.raises(DatasetError, match=r"no such folder, only the folders deep"):
        open_normals(plant(tmp_path / "other", "deep/er/still/1.jpg"))
    (tmp_path / "void").mkdir()
    with pytest.raises(DatasetError, match="only nothing"):
        open_auxiliary(tmp_path / "void")


def test_folders_of_defects_are_no_products(tmp_path):
    root = plant(tmp_path / "nut", "good/0.png", "bent/1.png")
    with pytest.raises(DatasetError, match="folder 'good' among bent, good"):
        open_normals(root)


def test_auxiliary_takes_either(tmp_path):
    labelled = plant(tmp_path / "ad", "nut/train/good/0.png", "nut/test/bent/0.png", "nut/test/good/0.png")
    assert open_auxiliary(labelled) == open_mvtec(labelled)
    assert open_auxiliary(labelled / "nut") == open_mvtec(labelled / "nut")
    (nut,) = open_auxiliary(labelled)
    assert (len(nut.train), len(nut.test)) == (1, 2)
    btad = plant(tmp_path / "btad", "01/train/ok/0.bmp", "01/test/ok/1.bmp", "01/test/ko/2.bmp")
    assert open_auxiliary(btad) == open_dataset(btad)
    assert open_auxiliary(btad).layout == "btad"
    good = plant(tmp_path / "good only", "pcb/0.png", "nut/train/good/1.png")
    assert open_auxiliary(str(good)) == open_normals(good)
