"""AeBAD: domains, videos, hidden files of another system, and folders that are not there."""

from __future__ import annotations

import pytest
from zeroflaw.lab.datasets.aebad import open_aebad

from trees import plant, seen, tally
from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import open_dataset

DOMAINS = ("same", "background", "illumination", "view")


@pytest.fixture
def aebad(tmp_path):
    single = [
        *("train/good/background/0.png", "train/good/illumination/0.png", "train/good/view/0.png"),
        *(f"test/good/{domain}/{number}.png" for domain in DOMAINS for number in (0, 1)),
        *(f"test/{kind}/same/0.png" for kind in ("ablation", "breakdown", "fracture", "groove")),
        *(f"ground_truth/{kind}/same/0.png" for kind in ("ablation", "breakdown", "fracture", "groove")),
        *("test/groove/view/7.png", "ground_truth/groove/view/7.png"),
        *("test/fracture/background/3.png", "ground_truth/fracture/background/3.png"),
        *("test/ablation/illumination/4.png", "ground_truth/ablation/illumination/4.png"),
        *("test/good/same/._0.png", "test/groove/view/._7.png", "ground_truth/groove/view/._7.png", "._test"),
    ]
    videos = [
        *("train/good/video1_train/00.jpg", "train/good/video2_train/00.jpg"),
        *(f"test/video{number}/{kind}/00.jpg" for number in (1, 2, 3) for kind in ("good", "anomaly")),
        "test/video3/anomaly/01.jpg",
    ]
    plant(tmp_path / "AeBAD" / "AeBAD_S", *single)
    plant(tmp_path / "AeBAD" / "AeBAD_V", *videos)
    return tmp_path / "AeBAD"


def test_both_parts(aebad):
    dataset = open_aebad(aebad)
    single, video = dataset
    assert (dataset.name, dataset.layout, dataset.problems) == ("AeBAD", "aebad", ())
    assert (single.name, tally(single), single.problems) == ("AeBAD_S", (3, 8, 7), ())
    assert (video.name, tally(video), video.problems) == ("AeBAD_V", (2, 3, 4), ())
    assert {single.prompt_name, video.prompt_name} == {"aeroengine blade"}


def test_domains(aebad):
    single, video = open_aebad(aebad)
    assert single.domains == ("background", "illumination", "same", "view")
    assert video.domains == ("video1", "video2", "video3")
    of_view = [record for record in single.test if record.domain == "view"]
    assert [(record.defect, record.image.name) for record in of_view] == [
        ("good", "0.png"),
        ("good", "1.png"),
        ("groove", "7.png"),
    ]
    assert [record.domain for record in single.train] == ["background", "illumination", "view"]
    assert [record.domain for record in video.train] == ["video1", "video2"]


def test_masks_lie_under_the_same_domain_and_name(aebad):
    single, video = open_aebad(aebad)
    marked = [row for row in seen(single, aebad / "AeBAD_S") if row[1]]
    assert len(marked) == 7
    assert all(mask == image.replace("test", "ground_truth") for image, _, _, _, mask in marked)
    assert not video.has_masks
    assert video.pixel_test == ()


def test_defect_need_not_occur_in_every_domain(aebad):
    (aebad / "AeBAD_S" / "test" / "breakdown" / "view").mkdir()  # empty, as good as absent
    assert open_aebad(aebad).categories[0].problems == ()


@pytest.mark.parametrize("part", ["AeBAD_S", "AeBAD_V"])
def test_one_part(aebad, part):
    dataset = open_aebad(aebad / part)
    assert dataset.name == "AeBAD"
    assert dataset.categories == tuple(c for c in open_aebad(aebad) if c.name == part)


def test_what_does_not_fit_is_named(aebad):
    plant(
        aebad / "AeBAD_S", "test/good/stray.png", "test/groove/view/8.png", "ground_truth/fracture/view/1.png"
    )
    plant(aebad / "AeBAD_S", "ground_truth/groove/view/9.png", "train/good/view/notes.txt", "code/a.py")
    plant(aebad, "papers/a.pdf")
    dataset = open_aebad(aebad)
    assert dataset.problems == ("AeBAD: folders that are no part of AeBAD were left out: papers.",)
    assert dataset.categories[0].problems == (
        "AeBAD_S: folders other than train, test, ground_truth were left out: code.",
        "AeBAD_S/train/good/view: left out 1 entry that cannot be images: notes.txt.",
        "AeBAD_S/test/good: left out 1 file outside the folders of this part: stray.png.",
        "AeBAD_S/ground_truth/groove/view: 1 mask without an image of that name: 9.png.",
        "AeBAD_S/test/groove/view: pixel metrics leave out 1 of 2 images, without a mask: 8.png.",
        "AeBAD_S/ground_truth/fracture/view: masks without images were left out: 1.png.",
    )


def test_half_unpacked_domains_are_named(aebad):
    for path in (aebad / "AeBAD_S" / "test").glob("*/illumination/*.png"):
        path.unlink()
    for path in (aebad / "AeBAD_S" / "test" / "good" / "view").glob("*.png"):
        path.unlink()
    for path in (aebad / "AeBAD_V" / "test" / "video2").glob("*/*.jpg"):
        path.unlink()
    single, video = open_aebad(aebad)
    assert single.problems == (
        "AeBAD_S/ground_truth/ablation/illumination: 1 mask without an image of that name: 4.png.",
        "AeBAD_S/test: there is no image of the domain illumination.",
        "AeBAD_S/test, view: there is no good image, so that metrics are undefined.",
    )
    assert video.problems == ("AeBAD_V/test: there is no image of the video video2.",)


def test_published_count_is_compared(aebad):
    single, video = open_dataset(aebad)
    assert single.missing == 1639 - 15
    assert single.problems[-1] == (
        "AeBAD_S: published are 521 train images, 1639 test images; here are 3 train images, 15 test images."
    )
    assert (video.missing, video.problems) == (0, ())


class TestErrors:
    def test_other_folder(self, tmp_path):
        plant(tmp_path, "cup/test/good/0.png")
        with pytest.raises(
            DatasetError, match=r"AeBAD is wanted with AeBAD_S/test/good/<domain> .* folders cup;"
        ):
            open_aebad(tmp_path)

    def test_part_without_images(self, tmp_path):
        (tmp_path / "AeBAD_S" / "test" / "good" / "same").mkdir(parents=True)
        with pytest.raises(DatasetError, match=r"test images are wanted in '.*AeBAD_S', but there is none"):
            open_aebad(tmp_path)
