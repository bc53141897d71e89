"""One way to open every layout: by what lies in the folder, by name, and what is said where nothing fits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trees import plant, table
from zeroflaw.errors import DatasetError, UsageError
from zeroflaw.lab.datasets import LAYOUTS, open_dataset, open_mvtec
from zeroflaw.lab.datasets.opening import AUTO

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"
TREES = {
    "mvtec": ["cup/test/good/0.png", "cup/test/crack/0.png"],
    "btad": ["01/test/ok/0.png", "01/test/ko/0.png"],
    "mvtec-loco": ["pushpins/test/good/0.png", "pushpins/test/logical_anomalies/0.png"],
    "aebad": ["AeBAD_S/test/good/same/0.png", "AeBAD_S/test/groove/same/0.png"],
    "visa": ["1cls/candle/test/good/0.png", "1cls/candle/test/bad/0.png"],
    "folder": ["cup/good/0.png", "cup/crack/0.png"],
}


@pytest.mark.parametrize("layout", TREES)
def test_layout_is_seen_and_may_be_said(tmp_path, layout):
    plant(tmp_path, *TREES[layout])
    dataset = open_dataset(tmp_path)
    assert dataset.layout == layout
    assert open_dataset(str(tmp_path), layout) == dataset
    assert [record.label for category in dataset for record in category.test].count(1) == 1


@pytest.mark.parametrize("layout", ["mvtec", "btad", "mvtec-loco", "folder"])
def test_one_category_is_seen_as_well(tmp_path, layout):
    plant(tmp_path, *TREES[layout])
    (category,) = open_dataset(tmp_path)
    assert open_dataset(tmp_path / category.name).layout == layout


def test_own_data_in_the_layout_of_mvtec_are_left_as_they_are(tmp_path):
    plant(tmp_path, "bottle/test/good/0.png", "bottle/test/crack/0.png")
    assert open_dataset(tmp_path) == open_mvtec(tmp_path)


class TestPublished:
    def test_sums_are_those_of_the_papers(self):
        sums = {}
        for name, layout in LAYOUTS.items():
            counts = [[int(n) for n in known.split("/")] for known in layout.published.values()]
            sums[name] = (sum(train for train, *_ in counts), sum(sum(test) for _, *test in counts))
        assert sums == {
            "mvtec-ad": (3629, 1725),
            "mpdd": (888, 458),
            "visa": (8659, 2162),
            "btad": (1799, 741),
            "mvtec-loco": (1778, 1568),
            "aebad": (521, 1639),
            "sewerml": (552_820, 130_046),
            "kolektorsdd": (0, 399),
            "elpv": (0, 2223),
            **dict.fromkeys(("mvtec-3d", "mvtec", "folder", "csv"), (0, 0)),
        }

    @pytest.mark.parametrize("train", [0, 209])
    def test_whole_category_says_nothing(self, tmp_path, train):
        good = [f"test/good/{number}.png" for number in range(20)]
        bad = [f"test/broken/{number}.png" for number in range(63)]
        plant(tmp_path / "bottle", *good, *bad, *(f"train/good/{number}.png" for number in range(train)))
        dataset = open_dataset(tmp_path / "bottle", "mvtec-ad")
        assert (dataset.layout, dataset.problems) == ("mvtec-ad", ())
        assert (dataset.categories[0].problems, dataset.categories[0].missing) == ((), 0)

    def test_part_and_excess_and_strangers_are_said(self, tmp_path):
        good = [f"bottle/test/good/{number}.png" for number in range(84)]
        plant(tmp_path / "mvtec", *good, "cup/test/good/0.png", "cup/test/crack/0.png")
        dataset = open_dataset(tmp_path / "mvtec", "mvtec-ad")
        bottle, cup = dataset
        assert (bottle.missing, cup.missing) == (0, 0)
        assert bottle.problems[-1] == (
            "bottle: published are 209 train, 20 good test, 63 flawed test images; "
            "here are 0 train, 84 good test, 0 flawed test images."
        )
        assert cup.problems == ()
        assert dataset.problems == (
            "mvtec: not here 14 products of those published: cable, capsule, carpet, grid, hazelnut and 9 "
            "more.",
            "mvtec: 1 product not published as a part of mvtec-ad: cup.",
        )


class TestNothingFits:
    def test_says_what_was_expected_and_found(self, tmp_path):
        plant(tmp_path, "papers/a.pdf", "code/b.py", "notes.txt")
        with pytest.raises(DatasetError) as error:
            open_dataset(tmp_path)
        message = str(error.value)
        assert message.endswith(
            "' holds code/, papers/, notes.txt and nothing that says which images are good; "
            "sort them into good/ and other folders, or detect them"
        )
        for known in ("test/{defect}/{image}", "Data/Images", "SewerML_Val.csv", "kos{number}/", "NAME.csv"):
            assert known in message

    def test_photos_without_labels(self, tmp_path):
        with pytest.raises(
            DatasetError, match=r"holds 1\.png, 2\.jpg, other\.csv and nothing that says .* good/"
        ):
            open_dataset(plant(tmp_path, "1.png", "2.jpg", "other.csv"))

    def test_folder_of_data_sets(self, tmp_path):
        for layout in ("mvtec", "btad", "visa"):
            plant(tmp_path / layout, *TREES[layout])
        plant(tmp_path, "deeper/still/x.txt")
        with pytest.raises(DatasetError) as error:
            open_dataset(tmp_path)
        would = ", ".join(f"'{tmp_path / name}'" for name in ("btad", "mvtec", "visa"))
        assert str(error.value).endswith(f"these would work: {would}")

    @pytest.mark.parametrize("part", ["test", "test/good", "train", "train/good", "ground_truth"])
    def test_part_of_a_category(self, tmp_path, part):
        plant(tmp_path / "cup", "test/good/0.png", "test/crack/0.png", "train/good/0.png")
        plant(tmp_path / "cup", "ground_truth/crack/0.png")
        said = rf"is a part of a category; this would work: '{tmp_path / 'cup'}'$"
        with pytest.raises(DatasetError, match=said):
            open_dataset(tmp_path / "cup" / part)

    @pytest.mark.parametrize("part", ["Data", "Data/Images"])
    def test_part_of_visa(self, tmp_path, part):
        plant(tmp_path / "candle" / "Data" / "Images", "Normal/0.JPG", "Anomaly/0.JPG")
        with pytest.raises(DatasetError, match=rf"this would work: '{tmp_path / 'candle'}'$"):
            open_dataset(tmp_path / "candle" / part)

    def test_advice_never_goes_in_a_circle(self, tmp_path):
        plant(tmp_path, "test/good/0.png", "test/crack/0.png", "good/1.png", "crack/1.png")
        with pytest.raises(DatasetError, match=rf"work: '{tmp_path}' with --layout folder or mvtec$"):
            open_dataset(tmp_path / "test")
        with pytest.raises(DatasetError, match=r"mixes layouts .*--layout"):
            open_dataset(tmp_path)
        assert [len(c.test) for layout in ("folder", "mvtec") for c in open_dataset(tmp_path, layout)] == [
            2,
            2,
        ]

    def test_locked_folder(self, tmp_path, monkeypatch):
        plant(tmp_path, *TREES["mvtec"])
        plain = os.scandir

        def refuse(path):
            if Path(path).name == "good":
                raise PermissionError(13, "Permission denied")
            return plain(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(DatasetError, match=r"good' should be listed but cannot be .*Permission denied"):
            open_dataset(tmp_path)

    def test_train_folders_alone_are_no_sorted_photos(self, tmp_path):
        plant(tmp_path, "cup/train/good/0.png", "cup/ground_truth/good/0.png")
        for root in (tmp_path, tmp_path / "cup"):
            with pytest.raises(DatasetError, match="nothing that says which images are good"):
                open_dataset(root)

    @pytest.mark.parametrize(
        ("name", "said"), [("nope", "does not exist"), ("a\0b", "does not exist"), ("f.txt", "is a file")]
    )
    def test_no_folder(self, tmp_path, name, said):
        plant(tmp_path, "f.txt")
        with pytest.raises(
            DatasetError, match=f"folder of a data set is wanted, but .* {said}; check the path"
        ):
            open_dataset(tmp_path / name)

    def test_name_of_a_data_set_that_is_not_here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(
            DatasetError, match=r"folder of VisA is wanted, .* get the data set from https://"
        ):
            open_dataset("visa")

    def test_unknown_layout(self, tmp_path):
        with pytest.raises(
            UsageError, match=r"layout is one of auto, mvtec-ad, .*, not 'vis'; did you mean 'visa'\?"
        ):
            open_dataset(tmp_path, "vis")


class TestMixed:
    def test_categories_of_two_layouts(self, tmp_path):
        plant(tmp_path, *TREES["mvtec"], *TREES["btad"])
        with pytest.raises(
            DatasetError, match=r"mixes layouts \(btad in 01; mvtec in cup\); give the folder of one"
        ):
            open_dataset(tmp_path)
        assert [c.name for c in open_dataset(tmp_path, layout="mvtec")] == ["01", "cup"]

    def test_two_data_sets_in_one_folder(self, tmp_path):
        plant(tmp_path, *TREES["mvtec"], "kos01/Part0.jpg")
        table(tmp_path / "SewerML_Val.csv", "Filename,Defect", "a.png,0")
        with pytest.raises(
            DatasetError, match=r"\(sewerml in the folder itself; kolektorsdd in .*; mvtec in cup\)"
        ):
            open_dataset(tmp_path)


def test_every_layout_says_all_that_is_to_be_known():
    assert list(LAYOUTS) == [layout.name for layout in LAYOUTS.values()]
    assert AUTO not in LAYOUTS
    assert (
        LAYOUTS["aebad"].picture[1]
        == "ROOT/{category}/test/{defect}/{background,illumination,same,view}/{image}"
    )
    for layout in LAYOUTS.values():
        assert layout.picture
        assert all((layout.title, layout.licence, layout.source, layout.note))
        assert set(layout.aliases) <= set(layout.published)


def test_every_layout_is_in_the_documentation():
    text = DOCS.read_text(encoding="utf-8")
    for layout in LAYOUTS.values():
        assert f"| `{layout.name}` |" in text
        assert layout.licence in text
