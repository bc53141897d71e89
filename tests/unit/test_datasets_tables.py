"""Data sets whose tables say what is good: VisA, ELPV, Sewer-ML, and anybody's own."""

from __future__ import annotations

import importlib.util
import os
import sys
import tracemalloc
from pathlib import Path

import pytest

from trees import plant, seen, table, tally
from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import LAYOUTS, LazyRecords, open_dataset, tables


class TestOwnTable:
    def test_labels_and_masks(self, tmp_path):
        plant(tmp_path, "shots/b.png", "shots/a.png", "c.jpg", "masks/b.png")
        path = table(
            tmp_path / "blue_bowl.csv",
            *("Label, mask,note,Image", "defective,masks/b.png,,shots/b.png", "0,,fine,shots/a.png"),
            *("GOOD,,,c.jpg", ",,,"),
        )
        (category,) = dataset = open_dataset(path)
        assert (dataset.name, dataset.layout, category.name) == (tmp_path.name, "csv", "blue_bowl")
        assert (category.prompt_name, tally(category), category.problems) == ("blue bowl", (0, 2, 1), ())
        assert seen(category, tmp_path) == [
            ("c.jpg", 0, "good", None, None),
            ("shots/a.png", 0, "good", None, None),
            ("shots/b.png", 1, "defective", None, "masks/b.png"),
        ]

    @pytest.mark.parametrize(("name", "comma"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t")])
    def test_written_by_a_spreadsheet(self, tmp_path, name, comma):
        plant(tmp_path, "a.png", "sub/b c.png", "sub/m.png")
        rows = [
            ["image", "label", "mask"],
            ["a.png", "ok", ""],
            [r"sub\b c.png", "ng", r"sub\m.png"],
            [""] * 3,
        ]
        text = "\ufeff" + "\r\n".join(comma.join(cells) for cells in rows)
        (tmp_path / name).write_bytes(text.encode())
        (category,) = open_dataset(tmp_path / name)
        assert seen(category, tmp_path) == [
            ("a.png", 0, "good", None, None),
            ("sub/b c.png", 1, "defective", None, "sub/m.png"),
        ]

    def test_split(self, tmp_path):
        plant(tmp_path, *(f"{name}.png" for name in "abcdef"))
        rows = ("a.png,0,train", "b.png,1,train", "c.png,0,VAL", "d.png,1,test", "e.png,0,", "f.png,0,Train")
        (category,) = open_dataset(table(tmp_path / "t.csv", "image,label,split", *rows))
        assert tally(category) == (2, 1, 1)
        assert {record.split for record in category.train} == {"train"}
        assert category.problems == (
            "t: left out 1 training image with flaws: b.png.",
            "t: left out 1 image not to be scored: c.png.",
        )

    def test_missing_files_are_counted_and_named(self, tmp_path):
        plant(tmp_path, "a.png", "b.png", "c.png", "m.png")
        (tmp_path / "l.png").symlink_to(tmp_path / "gone")
        rows = ("a.png,0,", "b.png,1,gone.png", "c.png,1,m.png", "d.png,1,", "sub/e.png,0,m.png", "a.png,0,")
        path = table(tmp_path / "t.csv", "image,label,mask", *rows, "l.png,0,", "A.PNG,0,m.png")
        (category,) = open_dataset(path)
        assert (tally(category), category.missing) == ((0, 2, 2), 3)
        assert category.problems == (
            "t: left out 1 row of t.csv repeating an earlier one: a.png.",
            "t: left out 1 mask of t.csv without a file: gone.png.",
            "t: left out 3 test images of t.csv without a file: d.png, sub/e.png, l.png.",
            "t: left out 1 mask of good images: m.png.",
            f"t: pixel metrics leave out 1 flawed image of 2, without a mask: {tmp_path.name}/b.png.",
        )

    @pytest.mark.parametrize(
        ("header", "rows", "said"),
        [
            (
                "file,label",
                ["a.png,0"],
                r"column 'image' is wanted in '.*t\.csv' .* only file, label; correct",
            ),
            ("image,label,image", ["a.png,0,b.png"], "has more than one; correct"),
            ("image,label", ["a.png,\x1b[2J"], r"label is wanted in line 2 of '.*t\.csv', 0, .*'\\x1b\[2J'"),
            (
                "image,label,split",
                ["a.png,0,x"],
                "split is wanted in line 2 of .*, testing, train, training,",
            ),
            ("image,label", ["a.png"], r"at least 2 values are wanted in line 2 of '.*t\.csv', but it has 1"),
            ("image,label", ["a.png,0", "a.png,1"], r"'a\.png', but line 3 says something else"),
            ("image,label,mask", ["a.png,1,a", "a.png,1,"], "but line 3 says something else of its split"),
            ("image,label", [], r"test images that '.*t\.csv' names .* \(it has no rows of them\)"),
            ("image,label", ["z.png,0", "y.png,1"], r"left out 2 test images of t.csv .*: z\.png, y\.png"),
        ],
    )
    def test_wrong_tables(self, tmp_path, header, rows, said):
        plant(tmp_path, "a.png", "b.png")
        with pytest.raises(DatasetError, match=said):
            open_dataset(table(tmp_path / "t.csv", header, *rows))

    def test_several_masks_of_one_image_are_united(self, tmp_path):
        plant(tmp_path, "a.png", "b.png", "c.png", "m/1.png", "m/2.png", "m/3.png")
        rows = (
            "a.png,1,m/1.png",
            "a.png,1,m/2.png",
            "a.png,1,m/1.png",
            "b.png,1,m/1.png; m/3.png",
            "c.png,0,",
        )
        (category,) = open_dataset(table(tmp_path / "t.csv", "image,label,mask", *rows))
        found = [[path.name for path in record.masks] for record in category.test]
        assert found == [["1.png", "2.png"], ["1.png", "3.png"], []]
        assert category.problems == ("t: left out 1 row of t.csv repeating an earlier one: a.png.",)

    def test_words_for_splits(self, tmp_path):
        names = ("Training", "TRAIN", "validation", "Test", "testing", "dev", "")
        plant(tmp_path, *(f"{number}.png" for number in range(7)), "x.png")
        rows = [f"{number}.png,0,{name}" for number, name in enumerate(names)]
        path = table(tmp_path / "t.csv", "image,label,Split", *rows, "x.png,1,test")
        (category,) = open_dataset(path)
        assert tally(category) == (2, 3, 1)

    def test_endless_lines_are_refused(self, tmp_path):
        plant(tmp_path, "a.png")
        (tmp_path / "t.csv").write_text("image,label\na.png,0\n" + "x" * 300_000)
        with pytest.raises(DatasetError, match="a line has more than 262,144 characters"):
            open_dataset(tmp_path / "t.csv")

    @pytest.mark.parametrize(
        ("content", "said"), [(b"\xff\xfe\0image", "table in UTF-8"), (b"", "only nothing")]
    )
    def test_files_that_are_no_tables(self, tmp_path, content, said):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(DatasetError, match=said):
            open_dataset(tmp_path / "t.csv")
        with pytest.raises(DatasetError, match="cannot be"):
            open_dataset(tmp_path / "u\0.csv", "csv")


ROWS = (
    "macaroni2,train,normal,macaroni2/Data/Images/Normal/0000.JPG,",
    "macaroni2,train,normal,macaroni2/Data/Images/Normal/0001.JPG,",
    "macaroni2,test,normal,macaroni2/Data/Images/Normal/0002.JPG,",
    "macaroni2,test,anomaly,macaroni2/Data/Images/Anomaly/001.JPG,macaroni2/Data/Masks/Anomaly/001.png",
    "candle,train,normal,candle/Data/Images/Normal/0000.JPG,",
    "candle,test,normal,candle/Data/Images/Normal/0001.JPG,",
    "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
)


class TestVisa:
    @pytest.fixture
    def visa(self, tmp_path):
        files = [path for row in ROWS for path in row.split(",")[3:] if path]
        root = plant(tmp_path / "VisA", *files, "candle/image_anno.csv", "split_csv/2cls_fewshot.csv")
        return self.rewrite(root, *ROWS)

    @staticmethod
    def rewrite(root: Path, *rows: str) -> Path:
        table(root / "split_csv" / "1cls.csv", "object,split,label,image,mask", *rows)
        return root

    def test_split_is_that_of_the_table(self, visa):
        candle, macaroni = dataset = open_dataset(visa)
        assert (dataset.name, dataset.layout) == ("VisA", "visa")
        assert [(c.name, tally(c)) for c in dataset] == [("candle", (1, 1, 1)), ("macaroni2", (2, 1, 1))]
        assert [problem.partition(":")[0] for problem in macaroni.problems] == ["macaroni2"]  # of the counts
        assert seen(macaroni, visa / "macaroni2" / "Data") == [
            ("Images/Anomaly/001.JPG", 1, "bad", None, "Masks/Anomaly/001.png"),
            ("Images/Normal/0002.JPG", 0, "good", None, None),
        ]
        single = open_dataset(visa / "candle")
        assert (single.name, single.categories) == ("VisA", (candle,))
        assert [c.prompt_name for c in open_dataset(visa, aliases=True)] == ["candle", "macaroni"]

    def test_what_does_not_fit_is_named(self, visa):
        (visa / "macaroni2/Data/Images/Anomaly/001.JPG").unlink()
        plant(
            visa, "candle/Data/Images/Normal/9.JPG", "candle/Data/Masks/Anomaly/9.png", "bowl/Data/Images/0"
        )
        plant(visa, "candle/Data/Images/Normal/._0000.JPG")
        self.rewrite(visa, *ROWS, "pcb1,test,normal,pcb1/Data/Images/Normal/0.JPG,")
        for path in visa.rglob("0001.JPG"):
            path.rename(path.with_suffix(".jpg"))  # the same file
        candle, macaroni = dataset = open_dataset(visa)
        assert tally(macaroni) == (2, 1, 0)
        assert macaroni.problems[0] == (
            "macaroni2: left out 1 test image of 1cls.csv without a file: "
            "macaroni2/Data/Images/Anomaly/001.JPG."
        )
        assert candle.problems[0] == "candle: left out 2 files in no row of 1cls.csv: 9.JPG, 9.png."
        assert dataset.problems[:2] == (
            "pcb1: left out 1 test image of 1cls.csv without a file: pcb1/Data/Images/Normal/0.JPG.",
            "VisA: left out 1 product in no row of 1cls.csv: bowl.",
        )

    @pytest.mark.parametrize("given", ["", "1cls", "1cls/pcb1"])
    def test_converted(self, tmp_path, given):
        root = plant(
            tmp_path / "VisA_pytorch",
            *("1cls/pcb1/train/good/0000.JPG", "1cls/pcb1/test/good/0001.JPG"),
            *("1cls/pcb1/test/bad/000.JPG", "1cls/pcb1/ground_truth/bad/000.png"),
            "2cls_fewshot/pcb1/test/good/0.JPG",
        )
        (pcb,) = dataset = open_dataset(root / given, "visa")
        assert (pcb.name, tally(pcb), dataset.layout) == ("pcb1", (1, 1, 1), "visa")
        assert seen(pcb, root / "1cls" / "pcb1")[0][-1] == "ground_truth/bad/000.png"
        names = {dataset.name, *(r.dataset for c in dataset for r in (*c.train, *c.test))}
        assert names == {"1cls" if given else "VisA_pytorch"}

    @pytest.mark.parametrize("given", ["", "candle"])
    def test_no_table(self, visa, given):
        (visa / "split_csv" / "1cls.csv").unlink()
        with pytest.raises(DatasetError, match=r"'.*VisA/split_csv/1cls\.csv' does not exist"):
            open_dataset(visa / given)

    def test_class_without_rows(self, visa):
        plant(visa, "bowl/Data/Images/Normal/0.JPG", "bowl/Data/Images/0.JPG")
        with pytest.raises(DatasetError, match=r"it has no rows of them"):
            open_dataset(visa / "bowl", "visa")


class TestElpv:
    LINES = (
        *("images/cell0001.png  1.0                 mono", "images/cell0002.png  0.0                 mono"),
        *("images/cell0003.png  0.3333333333333333  poly", "images/cell0004.png  0.6666666666666666  mono"),
        *("images/cell0005.png  0.0                 poly", "images/cell0006.png  1.0                 poly"),
    )

    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        """An installed package of the same shape whose code must not run."""
        data = tmp_path / "site" / "elpv_dataset" / "data"
        plant(data, *(line.split()[0] for line in self.LINES))
        (data / "labels.csv").write_text("\n".join(self.LINES) + "\n")
        (data.parent / "__init__.py").write_text("raise RuntimeError('imported')")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
        monkeypatch.chdir(tmp_path)
        return data

    def test_sure_cells_are_scored(self, package):
        (category,) = dataset = open_dataset("elpv")
        assert (dataset.name, dataset.layout, category.name) == ("elpv", "elpv", "solar_cell")
        assert (category.prompt_name, category.domains) == ("solar cell", ("mono", "poly"))
        assert (tally(category), category.missing) == ((0, 2, 2), 1508 + 715 - 4)
        assert seen(category, package / "images") == [
            ("cell0001.png", 1, "defective", "mono", None),
            ("cell0002.png", 0, "good", "mono", None),
            ("cell0005.png", 0, "good", "poly", None),
            ("cell0006.png", 1, "defective", "poly", None),
        ]
        assert "solar_cell: left out 2 images not to be scored: images/cell0003.png" in category.problems[0]
        assert "elpv_dataset" not in sys.modules
        assert open_dataset(package).categories == open_dataset("elpv", "elpv").categories == (category,)

    def test_folder_of_that_name_is_not_meant(self, package, tmp_path):
        plant(tmp_path, "elpv/good/0.png", "elpv/bad/0.png")
        assert open_dataset("elpv").problems[0].endswith("not the folder here; for that write ./elpv.")
        assert open_dataset("./elpv").layout == "folder"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are those of POSIX")
    def test_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "labels.csv")
        with pytest.raises(DatasetError, match="nothing that says which images are good"):
            open_dataset(tmp_path)
        with pytest.raises(DatasetError, match="is a pipe"):
            open_dataset(tmp_path, "elpv")

    def test_package_is_not_installed(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(DatasetError, match=r"not installed; run: pip install 'zeroflaw\[elpv\]'$"):
            open_dataset("elpv")

    @pytest.mark.parametrize("line", ["images/a.png 1.0", "images/a.png often mono", "images/a.png 2.0 mono"])
    def test_wrong_lines(self, package, line):
        (package / "labels.csv").write_text(f"{self.LINES[0]}\n\n{line}\n")
        with pytest.raises(DatasetError, match=r"wanted in line 3 of '.*labels\.csv'"):
            open_dataset(package, "elpv")


CODES = LAYOUTS["sewerml"].codes
HEADER = ",".join(["Filename", "WaterLevel", "VA", *CODES, "ND", "Defect"])


def row(name: str, *codes: str, defect: int | str | None = None) -> str:
    said = int(bool(codes)) if defect is None else defect
    marks = ["1" if code in codes else "0" for code in CODES]
    return ",".join([name, "5", "1", *marks, str(int(not codes)), str(said)])


VAL = (row("3.png", "RB", "OB"), row("1.png"), row("2.png", "FO"), row("4.png", defect=1))


class TestSewer:
    @pytest.fixture
    def sewer(self, tmp_path):
        root = tmp_path / "sewer"
        table(root / "annotations" / "SewerML_Val.csv", HEADER, *VAL)
        table(
            root / "annotations" / "SewerML_Train.csv",
            HEADER,
            row("11.png"),
            row("12.png", "RO"),
            row("13.png"),
        )
        return plant(
            root,
            *("valid00/1.png", "valid00/2.png", "valid01/3.png", "valid01/4.png", "valid00/._1.png"),
            *("train00/11.png", "train00/12.png", "train01/13.png"),
        )

    def test_validation_images_are_scored(self, sewer):
        (category,) = dataset = open_dataset(sewer)
        assert (dataset.name, dataset.layout, category.name) == ("sewer", "sewerml", "sewer")
        assert (category.prompt_name, category.missing) == ("sewer pipe", 130_046 - 4)
        assert seen(category, sewer) == [
            ("valid00/1.png", 0, "good", None, None),
            ("valid00/2.png", 1, "FO", None, None),
            ("valid01/3.png", 1, "RB+OB", None, None),
            ("valid01/4.png", 1, "defect", None, None),
        ]
        assert [(r.image.name, r.split) for r in category.train] == [("11.png", "train"), ("13.png", "train")]
        assert category.problems == (
            "sewer: left out 1 training image with flaws: 12.png.",
            "sewer: published are 552820 train, 68681 good test, 61365 flawed test images; here are 2 train, "
            "1 good test, 3 flawed test images.",
        )

    @pytest.mark.parametrize("where", ["", "images", "images/all"])
    def test_flat_folder_of_images(self, tmp_path, where):
        table(tmp_path / "sewerml_val.csv", HEADER, *VAL)
        plant(tmp_path / where, *(f"{number}.png" for number in (1, 2, 3, 4)), "9.png")
        (category,) = open_dataset(tmp_path)
        assert (tally(category), len(category.problems)) == ((0, 1, 3), 1)

    def test_missing_doubled_and_extra_files_are_named(self, sewer):
        (sewer / "valid00" / "2.png").rename(sewer / "train00" / "2.png")  # another split's
        plant(sewer, "valid01/1.png", "valid01/99.png", "valid00/notes.txt", "annotations/SewerML_Test.csv")
        (sewer / "annotations" / "SewerML_Train.csv").unlink()
        (category,) = open_dataset(sewer)
        assert [record.image.name for record in category.test] == ["3.png", "4.png"]
        assert category.problems[:4] == (
            "sewer: left out 2 test images of SewerML_Val.csv without a file: 1.png, 2.png.",
            "sewer: there is no good test image, so that metrics are undefined.",
            "sewer: left out 1 image that several folders have: 1.png.",
            "sewer: left out 2 files that SewerML_Val.csv does not name: notes.txt, 99.png.",
        )

    def test_records_of_large_sets_are_made_when_asked_for(self, tmp_path, monkeypatch):
        number = 5_000
        monkeypatch.setattr(tables, "LAZY_FROM", number)
        files = [f"{n:08d}.png" for n in range(number)]
        rows = (row(name, *["RB"] * (n % 2)) for n, name in enumerate(files))
        table(tmp_path / "SewerML_Val.csv", HEADER, *rows)
        plant(tmp_path / "valid00", *files)
        tracemalloc.start()
        (category,) = open_dataset(tmp_path)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert isinstance(category.test, LazyRecords)
        assert kept / number < 300  # bytes: a path, and places in two lists
        assert [record.image.name for record in category.test[-2:]] == files[-2:]
        assert [record.label for record in category.test[:4]] == [0, 1, 0, 1]

    def test_errors(self, sewer, tmp_path):
        table(sewer / "SewerML_Val.csv", HEADER, *VAL)
        with pytest.raises(DatasetError, match=r"one SewerML_Val\.csv is wanted in .*, but there are '"):
            open_dataset(sewer)
        (sewer / "SewerML_Val.csv").unlink()
        table(sewer / "annotations" / "SewerML_Val.csv", HEADER, *VAL, row("1.png", "RB"))
        with pytest.raises(DatasetError, match=r"'1\.png', but line 6 says something else"):
            open_dataset(sewer)
        (sewer / "annotations" / "SewerML_Val.csv").unlink()
        with pytest.raises(
            DatasetError, match=r"SewerML_Val\.csv is wanted in .* only annotations/, train00/"
        ):
            open_dataset(sewer)
