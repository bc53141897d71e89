"""Anybody's own photos: sorted into folders, labelled in a table, or not labelled at all."""

from __future__ import annotations

import pytest
from zeroflaw.lab.datasets.folders import open_folders, open_table

from trees import plant, seen, table, tally
from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import open_dataset


@pytest.fixture
def bowl(tmp_path):
    return plant(
        tmp_path / "kitchen" / "bowl",
        *("good/a.png", "good/b.JPG", "cracked/a.png", "cracked/c.jpeg", "stain/1.bmp", "readme.txt"),
    )


class TestFolders:
    def test_good_and_anything(self, bowl):
        dataset = open_folders(bowl)
        (category,) = dataset
        assert (dataset.name, dataset.layout, category.name) == ("kitchen", "folder", "bowl")
        assert (tally(category), category.problems, category.has_masks) == ((0, 2, 3), (), False)
        assert seen(category, bowl) == [
            ("cracked/a.png", 1, "cracked", None, None),
            ("cracked/c.jpeg", 1, "cracked", None, None),
            ("good/a.png", 0, "good", None, None),
            ("good/b.JPG", 0, "good", None, None),
            ("stain/1.bmp", 1, "stain", None, None),
        ]

    def test_several_products(self, bowl):
        plant(bowl.parent, "lid/good/0.png", "lid/bent/0.png", "papers/a.pdf")
        dataset = open_folders(bowl.parent)
        assert [(c.name, tally(c)) for c in dataset] == [("bowl", (0, 2, 3)), ("lid", (0, 1, 1))]
        assert dataset.problems == ("kitchen: folders without a folder 'good' were left out: papers.",)

    def test_training_images_and_masks_may_be_beside(self, bowl):
        plant(bowl, "train/good/0.png", "ground_truth/cracked/a_mask.png", "ground_truth/gone/0.png")
        (category,) = open_folders(bowl)
        assert tally(category) == (1, 2, 3)
        assert [row[-1] for row in seen(category, bowl)][:2] == ["ground_truth/cracked/a_mask.png", None]
        assert category.problems == (
            "bowl/ground_truth/gone: 1 mask without an image of that name: 0.png.",
            "bowl/cracked: pixel metrics leave out 1 of 2 images, without a mask: c.jpeg.",
            "bowl/stain: pixel metrics leave out 1 of 1 image, without a mask: 1.bmp.",
        )

    def test_what_does_not_fit_is_named(self, bowl):
        plant(bowl, "stray.png", "good/notes.txt", "cracked/more/0.png", "empty/x.txt", ".cache/0.png")
        (category,) = open_folders(bowl)
        assert category.problems == (
            "bowl: images beside the folder 'good' were left out: stray.png.",
            "bowl/good: left out 1 entry that cannot be images: notes.txt.",
            "bowl/cracked: folders inside were left out: more.",
            "bowl/empty: left out 1 entry that cannot be images: x.txt.",
            "bowl/empty: there is no image.",
        )

    def test_nothing_but_good(self, tmp_path):
        (category,) = open_folders(plant(tmp_path / "bowl", "good/0.png"))
        assert category.problems == ("bowl: there is no defective image, so that metrics are undefined.",)

    def test_unlabelled_folder_is_for_detecting(self, tmp_path):
        plant(tmp_path, "1.png", "2.jpg", "other.csv")
        said = r"labels are wanted, but '.*' holds 2 images and nothing that says which are good; sort them"
        for opens in (open_folders, open_dataset):
            with pytest.raises(DatasetError, match=said + r".*'zeroflaw detect'$"):
                opens(tmp_path)

    def test_table_among_the_images_is_pointed_at(self, tmp_path):
        table(plant(tmp_path, "1.png") / "bowls.csv", "image,label", "1.png,0")
        with pytest.raises(DatasetError, match=r"says which are good; give the table: '.*bowls\.csv'"):
            open_dataset(tmp_path)


