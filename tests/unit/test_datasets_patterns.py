"""Layouts by pattern: every file is an image, a mask, or left over and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trees import plant, seen, tally
from zeroflaw.errors import DatasetError
from zeroflaw.lab.datasets import Category, Record, open_auxiliary, open_dataset, open_mvtec, open_normals

DOMAINS = ("same", "background", "illumination", "view")


@pytest.fixture
def cup(tmp_path):
    """A whole category, and the root above it."""
    return plant(
        tmp_path / "shop" / "cup",
        *("train/good/000.png", "train/good/001.png", "test/good/000.png", "test/good/001.png"),
        *("test/crack/000.png", "test/crack/001.png", "test/hole/000.png"),
        *("ground_truth/crack/000_mask.png", "ground_truth/crack/001_mask.png"),
        *("ground_truth/hole/000_mask.png", "license.txt", "readme.txt"),
    )


def only(root: Path) -> Category:
    (category,) = open_mvtec(root)
    return category


def masks(category: Category) -> dict[str, str | None]:
    return {
        f"{r.defect}/{r.image.name}": None if r.mask is None else f"{r.mask.parent.name}/{r.mask.name}"
        for r in category.test
        if r.label
    }


class TestCategory:
    def test_records(self, cup):
        dataset = open_mvtec(cup.parent)
        (category,) = dataset
        assert (dataset.name, dataset.layout, len(dataset), dataset.problems) == ("shop", "mvtec", 1, ())
        assert (category.dataset, category.name, category.problems) == ("shop", "cup", ())
        assert category.train == tuple(
            Record("shop", "cup", "train", 0, "good", None, cup / "train" / "good" / name, None)
            for name in ("000.png", "001.png")
        )
        assert seen(category, cup) == [
            ("test/crack/000.png", 1, "crack", None, "ground_truth/crack/000_mask.png"),
            ("test/crack/001.png", 1, "crack", None, "ground_truth/crack/001_mask.png"),
            ("test/good/000.png", 0, "good", None, None),
            ("test/good/001.png", 0, "good", None, None),
            ("test/hole/000.png", 1, "hole", None, "ground_truth/hole/000_mask.png"),
        ]
        assert category.pixel_test == category.test
        assert all(record.image.stat().st_size == 0 for record in category.test)  # none was opened

    def test_categories_come_sorted_and_one_is_named_like_the_whole(self, tmp_path):
        root = plant(
            tmp_path, "b/test/good/10.png", "b/test/good/2.png", "b/test/x/1.png", "a/test/good/1.png"
        )
        dataset = open_mvtec(root)
        assert [category.name for category in dataset] == ["a", "b"]
        assert [record.image.name for record in dataset.categories[1].test] == ["10.png", "2.png", "1.png"]
        assert open_mvtec(str(root / "b")).categories == dataset.categories[1:]

    @pytest.mark.parametrize(
        ("below", "root"), [("", "."), ("cup", "."), ("cup/test", ".."), ("cup/test", "../..")]
    )
    def test_relative_roots_have_names(self, cup, monkeypatch, below, root):
        monkeypatch.chdir(cup.parent / below)
        dataset = open_mvtec(root)
        assert (dataset.name, dataset.categories[0].name) == ("shop", "cup")
        assert all(record.image.exists() for record in dataset.categories[0].test)

    def test_hidden_files_are_skipped(self, cup):
        before = open_mvtec(cup)
        plant(cup, "test/good/._000.png", "test/.cache/0.png", "ground_truth/crack/.DS_Store", ".git/config")
        plant(cup.parent, ".trash/test/good/0.png")
        assert open_mvtec(cup) == open_mvtec(cup.parent) == before

    def test_what_is_left_over_is_named(self, cup):
        plant(
            cup, "test/good/old/0.png", "test/stray.png", "train/crack/0.png", "valid/good/0.png", "photo.png"
        )
        plant(cup, "test/good/notes.txt", "test/crack/\x1b[2Jx.txt")
        (cup / "test" / "good" / "gone.png").symlink_to(cup / "nowhere.png")
        plant(cup.parent, "tables/1cls.csv", "overview.png", "license.txt")
        dataset = open_mvtec(cup.parent)
        assert tally(dataset.categories[0]) == (2, 2, 3)
        assert sorted(dataset.categories[0].problems) == [
            "cup/test/crack: left out 1 file of another kind: \\x1b[2Jx.txt.",
            "cup/test/good: left out 1 folder: old.",
            "cup/test/good: left out 2 files of another kind: gone.png, notes.txt.",
            "cup/test: left out 1 image: stray.png.",
            "cup/train: left out 1 folder: crack.",
            "cup: left out 1 folder: valid.",
            "cup: left out 1 image: photo.png.",
        ]
        assert dataset.problems == (
            "shop: left out 1 folder: tables.",
            "shop: left out 1 image: overview.png.",
        )

    def test_many_names_are_cut(self, cup):
        plant(cup, *(f"test/good/{n}.txt" for n in range(9)))
        assert only(cup).problems[0].endswith(": 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 4 more.")

    @pytest.mark.parametrize(("given", "absent"), [("good/0.png", "flawed"), ("crack/0.png", "good")])
    def test_one_kind_of_image_only(self, tmp_path, given, absent):
        category = only(plant(tmp_path / "cup", f"test/{given}"))
        assert category.problems == (f"cup: there is no {absent} test image, so that metrics are undefined.",)

    def test_one_empty_category_does_not_stop_the_others(self, cup):
        (cup.parent / "lid" / "test").mkdir(parents=True)
        full, empty = open_mvtec(cup.parent)
        assert (full.problems, empty.test, len(empty.problems)) == ((), (), 2)


class TestMasks:
    def test_folder_absent(self, tmp_path):
        category = only(plant(tmp_path, "cup/test/good/0.png", "cup/test/crack/0.png"))
        assert (category.has_masks, category.pixel_test, category.problems) == (False, (), ())

    def test_images_and_masks_without_the_other(self, cup):
        plant(cup, "test/crack/002.png", "test/dent/000.png", "ground_truth/good/000_mask.png")
        plant(cup, "ground_truth/crack/007_mask.png", "ground_truth/ghost/000_mask.png")
        category = only(cup)
        assert [name for name, mask in masks(category).items() if mask is None] == [
            "crack/002.png",
            "dent/000.png",
        ]
        assert {r.defect for r in set(category.test) - set(category.pixel_test)} == {"crack", "dent"}
        assert category.problems == (
            "cup/ground_truth/good: left out 1 mask of good images: 000_mask.png.",
            "cup/ground_truth/crack: left out 1 mask without an image of that name: 007_mask.png.",
            "cup/ground_truth/ghost: left out 1 mask without an image of that name: 000_mask.png.",
            "cup: pixel metrics leave out 2 flawed images of 5, without a mask: crack/002.png, dent/000.png.",
        )

    @pytest.mark.parametrize("ending", ["_mask", "_gt", "_GT", "-label", "_seg", ""])
    def test_endings_and_extensions(self, tmp_path, ending):
        root = plant(tmp_path / "cup", "test/good/0.JPG", "test/x/0.jpeg", f"ground_truth/x/0{ending}.BMP")
        category = only(root)
        assert (masks(category), category.problems) == ({"x/0.jpeg": f"x/0{ending}.BMP"}, ())

    def test_image_that_is_called_like_a_mask(self, tmp_path):
        root = plant(tmp_path / "cup", "test/good/0.png", "test/x/a.png", "test/x/a_mask.png")
        plant(root, "ground_truth/x/a_mask.png", "ground_truth/x/a_mask_mask.png")
        assert masks(only(root)) == {"x/a.png": "x/a_mask.png", "x/a_mask.png": "x/a_mask_mask.png"}

    def test_mvtec_3d(self, tmp_path):
        root = plant(tmp_path / "bagel", "train/good/rgb/0.png", "train/good/xyz/0.tiff", "calibration.txt")
        for kind in ("good", "cut"):
            plant(root, *(f"test/{kind}/{part}" for part in ("rgb/0.png", "gt/0.png", "xyz/0.tiff")))
        for given in (tmp_path, root):
            dataset = open_dataset(given)
            (category,) = dataset
            assert (dataset.layout, category.name, tally(category)) == ("mvtec-3d", "bagel", (1, 1, 1))
            assert category.test[0].mask == root / "test/cut/gt/0.png"
            assert "bagel/test/cut: left out 1 folder: xyz." in category.problems

    def test_several_masks_of_one_image_are_united(self, cup):
        plant(cup, "test/dent/7.png", "ground_truth/dent/7_mask_1.png", "ground_truth/dent/7_mask_2.png")
        plant(cup, "test/dent/8.png", "test/dent/8_gt1.png", "test/dent/8_gt2.png")
        category = only(cup)
        united = {r.image.stem: [path.name for path in r.masks] for r in category.test if len(r.masks) > 1}
        assert united == {"7": ["7_mask_1.png", "7_mask_2.png"], "8": ["8_gt1.png", "8_gt2.png"]}

    def test_results_of_earlier_runs_are_left_out(self, cup):
        plant(cup, "test/maps/0.png", "out/maps/1.png", "test/dent/out/maps/2.png")
        results = '{"schema": 1, "source": "1.png"}\n'
        plant(cup, "test/dent/contact-sheet-01.png")
        for place in ("test", "test/dent"):
            (cup / place / "predictions.jsonl").write_text(results)
        category = only(cup)
        assert "maps" not in {record.defect for record in category.test}
        assert [problem for problem in category.problems if "earlier run" in problem] == [
            "cup/test: left out the results of an earlier run.",
            "cup/test/dent: left out the results of an earlier run.",
        ]

    @pytest.mark.parametrize("folder", ["masks", "Mask", "gt", "ground-truth"])
    def test_folders_of_masks_are_no_kind_of_flaw(self, tmp_path, folder):
        root = plant(tmp_path / "cup", "good/0.png", "good/1.png", "dent/0.png", "crack/5.png")
        plant(root, f"{folder}/0.png", f"{folder}/crack/5_mask.png")
        (category,) = open_dataset(root)
        assert {record.defect for record in category.test} == {"good", "dent", "crack"}
        assert {record.image.name: record.mask.name for record in category.test if record.mask} == {
            "0.png": "0.png",
            "5.png": "5_mask.png",
        }

    def test_masks_beside_their_images_are_no_images(self, cup):
        plant(
            cup, "test/dent/0.png", "test/dent/0_gt.png", "test/crack/000_mask.png", "test/good/000_mask.png"
        )
        plant(cup, "train/good/001_label.png")
        category = only(cup)
        assert tally(category) == (2, 2, 4)
        assert masks(category)["dent/0.png"] == "dent/0_gt.png"
        assert masks(category)["crack/000.png"] == "crack/000_mask.png"
        assert category.test[0].mask == cup / "ground_truth" / "crack" / "000_mask.png"
        assert category.problems == (
            "cup/test/crack: left out 1 mask beside images that have one: 000_mask.png.",
            "cup/test/good: left out 1 mask of good images: 000_mask.png.",
            "cup/train/good: left out 1 mask of good images: 001_label.png.",
            "cup/test/dent: took 1 mask beside images for theirs: 0_gt.png.",
        )

    def test_names_that_are_not_unique(self, cup):
        plant(cup, "test/crack/000.jpg", "ground_truth/hole/000_mask.bmp")
        category = only(cup)
        assert masks(category) == {
            "crack/000.jpg": None,
            "crack/000.png": None,
            "crack/001.png": "crack/001_mask.png",
            "hole/000.png": None,
        }
        wrong = "left out {} with a name that is not unique: "
        assert category.problems[:3] == (
            "cup/test/crack: 2 images called like another but for the extension: 000.jpg, 000.png.",
            f"cup/ground_truth/crack: {wrong.format('1 mask')}000_mask.png.",
            f"cup/ground_truth/hole: {wrong.format('2 masks')}000_mask.bmp, 000_mask.png.",
        )


def test_btad(tmp_path):
    root = plant(
        tmp_path / "BTech",
        *("01/train/ok/0000.bmp", "01/train/ok/0001.bmp", "01/test/ok/0000.bmp", "01/test/ko/0000.bmp"),
        *("01/test/ko/0001.bmp", "01/ground_truth/ko/0000.png", "01/ground_truth/ko/0001.png"),
        *("03/train/ok/0000.bmp", "03/test/ok/0000.bmp", "03/test/ko/0.bmp", "03/ground_truth/ko/0.bmp"),
    )
    dataset = open_dataset(root)
    assert (dataset.name, dataset.layout, open_dataset(root / "03").layout) == ("BTech", "btad", "btad")
    assert dataset.problems == ("BTech: not here 1 product of those published: 02.",)
    assert [(c.name, tally(c), c.missing, c.prompt_name) for c in dataset] == [
        ("01", (2, 1, 2), 67, "product"),
        ("03", (1, 1, 1), 439, "product"),
    ]
    assert seen(dataset.categories[0], root / "01") == [
        ("test/ko/0000.bmp", 1, "ko", None, "ground_truth/ko/0000.png"),
        ("test/ko/0001.bmp", 1, "ko", None, "ground_truth/ko/0001.png"),
        ("test/ok/0000.bmp", 0, "good", None, None),
    ]


def test_loco_has_folders_of_masks(tmp_path):
    where = "ground_truth/logical_anomalies"
    root = plant(
        tmp_path / "loco" / "pushpins",
        *("train/good/000.png", "validation/good/000.png", "test/good/000.png"),
        *("test/logical_anomalies/000.png", "test/logical_anomalies/a.b.png"),
        *("test/structural_anomalies/000.png", f"{where}/000/000.png", f"{where}/000/001.png"),
        *(f"{where}/a.b/000.png", f"{where}/9/000.png", f"{where}/flat.png", f"{where}/000/readme.txt"),
        "defects_config.json",
    )
    (pushpins,) = dataset = open_dataset(root.parent)
    assert (dataset.layout, tally(pushpins), pushpins.missing) == ("mvtec-loco", (1, 1, 3), 310 - 4)
    assert [row[-1] for row in seen(pushpins, root)] == [None, f"{where}/000", f"{where}/a.b", None]
    assert pushpins.problems[:5] == (
        f"pushpins/{where}: left out 1 image: flat.png.",
        f"pushpins/{where}/000: left out 1 file of another kind: readme.txt.",
        "pushpins: left out 1 folder: validation.",
        f"pushpins/{where}/9: left out 1 mask without an image of that name: 9.",
        "pushpins: pixel metrics leave out 1 flawed image of 3, without a mask: "
        "structural_anomalies/000.png.",
    )


class TestAebad:
    @pytest.fixture
    def aebad(self, tmp_path):
        kinds = ("ablation", "breakdown", "fracture", "groove")
        plant(
            tmp_path / "AeBAD" / "AeBAD_S",
            *(f"train/good/{domain}/0.png" for domain in DOMAINS[1:]),
            *(f"test/good/{domain}/{number}.png" for domain in DOMAINS for number in (0, 1)),
            *(f"{part}/{kind}/same/0.png" for kind in kinds for part in ("test", "ground_truth")),
            *("test/groove/view/7.png", "ground_truth/groove/view/7.png", "test/fracture/background/3.png"),
            *("ground_truth/fracture/background/3.png", "test/ablation/illumination/4.png"),
            *("ground_truth/ablation/illumination/4.png", "test/groove/view/._7.png", "._test"),
        )
        plant(
            tmp_path / "AeBAD" / "AeBAD_V",
            *("train/good/video1_train/00.jpg", "train/good/video2_train/00.jpg"),
            *(f"test/video{number}/{kind}/00.jpg" for number in (1, 2, 3) for kind in ("good", "anomaly")),
        )
        return tmp_path / "AeBAD"

    def test_parts_and_domains(self, aebad):
        single, video = dataset = open_dataset(aebad)
        assert (dataset.name, dataset.layout, dataset.problems) == ("AeBAD", "aebad", ())
        assert (single.name, tally(single), single.missing) == ("AeBAD_S", (3, 8, 7), 1639 - 15)
        assert (video.name, tally(video), video.missing) == ("AeBAD_V", (2, 3, 3), 0)
        assert {single.prompt_name, video.object_name} == {"aeroengine blade"}
        assert single.domains == tuple(sorted(DOMAINS))
        assert video.domains == ("video1", "video2", "video3")
        assert [record.domain for record in single.train] == ["background", "illumination", "view"]
        assert [record.domain for record in video.train] == ["video1", "video2"]
        assert single.problems == (
            "AeBAD_S: published are 521 train, 1639 test images; here are 3 train, 15 test images.",
        )
        marked = [row for row in seen(single, aebad / "AeBAD_S") if row[1]]
        assert all(mask == image.replace("test", "ground_truth") for image, _, _, _, mask in marked)
        assert (video.has_masks, video.problems) == (False, ())

    @pytest.mark.parametrize("part", ["AeBAD_S", "AeBAD_V"])
    def test_one_part(self, aebad, part):
        dataset = open_dataset(aebad / part)
        assert dataset.name == "AeBAD"
        assert dataset.categories == tuple(c for c in open_dataset(aebad) if c.name == part)

    def test_half_unpacked_domains_are_named(self, aebad):
        for path in (*aebad.glob("AeBAD_S/test/*/illumination/*"), *aebad.glob("*_S/test/good/view/*")):
            path.unlink()
        for path in aebad.glob("AeBAD_V/test/video2/*/*.jpg"):
            path.unlink()
        single, video = open_dataset(aebad)
        assert single.problems[:-1] == (
            "AeBAD_S/ground_truth/ablation/illumination: left out 1 mask without an image of that name: "
            "4.png.",
            "AeBAD_S: there is no good test image of view, so that metrics are undefined.",
            "AeBAD_S: there is no test image of 1 domain: illumination.",
        )
        assert video.problems == ("AeBAD_V: there is no test image of 1 domain: video2.",)


class TestKolektor:
    @staticmethod
    def part(root, name, marked=False):
        plant(root, f"{name}.jpg")
        label = np.zeros((6, 4), np.uint8)
        label[2, 1] = 255 * marked
        Image.fromarray(label).save(root / f"{name}_label.bmp")

    @pytest.fixture
    def kolektor(self, tmp_path):
        root = tmp_path / "KolektorSDD"
        self.part(root, "kos01/Part0")
        self.part(root, "kos01/Part1", marked=True)
        self.part(root, "kos02/Part0")
        return root

    def test_labels_come_from_the_masks(self, kolektor):
        (category,) = dataset = open_dataset(kolektor)
        assert (dataset.name, dataset.layout, dataset.problems) == ("KolektorSDD", "kolektorsdd", ())
        assert (category.prompt_name, tally(category)) == ("electrical commutator", (0, 2, 1))
        assert category.missing == 399 - 3
        assert seen(category, kolektor) == [
            ("kos01/Part0.jpg", 0, "good", None, None),
            ("kos01/Part1.jpg", 1, "defect", None, "kos01/Part1_label.bmp"),
            ("kos02/Part0.jpg", 0, "good", None, None),
        ]

    def test_what_lacks_its_other_half_is_missing(self, kolektor):
        plant(kolektor, "kos01/Part2.jpg", "kos02/Part5_label.bmp", "kos02/Part0.png", "papers/a")
        self.part(kolektor, "kos03/Part0")
        (kolektor / "kos03" / "Part0_label.bmp").write_bytes(b"BM")
        (category,) = open_dataset(kolektor)
        assert tally(category) == (0, 1, 1)
        text = " ".join(category.problems)
        for said in (
            "commutator: left out 1 folder: papers.",
            "commutator/kos01: left out 1 image without a label: Part2.jpg.",
            "commutator/kos02: left out 2 images without a label: Part0.jpg, Part0.png.",
            "commutator/kos02: left out 1 mask without an image of that name: Part5_label.bmp.",
            "commutator/kos03: left out 1 image without a readable label (",
        ):
            assert said in text

    def test_no_label(self, tmp_path):
        with pytest.raises(DatasetError, match=r"kos01: left out 1 image without a label: Part0\.jpg"):
            open_dataset(plant(tmp_path, "kos01/Part0.jpg"))


class TestFolders:
    @pytest.fixture
    def bowl(self, tmp_path):
        return plant(
            tmp_path / "kitchen" / "bowl",
            *("good/a.png", "good/b.JPG", "cracked/a.png", "cracked/c.jpeg", "stain/1.bmp", "readme.txt"),
        )

    def test_good_and_anything(self, bowl):
        (category,) = dataset = open_dataset(bowl)
        assert (dataset.name, dataset.layout, category.name) == ("kitchen", "folder", "bowl")
        assert (tally(category), category.problems) == ((0, 2, 3), ())
        assert [row[2] for row in seen(category, bowl)] == ["cracked", "cracked", "good", "good", "stain"]
        plant(bowl.parent, "lid/good/0.png", "lid/bent/0.png", "papers/a.pdf")
        dataset = open_dataset(bowl.parent)
        assert [(c.name, tally(c)) for c in dataset] == [("bowl", (0, 2, 3)), ("lid", (0, 1, 1))]
        assert dataset.problems == ("kitchen: left out 1 folder: papers.",)

    def test_training_images_and_masks_may_be_beside(self, bowl):
        plant(bowl, "train/good/0.png", "ground_truth/cracked/a_mask.png", "ground_truth/gone/0.png")
        (category,) = open_dataset(bowl)
        assert tally(category) == (1, 2, 3)
        assert masks(category) == {
            "cracked/a.png": "cracked/a_mask.png",
            "cracked/c.jpeg": None,
            "stain/1.bmp": None,
        }
        assert category.problems == (
            "bowl/ground_truth/gone: left out 1 mask without an image of that name: 0.png.",
            "bowl: pixel metrics leave out 2 flawed images of 3, without a mask: cracked/c.jpeg, "
            "stain/1.bmp.",
        )

    @pytest.mark.parametrize(("good", "bad"), [("OK", "NG"), ("ok", "ko"), ("Normal", "Defective")])
    @pytest.mark.parametrize("above", ["", "lot/"])
    def test_other_words_for_good(self, tmp_path, good, bad, above):
        root = plant(tmp_path / "line", f"{above}{good}/1.png", f"{above}{bad}/2.png")
        (category,) = dataset = open_dataset(root)
        assert (dataset.layout, tally(category), category.problems) == ("folder", (0, 1, 1), ())
        assert [record.defect for record in category.test if record.label] == [bad]

    def test_good_goes_before_other_words(self, tmp_path):
        (category,) = open_dataset(plant(tmp_path / "line", "good/1.png", "normal/2.png"))
        assert [(record.defect, record.label) for record in category.test] == [("good", 0), ("normal", 1)]

    def test_own_photos_in_the_layout_of_mvtec(self, tmp_path):
        (category,) = open_dataset(plant(tmp_path / "a", "test/OK/1.png", "test/NG/2.png", "train/OK/0.png"))
        assert (tally(category), category.problems) == ((1, 1, 1), ())


class TestNormals:
    def test_folders_of_products(self, tmp_path):
        root = plant(tmp_path / "shop", "pcb/b.jpg", "pcb/a.PNG", "nut/train/good/1.jpg", "nut/.hidden.jpg")
        plant(root, "nut/seen.png", "nut/test/bent/0.png", "pcb/old/2.jpg", "pcb/notes.txt", "empty/a/1.jpg")
        plant(root, "preview.jpg")
        nut, pcb = dataset = open_normals(root)
        assert dataset.name == "shop"
        assert pcb.train == tuple(
            Record("shop", "pcb", "train", 0, "good", None, root / "pcb" / name, None)
            for name in ("a.PNG", "b.jpg")
        )
        assert ([record.image.name for record in nut.train], nut.test) == (["1.jpg"], ())
        assert nut.problems == ("nut: left out 1 image: seen.png.", "nut: left out 1 folder: test.")
        assert pcb.problems == (
            "pcb: left out 1 file of another kind: notes.txt.",
            "pcb: left out 1 folder: old.",
        )
        assert dataset.problems == ("shop: left out 1 folder: empty.", "shop: left out 1 image: preview.jpg.")

    @pytest.mark.parametrize("inside", ["a.jpg", "train/good/a.jpg"])
    def test_one_product_by_itself(self, tmp_path, inside):
        (category,) = dataset = open_normals(plant(tmp_path / "shop" / "pcb", inside))
        assert (dataset.name, category.dataset, category.name, len(category.train)) == (
            *("shop", "shop", "pcb"),
            1,
        )

    @pytest.mark.parametrize("names", [["deep/er/still/1.jpg"], ["a.txt"], ["good/0.png", "bent/1.png"]])
    def test_what_is_no_folder_of_products(self, tmp_path, names):
        with pytest.raises(DatasetError, match=r"wanted in <product>/ or <product>/train/good/, but"):
            open_normals(plant(tmp_path / "nut", *names))

    def test_auxiliary_takes_either(self, tmp_path):
        labelled = plant(
            tmp_path / "ad", "nut/train/good/0.png", "nut/test/bent/0.png", "nut/test/good/0.png"
        )
        assert open_auxiliary(labelled) == open_mvtec(labelled)
        assert open_auxiliary(labelled / "nut") == open_mvtec(labelled / "nut")
        good = plant(tmp_path / "good only", "pcb/0.png", "nut/train/good/1.png")
        assert open_auxiliary(str(good)) == open_normals(good)
        with pytest.raises(DatasetError, match="is a file"):
            open_auxiliary(plant(tmp_path, "a.txt") / "a.txt")
