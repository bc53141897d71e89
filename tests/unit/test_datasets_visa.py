"""VisA: the table of its split, the converted form, and what is wrong in a half-downloaded tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zeroflaw.lab.datasets.visa import open_visa

from trees import plant, seen, table, tally
from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import open_dataset, read_mask

HEADER = "object,split,label,image,mask"
ROWS = (
    "macaroni2,train,normal,macaroni2/Data/Images/Normal/0000.JPG,",
    "macaroni2,train,normal,macaroni2/Data/Images/Normal/0001.JPG,",
    "macaroni2,test,normal,macaroni2/Data/Images/Normal/0002.JPG,",
    "macaroni2,test,anomaly,macaroni2/Data/Images/Anomaly/001.JPG,macaroni2/Data/Masks/Anomaly/001.png",
    "macaroni2,test,anomaly,macaroni2/Data/Images/Anomaly/000.JPG,macaroni2/Data/Masks/Anomaly/000.png",
    "candle,train,normal,candle/Data/Images/Normal/0000.JPG,",
    "candle,test,normal,candle/Data/Images/Normal/0001.JPG,",
    "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
)
FILES = [path for row in ROWS for path in row.split(",")[3:] if path]


@pytest.fixture
def visa(tmp_path):
    root = plant(tmp_path / "VisA", *FILES, "candle/image_anno.csv", "LICENSE-DATASET")
    plant(root, "split_csv/2cls_highshot.csv", "split_csv/2cls_fewshot.csv")
    table(root / "split_csv" / "1cls.csv", HEADER, *ROWS)
    return root


def rewrite(root: Path, *rows: str, header: str = HEADER) -> Path:
    table(root / "split_csv" / "1cls.csv", header, *rows)
    return root


def test_split_is_that_of_the_table(visa):
    dataset = open_visa(visa)
    candle, macaroni = dataset
    assert (dataset.name, dataset.layout, dataset.problems) == ("VisA", "visa", ())
    assert (candle.name, tally(candle), candle.problems) == ("candle", (1, 1, 1), ())
    assert (macaroni.name, tally(macaroni), macaroni.problems) == ("macaroni2", (2, 1, 2), ())
    assert seen(macaroni, visa / "macaroni2" / "Data") == [
        ("Images/Anomaly/000.JPG", 1, "bad", None, "Masks/Anomaly/000.png"),
        ("Images/Anomaly/001.JPG", 1, "bad", None, "Masks/Anomaly/001.png"),
        ("Images/Normal/0002.JPG", 0, "good", None, None),
    ]
    assert [record.image.name for record in macaroni.train] == ["0000.JPG", "0001.JPG"]
    assert {record.split for record in macaroni.train} == {"train"}


def test_masks_number_the_kinds_of_defect(visa):
    numbered = np.zeros((6, 4), np.uint8)
    numbered[1, 2], numbered[4, 0] = 1, 9
    (candle, _) = open_visa(visa)
    (record,) = (record for record in candle.test if record.label)
    Image.fromarray(numbered).save(record.mask)
    assert np.array_equal(read_mask(record.mask, (6, 4)), numbered > 0)


def test_one_class(visa):
    dataset = open_visa(visa / "candle")
    assert dataset.name == "VisA"
    assert [category.name for category in dataset] == ["candle"]
    assert dataset.categories[0] == open_visa(visa).categories[0]


def test_names_are_literal_and_aliases_on_demand(visa):
    assert [c.prompt_name for c in open_dataset(visa)] == ["candle", "macaroni2"]
    assert [c.prompt_name for c in open_dataset(visa, aliases=True)] == ["candle", "macaroni"]
    assert [c.name for c in open_dataset(visa, aliases=True)] == ["candle", "macaroni2"]


def test_missing_images_are_counted_and_named(visa):
    (visa / "macaroni2/Data/Images/Anomaly/001.JPG").unlink()
    (visa / "macaroni2/Data/Images/Normal/0001.JPG").unlink()
    (visa / "macaroni2/Data/Masks/Anomaly/000.png").unlink()
    candle, macaroni = open_visa(visa)
    assert (candle.missing, macaroni.missing) == (0, 1)
    assert tally(macaroni) == (1, 1, 1)
    assert macaroni.problems == (
        "macaroni2: 1 of 3 test images of 1cls.csv is not there and left out: "
        "macaroni2/Data/Images/Anomaly/001.JPG.",
        "macaroni2: 1 of 2 train images of 1cls.csv is not there and left out: "
        "macaroni2/Data/Images/Normal/0001.JPG.",
        "macaroni2: 1 of 2 masks of 1cls.csv is not there and left out: "
        "macaroni2/Data/Masks/Anomaly/000.png.",
    )


def test_class_that_was_not_unpacked(visa):
    rewrite(
        visa, *ROWS, "pcb1,test,normal,pcb1/Data/Images/Normal/0.JPG,", "pcb1,test,anomaly,pcb1/Data/x.JPG,"
    )
    dataset = open_visa(visa)
    assert [category.name for category in dataset] == ["candle", "macaroni2"]
    assert dataset.problems == ("pcb1: none of its 2 test images is there, left out.",)


def test_files_that_the_table_does_not_name(visa):
    plant(
        visa, "candle/Data/Images/Normal/9.JPG", "candle/Data/Masks/Anomaly/9.png", "bowl/Data/Images/0.JPG"
    )
    plant(visa, "candle/Data/Images/Normal/._0000.JPG", "candle/Data/Images/.DS_Store")
    dataset = open_visa(visa)
    assert dataset.categories[0].problems == (
        "candle: 1 image in no row of 1cls.csv: 9.JPG.",
        "candle: 1 mask in no row of 1cls.csv: 9.png.",
    )
    assert dataset.problems == ("VisA: classes in no row of 1cls.csv were left out: bowl.",)


def test_extension_in_lower_case_is_the_same_file(visa):
    for path in visa.rglob("*.JPG"):
        path.rename(path.with_suffix(".jpg"))
    candle, macaroni = open_visa(visa)
    assert (tally(candle), tally(macaroni)) == ((1, 1, 1), (2, 1, 2))
    assert (candle.problems, candle.missing) == ((), 0)
    assert candle.test[0].image.exists()


def test_repeated_row_counts_once_and_contradiction_is_refused(visa):
    rewrite(visa, *ROWS, ROWS[-2])
    candle, _ = open_visa(visa)
    assert tally(candle) == (1, 1, 1)
    assert candle.problems == (
        "candle: 1 row of 1cls.csv repeated an earlier one: candle/Data/Images/Normal/0001.JPG.",
    )
    rewrite(visa, *ROWS, ROWS[-2].replace("normal", "anomaly"))
    with pytest.raises(DatasetError, match=r"'candle/.*0001.JPG', but line 10 says something else"):
        open_visa(visa)


def test_mask_of_a_good_image_is_left_out(visa):
    rewrite(visa, *ROWS[:-2], ROWS[-2] + "candle/Data/Masks/Anomaly/000.png", ROWS[-1])
    candle, _ = open_visa(visa)
    assert candle.problems == ("candle: left out 1 mask of good images: candle/Data/Masks/Anomaly/000.png.",)
    assert [record.mask is not None for record in candle.test] == [True, False]


class TestConverted:
    @pytest.fixture
    def converted(self, tmp_path):
        return plant(
            tmp_path / "VisA_pytorch",
            *("1cls/pcb1/train/good/0000.JPG", "1cls/pcb1/test/good/0001.JPG"),
            *("1cls/pcb1/test/bad/000.JPG", "1cls/pcb1/ground_truth/bad/000.png"),
            "2cls_fewshot/pcb1/test/good/0.JPG",
        )

    @pytest.mark.parametrize("given", ["", "1cls", "1cls/pcb1"])
    def test_is_listed_whatever_folder_is_given(self, converted, given):
        dataset = open_visa(converted / given)
        (pcb,) = dataset
        assert (pcb.name, tally(pcb), dataset.layout, pcb.problems) == ("pcb1", (1, 1, 1), "visa", ())
        assert seen(pcb, converted / "1cls" / "pcb1")[0] == (
            "test/bad/000.JPG",
            1,
            "bad",
            None,
            "ground_truth/bad/000.png",
        )

    def test_is_named_like_the_root(self, converted):
        dataset = open_visa(converted)
        assert {dataset.name, *(r.dataset for c in dataset for r in (*c.train, *c.test))} == {"VisA_pytorch"}


class TestErrors:
    def test_wrong_columns_are_named_with_the_path(self, visa):
        rewrite(visa, *ROWS, header="object,part,label,image,mask")
        said = (
            r"column 'split' is wanted in '.*1cls\.csv' \(columns object, split, label, image, mask\), but "
        )
        with pytest.raises(
            DatasetError, match=said + r"the table has only 'object', 'part', 'label', 'image', 'mask'"
        ):
            open_visa(visa)

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("candle,valid,normal,a.JPG,", "'train' or 'test' is wanted in line 2 of .* it is 'valid'"),
            ("candle,test,odd,a.JPG,", "label is wanted in line 2 of .* it is 'odd'"),
            ("candle,train,anomaly,a.JPG,", "only good images are wanted for training, but line 2"),
            ("candle,test", "line 2 of .* should have at least 5 values but has 2"),
        ],
    )
    def test_wrong_rows(self, visa, row, said):
        with pytest.raises(DatasetError, match=said):
            open_visa(rewrite(visa, row))

    def test_no_rows(self, visa):
        with pytest.raises(DatasetError, match=r"rows are wanted in '.*1cls.csv', but it has none"):
            open_visa(rewrite(visa))

    def test_no_table(self, visa):
        (visa / "split_csv" / "1cls.csv").unlink()
        for given in (visa, visa / "candle"):
            with pytest.raises(
                DatasetError, match=r"table '.*VisA/split_csv/1cls\.csv' is wanted.* not there"
            ):
                open_visa(given)

    def test_no_images(self, tmp_path):
        table(tmp_path / "split_csv" / "1cls.csv", HEADER, *ROWS)
        with pytest.raises(
            DatasetError, match=r"none of them is in .* which holds the folders split_csv; unpack"
        ):
            open_visa(tmp_path)

    def test_class_without_rows(self, visa):
        plant(visa, "bowl/Data/Images/Normal/0.JPG")
        with pytest.raises(DatasetError, match="has no rows of 'bowl', only of candle, macaroni2"):
            open_visa(visa / "bowl")

    def test_other_folder(self, tmp_path):
        with pytest.raises(
            DatasetError, match=r"VisA is wanted with split_csv/1cls.csv .* holds 1 image; check"
        ):
            open_visa(plant(tmp_path, "a.png"))
