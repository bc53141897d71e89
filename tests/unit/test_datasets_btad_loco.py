"""BTAD and MVTec LOCO AD: variations of the layout of MVTec AD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zeroflaw.lab.datasets.btad import open_btad
from zeroflaw.lab.datasets.loco import open_loco

from trees import plant, seen, tally
from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import open_dataset, read_mask


@pytest.fixture
def btad(tmp_path):
    return plant(
        tmp_path / "BTech",
        *("01/train/ok/0000.bmp", "01/train/ok/0001.bmp", "01/test/ok/0000.bmp"),
        *("01/test/ko/0000.bmp", "01/test/ko/0001.bmp"),
        *("01/ground_truth/ko/0000.png", "01/ground_truth/ko/0001.png"),
        *(
            "02/train/ok/0000.png",
            "02/test/ok/0001.png",
            "02/test/ko/0000.png",
            "02/ground_truth/ko/0000.png",
        ),
        *(
            "03/train/ok/0000.bmp",
            "03/test/ok/0000.bmp",
            "03/test/ko/0000.bmp",
            "03/ground_truth/ko/0000.bmp",
        ),
    )


class TestBtad:
    def test_counts_labels_and_masks_of_mixed_kinds(self, btad):
        dataset = open_btad(btad)
        assert (dataset.name, dataset.layout, dataset.problems) == ("BTech", "btad", ())
        assert [(c.name, tally(c), c.problems) for c in dataset] == [
            ("01", (2, 1, 2), ()),
            ("02", (1, 1, 1), ()),
            ("03", (1, 1, 1), ()),
        ]
        assert seen(dataset.categories[0], btad / "01") == [
            ("test/ko/0000.bmp", 1, "ko", None, "ground_truth/ko/0000.png"),
            ("test/ko/0001.bmp", 1, "ko", None, "ground_truth/ko/0001.png"),
            ("test/ok/0000.bmp", 0, "good", None, None),
        ]
        assert seen(dataset.categories[2], btad / "03")[0][-1] == "ground_truth/ko/0000.bmp"
        assert {record.defect for c in dataset for record in c.train} == {"good"}

    def test_numbers_are_no_names(self, btad):
        assert {category.prompt_name for category in open_btad(btad)} == {"product"}

    def test_one_product_and_detection(self, btad):
        assert open_btad(btad / "02").categories == open_btad(btad).categories[1:2]
        assert open_dataset(btad).layout == open_dataset(btad / "03").layout == "btad"

    def test_half_downloaded(self, btad):
        for path in (btad / "03" / "test" / "ok").iterdir():
            path.unlink()
        (btad / "02" / "ground_truth" / "ko" / "0000.png").unlink()
        _, second, third = open_btad(btad)
        assert second.problems == (
            "02/ground_truth: no mask belongs to an image, so that pixel metrics are undefined.",
        )
        assert third.problems == ("03/test: there is no good image, so that metrics are undefined.",)
        assert [c.missing for c in open_dataset(btad)] == [67, 228, 440]

    def test_other_folder(self, tmp_path):
        with pytest.raises(DatasetError, match=r"<category>/test/ok and <category>/test/<defect> is wanted"):
            open_btad(plant(tmp_path, "a/b.png"))


@pytest.fixture
def loco(tmp_path):
    return plant(
        tmp_path / "loco",
        *(
            "pushpins/train/good/000.png",
            "pushpins/validation/good/000.png",
            "pushpins/validation/good/001.png",
        ),
        *("pushpins/test/good/000.png", "pushpins/test/logical_anomalies/000.png"),
        *("pushpins/test/logical_anomalies/001.png", "pushpins/test/structural_anomalies/000.png"),
        *(
            "pushpins/ground_truth/logical_anomalies/000/000.png",
            "pushpins/ground_truth/logical_anomalies/000/001.png",
            "pushpins/ground_truth/logical_anomalies/001/000.png",
            "pushpins/ground_truth/structural_anomalies/000/000.png",
        ),
        *("pushpins/defects_config.json", "license.txt"),
    )


class TestLoco:
    def test_counts_labels_and_folders_of_masks(self, loco):
        dataset = open_loco(loco)
        (pushpins,) = dataset
        assert (dataset.layout, dataset.problems, tally(pushpins)) == ("mvtec-loco", (), (1, 1, 3))
        where = "ground_truth/logical_anomalies"
        assert seen(pushpins, loco / "pushpins") == [
            ("test/good/000.png", 0, "good", None, None),
            ("test/logical_anomalies/000.png", 1, "logical_anomalies", None, f"{where}/000"),
            ("test/logical_anomalies/001.png", 1, "logical_anomalies", None, f"{where}/001"),
            (
                "test/structural_anomalies/000.png",
                1,
                "structural_anomalies",
                None,
                "ground_truth/structural_anomalies/000",
            ),
        ]
        assert pushpins.problems == ("pushpins/validation: 2 images of this part are not used.",)
        assert pushpins.pixel_test == pushpins.test

    def test_masks_of_an_image_are_united(self, loco):
        (pushpins,) = open_loco(loco)
        folder = pushpins.test[1].mask
        expected = np.zeros((5, 7), dtype=bool)
        for name, value, place in (("000.png", 254, (1, 2)), ("001.png", 7, (4, 6))):
            one = np.zeros((5, 7), dtype=np.uint8)
            one[place], expected[place] = value, True
            Image.fromarray(one).save(folder / name)
        assert np.array_equal(read_mask(folder, (5, 7)), expected)
        Image.fromarray(np.zeros((7, 5), np.uint8)).save(folder / "000.png")
        with pytest.raises(
            DatasetError, match=r"000\.png' should fit an image of 7 x 5 pixels but has 5 x 7"
        ):
            read_mask(folder, (5, 7))

    def test_folder_that_lost_its_masks(self, tmp_path):
        (tmp_path / "000").mkdir()
        with pytest.raises(DatasetError, match=r"masks are wanted in '.*000', but there is none"):
            read_mask(tmp_path / "000", (2, 2))

    def test_masks_that_do_not_fit_are_named(self, loco):
        masks = "pushpins/ground_truth/logical_anomalies"
        plant(loco, f"{masks}/9/000.png", f"{masks}/flat.png", f"{masks}/000/readme.txt")
        (loco / masks / "001" / "000.png").unlink()
        (pushpins,) = open_loco(loco)
        assert pushpins.problems[1:] == (
            "pushpins/ground_truth/logical_anomalies: masks are wanted in a folder for each image, "
            "left out 1 file: flat.png.",
            "pushpins/ground_truth/logical_anomalies/000: left out 1 entry that cannot be images: "
            "readme.txt.",
            "pushpins/ground_truth/logical_anomalies/001: there is no mask.",
            "pushpins/ground_truth/logical_anomalies: 1 mask without an image of that name: 9.",
            "pushpins/test/logical_anomalies: pixel metrics leave out 1 of 2 images, without a mask: "
            "001.png.",
        )

    def test_folder_with_a_dot_goes_by_its_whole_name(self, loco):
        plant(loco, "pushpins/test/structural_anomalies/a.b.png")
        plant(loco, "pushpins/ground_truth/structural_anomalies/a.b/000.png")
        (pushpins,) = open_loco(loco)
        (record,) = (r for r in pushpins.test if r.image.name == "a.b.png")
        assert record.mask == loco / "pushpins" / "ground_truth" / "structural_anomalies" / "a.b"

    def test_detection(self, loco):
        dataset = open_dataset(loco)
        assert dataset.layout == "mvtec-loco"
        assert dataset.categories[0].missing == 310 - 4
        assert dataset.problems == (
            "loco: 5 categories are published, not here: "
            "breakfast_box, juice_bottle, screw_bag, splicing_connectors.",
        )


def test_mpdd_is_in_the_layout_of_mvtec_and_paired_by_stem(tmp_path: Path) -> None:
    root = plant(
        tmp_path / "MPDD",
        *("tubes/train/good/000.png", "tubes/test/good/000.png"),
        *("tubes/test/anomalous/005.png", "tubes/test/anomalous/007.png"),
        *("tubes/ground_truth/anomalous/007_mask.png", "tubes/ground_truth/anomalous/004_mask.png"),
    )
    dataset = open_dataset(root, layout="mpdd")
    (tubes,) = dataset
    assert (dataset.layout, tally(tubes), tubes.missing) == ("mpdd", (1, 1, 2), 101 - 3)
    assert [mask for *_, mask in seen(tubes, root / "tubes")] == [
        None,
        "ground_truth/anomalous/007_mask.png",
        None,
    ]
    assert "1 mask without an image of that name: 004_mask.png" in tubes.problems[0]
    assert (
        "not here: bracket_black, bracket_brown, bracket_white, connector, metal_plate."
        in dataset.problems[0]
    )
