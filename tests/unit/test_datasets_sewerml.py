"""Sewer-ML: labels in tables, images in many folders, listed quickly and made when asked for."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from zeroflaw.lab.datasets.sewerml import CODES, open_sewerml

from trees import plant, seen, table, tally
from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import LazyRecords, open_dataset

HEADER = ",".join(["Filename", "WaterLevel", "VA", *CODES, "ND", "Defect"])


def row(name: str, *codes: str, defect: int | str | None = None) -> str:
    said = int(bool(codes)) if defect is None else defect
    marks = ["1" if code in codes else "0" for code in CODES]
    return ",".join([name, "5", "1", *marks, str(int(not codes)), str(said)])


VAL = (row("00000003.png", "RB", "OB"), row("00000001.png"), row("00000002.png", "FO"), row("00000004.png"))
TRAIN = (row("00000011.png"), row("00000012.png", "RO"), row("00000013.png"))


@pytest.fixture
def sewer(tmp_path):
    root = tmp_path / "sewer"
    table(root / "annotations" / "SewerML_Val.csv", HEADER, *VAL)
    table(root / "annotations" / "SewerML_Train.csv", HEADER, *TRAIN)
    return plant(
        root,
        *("valid00/00000001.png", "valid00/00000002.png", "valid01/00000003.png", "valid01/00000004.png"),
        *("train00/00000011.png", "train00/00000012.png", "train01/00000013.png"),
        "valid00/._00000001.png",
    )


def test_validation_images_are_scored(sewer):
    dataset = open_sewerml(sewer)
    (category,) = dataset
    assert (dataset.name, dataset.layout, category.name) == ("sewer", "sewerml", "sewer")
    assert category.prompt_name == "sewer pipe"
    assert seen(category, sewer) == [
        ("valid00/00000001.png", 0, "good", None, None),
        ("valid00/00000002.png", 1, "FO", None, None),
        ("valid01/00000003.png", 1, "RB+OB", None, None),
        ("valid01/00000004.png", 0, "good", None, None),
    ]
    assert not category.has_masks
    assert category.missing == 0


def test_only_good_images_are_for_training(sewer):
    (category,) = open_sewerml(sewer)
    assert [record.image.name for record in category.train] == ["00000011.png", "00000013.png"]
    assert {(record.split, record.label) for record in category.train} == {("train", 0)}
    assert category.problems == ()


def test_label_is_the_column_defect_and_water_is_none(sewer):
    rows = (row("00000001.png", defect="1"), row("00000002.png"), row("00000003.png"), row("00000004.png"))
    table(sewer / "annotations" / "SewerML_Val.csv", HEADER, *rows)
    (category,) = open_sewerml(sewer)
    assert [(record.label, record.defect) for record in category.test][:2] == [(1, "defect"), (0, "good")]


@pytest.mark.parametrize("where", ["", "images", "images/all"])
def test_flat_folder_of_images(tmp_path, where):
    table(tmp_path / "sewerml_val.csv", HEADER, *VAL)
    plant(tmp_path / where, *(f"0000000{number}.png" for number in (1, 2, 3, 4)))
    (category,) = open_sewerml(tmp_path)
    assert (tally(category), category.problems) == ((0, 2, 2), ())


def test_images_of_another_split_are_not_taken(sewer):
    (sewer / "valid00" / "00000001.png").rename(sewer / "train00" / "00000001.png")
    (category,) = open_sewerml(sewer)
    assert category.missing == 1
    assert (
        "sewer: 1 of 4 images of SewerML_Val.csv are not there and left out: 00000001.png."
        in category.problems
    )


def test_missing_doubled_and_extra_files_are_named(sewer):
    (sewer / "valid00" / "00000002.png").unlink()
    plant(sewer, "valid01/00000001.png", "valid01/99999999.png", "valid00/notes.txt")
    (sewer / "annotations" / "SewerML_Train.csv").unlink()
    plant(sewer, "annotations/SewerML_Test.csv")
    (category,) = open_sewerml(sewer)
    assert [record.image.name for record in category.test] == ["00000003.png", "00000004.png"]
    assert category.missing == 2
    assert category.problems == (
        "sewer: 1 of 4 images of SewerML_Val.csv are not there and left out: 00000002.png.",
        "sewer: 1 image left out that several folders have: 00000001.png.",
        "sewer: left out 2 files in valid00, valid01 that SewerML_Val.csv does not name.",
        "sewer: SewerML_Test.csv has no labels and is not used.",
    )


def test_train_images_that_are_not_there(sewer):
    for path in sewer.glob("train0*/*.png"):
        path.unlink()
    (category,) = open_sewerml(sewer)
    assert len(category.train) == 0
    assert category.problems == ("sewer: none of the 3 images of SewerML_Train.csv is there.",)


def test_repeated_rows(sewer):
    val = sewer / "annotations" / "SewerML_Val.csv"
    table(val, HEADER, *VAL, VAL[1])
    (category,) = open_sewerml(sewer)
    assert len(category.test) == 4
    assert "sewer: 1 row of SewerML_Val.csv repeated an earlier one: 00000001.png." in category.problems
    table(val, HEADER, *VAL, row("00000001.png", "RB"))
    with pytest.raises(DatasetError, match=r"'00000001\.png', but line 6 says something else"):
        open_sewerml(sewer)


def test_records_are_made_when_asked_for(sewer):
    (category,) = open_sewerml(sewer)
    assert isinstance(category.test, LazyRecords)
    assert category.test[-1] == category.test[3]
    assert list(category.test[1:3]) == list(category.test)[1:3]
    assert len(category.test[::2]) == 2
    with pytest.raises(IndexError):
        category.test[4]


def test_published_counts_are_compared(sewer):
    (category,) = open_dataset(sewer)
    assert category.missing == 130_046 - 4
    assert category.problems[-1] == (
        "sewer: published are 552820 train images, 68681 good and 61365 defective test images; "
        "here are 2 train images, 2 good and 2 defective test images."
    )


def test_many_rows_cost_little(tmp_path, monkeypatch):
    """The real table has 130,046 rows; what one row costs is measured on 20,000, without so many files."""
    number = 20_000
    files = [f"{n:08d}.png" for n in range(number)]
    table(
        tmp_path / "SewerML_Val.csv", HEADER, *(row(name, *["RB"] * (n % 2)) for n, name in enumerate(files))
    )
    (tmp_path / "valid00").mkdir()
    import zeroflaw.lab.datasets.sewerml as module

    plain = module.scan
    monkeypatch.setattr(
        module, "scan", lambda path: ((), tuple(files)) if path.name == "valid00" else plain(path)
    )
    start = time.perf_counter()
    tracemalloc.start()
    (category,) = open_sewerml(tmp_path)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(category.test) == number
    assert kept / number < 250  # bytes a row: a name, a place, a shared kind
    assert time.perf_counter() - start < 10


class TestErrors:
    @pytest.mark.parametrize("column", ["Filename", "Defect"])
    def test_wrong_columns(self, sewer, column):
        table(sewer / "annotations" / "SewerML_Val.csv", HEADER.replace(column, "Else"), *VAL)
        with pytest.raises(
            DatasetError, match=rf"column '{column}' is wanted in '.*SewerML_Val\.csv' .* has only "
        ):
            open_sewerml(sewer)

    def test_wrong_label(self, sewer):
        table(sewer / "annotations" / "SewerML_Val.csv", HEADER, row("1.png", defect=2))
        with pytest.raises(
            DatasetError, match=r"label is wanted in line 2 of '.*SewerML_Val.csv'.* it is '2'"
        ):
            open_sewerml(sewer)

    def test_no_table(self, sewer):
        (sewer / "annotations" / "SewerML_Val.csv").unlink()
        with pytest.raises(
            DatasetError, match=r"SewerML_Val\.csv is wanted in .* only the folders annotations,"
        ):
            open_sewerml(sewer)

    def test_two_tables(self, sewer):
        table(sewer / "SewerML_Val.csv", HEADER, *VAL)
        with pytest.raises(
            DatasetError, match=r"one SewerML_Val\.csv is wanted, but there are '.*' and '.*'"
        ):
            open_sewerml(sewer)

    def test_no_images(self, tmp_path):
        table(tmp_path / "SewerML_Val.csv", HEADER, *VAL)
        with pytest.raises(DatasetError, match=r"has none of them, only the files SewerML_Val\.csv; unpack"):
            open_sewerml(tmp_path)
