"""ELPV: a data set by name, from an installed package that is never imported."""

from __future__ import annotations

import sys

import pytest
from zeroflaw.lab.datasets.elpv import open_elpv

from trees import plant, seen, tally
from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import elpv, open_dataset

LINES = (
    "images/cell0001.png  1.0                 mono",
    "images/cell0002.png  0.0                 mono",
    "images/cell0003.png  0.3333333333333333  poly",
    "images/cell0004.png  0.6666666666666666  mono",
    "images/cell0005.png  0.0                 poly",
    "images/cell0006.png  1.0                 poly",
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package of the same shape whose code must not run."""
    data = tmp_path / "site" / "elpv_dataset" / "data"
    plant(data, *(line.split()[0] for line in LINES))
    (data / "labels.csv").write_text("\n".join(LINES) + "\n")
    (data.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    monkeypatch.chdir(tmp_path)
    return data


def test_sure_cells_are_scored_and_the_others_counted(package):
    dataset = open_elpv()
    (category,) = dataset
    assert (dataset.name, dataset.layout) == ("elpv", "elpv")
    assert (category.name, category.prompt_name, category.domains) == (
        "solar_cell",
        "solar cell",
        ("mono", "poly"),
    )
    assert tally(category) == (0, 2, 2)
    assert seen(category, package / "images") == [
        ("cell0001.png", 1, "defective", "mono", None),
        ("cell0002.png", 0, "good", "mono", None),
        ("cell0005.png", 0, "good", "poly", None),
        ("cell0006.png", 1, "defective", "poly", None),
    ]
    assert category.missing == 0
    assert category.problems == (
        "solar_cell: 2 of 6 cells were left out, judged neither surely good nor surely defective.",
    )
    assert "elpv_dataset" not in sys.modules


def test_by_name_and_by_folder(package):
    assert open_dataset("elpv").categories == open_dataset(package).categories
    assert open_dataset("elpv", layout="elpv") == open_dataset("elpv")
    (category,) = open_dataset("elpv")
    assert category.missing == 1508 + 715 - 4
    assert "published are 1508 good and 715 defective test images" in category.problems[-1]


def test_folder_of_that_name_is_not_meant(package, tmp_path):
    plant(tmp_path, "elpv/good/0.png", "elpv/bad/0.png")
    assert open_dataset("elpv").problems[0].endswith("not the folder here; for that write ./elpv.")
    assert open_dataset("./elpv").layout == "folder"


def test_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(elpv.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match=r"not installed; run: pip install 'zeroflaw\[elpv\]'$"):
        open_dataset("elpv")


def test_images_that_are_not_there(package):
    (package / "images" / "cell0001.png").unlink()
    (category,) = open_elpv()
    assert (tally(category), category.missing) == ((0, 2, 1), 1)
    assert category.problems[0] == (
        "solar_cell: 1 of 4 test images of labels.csv is not there and left out: images/cell0001.png."
    )
    for path in (package / "images").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"names images, but none of them is in '.*images'; install"):
        open_elpv()


@pytest.mark.parametrize(
    "line", ["images/a.png 1.0", "images/a.png often mono", "images/a.png 2.0 mono", "a b c d"]
)
def test_wrong_lines(package, line):
    (package / "labels.csv").write_text(LINES[0] + "\n\n" + line + "\n")
    with pytest.raises(DatasetError, match=r"wanted in line 3 of '.*labels\.csv', but it is '"):
        open_elpv()


def test_other_folder(tmp_path):
    with pytest.raises(
        DatasetError, match=r"wanted with labels\.csv and images/, but '.*' holds 1 image; install"
    ):
        open_elpv(plant(tmp_path, "a.png"))