class TestTable:
    def test_labels_and_masks(self, tmp_path):
        plant(tmp_path, "shots/b.png", "shots/a.png", "c.jpg", "masks/b.png")
        path = table(
            tmp_path / "blue_bowl.csv",
            "Label, mask,note,Image",
            "defective,masks/b.png,,shots/b.png",
            "0,,fine,shots/a.png",
            "GOOD,,,c.jpg",
        )
        dataset = open_table(path)
        (category,) = dataset
        assert (dataset.name, dataset.layout, category.name) == (tmp_path.name, "csv", "blue_bowl")
        assert category.prompt_name == "blue bowl"
        assert (tally(category), category.problems) == ((0, 2, 1), ())
        assert seen(category, tmp_path) == [
            ("c.jpg", 0, "good", None, None),
            ("shots/a.png", 0, "good", None, None),
            ("shots/b.png", 1, "defective", None, "masks/b.png"),
        ]
        assert open_dataset(path) == dataset

    def test_written_by_a_spreadsheet(self, tmp_path):
        plant(tmp_path, "a.png", "b, c.png")
        path = tmp_path / "t.csv"
        path.write_bytes('\ufeffimage,label\r\na.png,ok\r\n"b, c.png",ng\r\n,\r\n\r\n'.encode())
        with pytest.raises(DatasetError, match="label is wanted in line 4"):
            open_table(path)  # a row of blanks names no image
        path.write_bytes('\ufeffimage,label\r\na.png,ok\r\n"b, c.png",ng\r\n\r\n'.encode())
        (category,) = open_table(path)
        assert [(r.image.name, r.label) for r in category.test] == [("a.png", 0), ("b, c.png", 1)]

    def test_missing_files_are_counted_and_named(self, tmp_path):
        plant(tmp_path, "a.png", "b.png", "c.png", "m.png")
        rows = ("a.png,0,", "b.png,1,gone.png", "c.png,1,m.png", "d.png,1,", "sub/e.png,0,m.png", "a.png,0,")
        (category,) = open_table(table(tmp_path / "t.csv", "image,label,mask", *rows))
        assert (tally(category), category.missing) == ((0, 1, 2), 2)
        assert category.problems == (
            "t: 1 row of t.csv repeated an earlier one: a.png.",
            "t: 2 of 5 test images of t.csv are not there and left out: d.png, sub/e.png.",
            "t: 1 of 2 masks of t.csv is not there and left out: gone.png.",
            "t: pixel metrics leave out 1 of 2 defective images, without a mask: b.png.",
        )

    @pytest.mark.parametrize(
        ("header", "rows", "said"),
        [
            (
                "file,label",
                ["a.png,0"],
                r"column 'image' is wanted in '.*t\.csv' .* has only 'file', 'label'",
            ),
            ("image;label", ["a.png;0"], r"has only 'image;label'; correct its first line"),
            ("image,label,image", ["a.png,0,b.png"], "has more than one of that name"),
            (
                "image,label",
                ["a.png,maybe"],
                r"label is wanted in line 2 of '.*t\.csv': one of 0, .* it is 'maybe'",
            ),
            ("image,label", ["a.png"], r"line 2 of '.*t\.csv' should have at least 2 values but has 1"),
            ("image,label", ["a.png,0", "a.png,1"], r"'a\.png', but line 3 says something else"),
            ("image,label", [], r"rows are wanted in '.*t\.csv', but it has only a first line"),
            ("image,label", ["z.png,0", "y.png,1"], r"none of 2 rows has a file, for one '.*z\.png'"),
        ],
    )
    def test_wrong_tables(self, tmp_path, header, rows, said):
        plant(tmp_path, "a.png", "b.png")
        with pytest.raises(DatasetError, match=said):
            open_table(table(tmp_path / "t.csv", header, *rows))

    def test_files_that_are_no_tables(self, tmp_path):
        (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00image,label")
        with pytest.raises(DatasetError, match="should be a table of comma-separated values in UTF-8"):
            open_table(tmp_path / "t.csv")
        (tmp_path / "t.csv").write_bytes(b"")
        with pytest.raises(DatasetError, match="has no first line"):
            open_table(tmp_path / "t.csv")
        with pytest.raises(DatasetError, match=r"table is wanted at '.*u.csv', but there is none"):
            open_table(tmp_path / "u.csv")

    def test_names_cannot_steer_a_terminal(self, tmp_path):
        with pytest.raises(DatasetError) as error:
            open_table(table(tmp_path / "t.csv", "image,label", "a.png,\x1b[2J"))
        assert "\\x1b[2J" in str(error.value)
        assert "\x1b" not in str(error.value)
