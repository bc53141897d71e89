"""KolektorSDD: labels are what is marked in the masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from zeroflaw.lab.datasets.kolektor import open_kolektor

from trees import plant, seen, tally
from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import open_dataset


def part(root, item, number, marked=False):
    plant(root, f"{item}/Part{number}.jpg")
    label = np.zeros((6, 4), np.uint8)
    label[2, 1] = 255 * marked
    Image.fromarray(label).save(root / item / f"Part{number}_label.bmp")


@pytest.fixture
def kolektor(tmp_path):
    root = tmp_path / "KolektorSDD"
    for item, number, marked in (("kos01", 0, False), ("kos01", 1, True), ("kos02", 0, False)):
        part(root, item, number, marked)
    return root


def test_labels_come_from_the_masks(kolektor):
    dataset = open_kolektor(kolektor)
    (category,) = dataset
    assert (dataset.name, dataset.layout, dataset.problems) == ("KolektorSDD", "kolektorsdd", ())
    assert (category.prompt_name, category.problems, category.missing) == ("electrical commutator", (), 0)
    assert tally(category) == (0, 2, 1)
    assert seen(category, kolektor) == [
        ("kos01/Part0.jpg", 0, "good", None, None),
        ("kos01/Part1.jpg", 1, "defect", None, "kos01/Part1_label.bmp"),
        ("kos02/Part0.jpg", 0, "good", None, None),
    ]


def test_what_lacks_its_other_half_is_left_out_and_named(kolektor):
    plant(
        kolektor, "kos01/Part2.jpg", "kos02/Part5_label.bmp", "kos02/Part0.png", "kos02/notes.txt", "papers/a"
    )
    part(kolektor, "kos03", 0)
    (kolektor / "kos03" / "Part0_label.bmp").write_bytes(b"BM")
    dataset = open_kolektor(kolektor)
    (category,) = dataset
    assert tally(category) == (0, 1, 1)
    assert category.missing == 4
    assert dataset.problems == ("KolektorSDD: folders other than kos.. were left out: papers.",)
    *first, unreadable = category.problems
    assert first == [
        "commutator/kos01: left out 1 image without a label: Part2.jpg.",
        "commutator/kos02: left out 1 entry that cannot be images: notes.txt.",
        "commutator/kos02: left out files that share a name but for the extension: Part0.jpg, Part0.png.",
        "commutator/kos02: 1 label without an image: Part5_label.bmp.",
    ]
    assert unreadable.startswith("commutator/kos03: left out Part0.jpg, whose label cannot be read (")


def test_one_kind_only(tmp_path):
    part(tmp_path, "kos01", 0)
    (category,) = open_kolektor(tmp_path)
    assert category.problems == ("commutator: there is no defective image, so that metrics are undefined.",)


def test_detection_compares_with_the_published_counts(kolektor):
    dataset = open_dataset(kolektor)
    assert dataset.layout == "kolektorsdd"
    assert dataset.categories[0].missing == 399 - 3
    assert dataset.categories[0].problems == (
        "commutator: published are 347 good and 52 defective test images; "
        "here are 2 good and 1 defective test images.",
    )


def test_errors(tmp_path):
    with pytest.raises(
        DatasetError, match=r"kos01/Part0.jpg and kos01/Part0_label.bmp, but '.*' holds nothing;"
    ):
        open_kolektor(tmp_path)
    with pytest.raises(
        DatasetError, match=r"images with labels are wanted .* \(commutator/kos01: left out 1 image"
    ):
        open_kolektor(plant(tmp_path, "kos01/Part0.jpg"))
