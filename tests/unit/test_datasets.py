"""Data sets: miniature trees with every oddity, and the real photographs where they are at hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroflaw.errors import DatasetError, ImageError
from zeroflaw.lab.datasets import Category, Dataset, Record, open_mvtec, read_mask

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "eval"


def plant(root: Path, *names: str) -> Path:
    """Make empty files: listing never opens one."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.fixture
def cup(tmp_path):
    """A whole category, and the root above it."""
    plant(
        tmp_path / "shop" / "cup",
        *("train/good/000.png", "train/good/001.png"),
        *("test/good/000.png", "test/good/001.png"),
        *("test/crack/000.png", "test/crack/001.png", "test/hole/000.png"),
        *(
            "ground_truth/crack/000_mask.png",
            "ground_truth/crack/001_mask.png",
            "ground_truth/hole/000_mask.png",
        ),
        *("license.txt", "readme.txt"),
    )
    return tmp_path / "shop" / "cup"


def only(root: Path) -> Category:
    (category,) = open_mvtec(root)
    return category


def mask_of(category: Category, name: str) -> str | None:
    (record,) = (r for r in category.test if f"{r.defect}/{r.image.name}" == name)
    return None if record.mask is None else f"{record.mask.parent.name}/{record.mask.name}"


class TestLayout:
    def test_whole_category(self, cup):
        dataset = open_mvtec(cup.parent)
        (category,) = dataset
        assert (dataset.name, len(dataset), dataset.problems) == ("shop", 1, ())
        assert (category.dataset, category.name, category.problems) == ("shop", "cup", ())
        assert category.train == tuple(
            Record("shop", "cup", "train", 0, "good", None, cup / "train" / "good" / name, None)
            for name in ("000.png", "001.png")
        )
        assert [(r.defect, r.image.name, r.label, r.mask is not None) for r in category.test] == [
            ("crack", "000.png", 1, True),
            ("crack", "001.png", 1, True),
            ("good", "000.png", 0, False),
            ("good", "001.png", 0, False),
            ("hole", "000.png", 1, True),
        ]
        assert mask_of(category, "hole/000.png") == "hole/000_mask.png"
        assert category.has_masks
        assert category.pixel_test == category.test

    def test_categories_and_images_come_sorted(self, tmp_path):
        names = [
            "b/test/good/10.png",
            "b/test/good/2.png",
            "b/test/x/1.png",
            "a/test/good/1.png",
            "a/test/x/1.png",
        ]
        dataset = open_mvtec(plant(tmp_path, *names))
        assert [category.name for category in dataset] == ["a", "b"]
        assert [r.image.name for r in dataset.categories[1].test] == ["10.png", "2.png", "1.png"]

    def test_single_category_is_named_like_the_whole(self, cup):
        assert open_mvtec(cup) == open_mvtec(cup.parent)
        assert open_mvtec(str(cup)) == open_mvtec(cup)

    @pytest.mark.parametrize(
        ("below", "root"), [("", "."), ("cup", "."), ("cup/test", ".."), ("cup/test", "../..")]
    )
    def test_relative_roots_have_names(self, cup, monkeypatch, below, root):
        monkeypatch.chdir(cup.parent / below)
        dataset = open_mvtec(root)
        assert (dataset.name, dataset.categories[0].name) == ("shop", "cup")
        assert all(record.image.exists() for record in dataset.categories[0].test)

    def test_no_image_is_opened(self, cup):
        assert all(record.image.stat().st_size == 0 for record in only(cup).test)


class TestMasks:
    def test_folder_absent(self, tmp_path):
        category = only(plant(tmp_path, "cup/test/good/0.png", "cup/test/crack/0.png"))
        assert not category.has_masks
        assert category.pixel_test == ()
        assert category.problems == ()

    def test_folder_without_a_usable_mask(self, tmp_path):
        root = plant(
            tmp_path, "cup/test/good/0.png", "cup/test/crack/0.png", "cup/ground_truth/crack/9_mask.png"
        )
        category = only(root)
        assert not category.has_masks
        assert category.problems == (
            "cup/ground_truth/crack: 1 mask without an image of that name: 9_mask.png.",
            "cup/ground_truth: no mask belongs to an image, so that pixel metrics are undefined.",
        )

    def test_image_without_a_mask_is_left_out_of_pixel_metrics(self, cup):
        plant(cup, "test/crack/002.png", "test/dent/000.png")
        category = only(cup)
        assert mask_of(category, "crack/002.png") is None
        assert {r.defect for r in set(category.test) - set(category.pixel_test)} == {"crack", "dent"}
        assert category.problems == (
            "cup/test/crack: pixel metrics leave out 1 of 3 images, without a mask: 002.png.",
            "cup/test/dent: pixel metrics leave out 1 of 1 image, without a mask: 000.png.",
        )

    def test_mask_without_an_image(self, cup):
        plant(cup, "ground_truth/crack/007_mask.png", "ground_truth/ghost/000_mask.png")
        assert only(cup).problems == (
            "cup/ground_truth/crack: 1 mask without an image of that name: 007_mask.png.",
            "cup/ground_truth/ghost: 1 mask without an image of that name: 000_mask.png.",
        )

    def test_masks_of_good_images_are_named(self, cup):
        plant(cup, "ground_truth/good/000_mask.png", "ground_truth/good/001_mask.png")
        category = only(cup)
        assert category.problems == ("cup/ground_truth/good: left out 2 masks of good images.",)
        assert mask_of(category, "good/000.png") is None

    def test_extensions_of_image_and_mask_may_differ(self, tmp_path):
        plant(
            tmp_path / "cup",
            *("test/good/0.JPG", "test/crack/0.jpeg", "test/crack/1.PNG", "test/crack/2.bmp"),
            *("ground_truth/crack/0_mask.png", "ground_truth/crack/1_mask.BMP", "ground_truth/crack/2.tif"),
        )
        category = only(tmp_path / "cup")
        assert category.problems == ()
        assert [mask_of(category, f"crack/{name}") for name in ("0.jpeg", "1.PNG", "2.bmp")] == [
            "crack/0_mask.png",
            "crack/1_mask.BMP",
            "crack/2.tif",
        ]

    def test_image_whose_own_name_ends_like_a_mask(self, tmp_path):
        plant(
            tmp_path / "cup",
            *("test/good/0.png", "test/crack/a.png", "test/crack/a_mask.png"),
            *("ground_truth/crack/a_mask.png", "ground_truth/crack/a_mask_mask.png"),
        )
        category = only(tmp_path / "cup")
        assert mask_of(category, "crack/a.png") == "crack/a_mask.png"
        assert mask_of(category, "crack/a_mask.png") == "crack/a_mask_mask.png"

    def test_one_mask_never_serves_two_images(self, tmp_path):
        plant(
            tmp_path / "cup",
            *(
                "test/good/0.png",
                "test/crack/a.png",
                "test/crack/a_mask.png",
                "ground_truth/crack/a_mask.png",
            ),
        )
        category = only(tmp_path / "cup")
        assert mask_of(category, "crack/a.png") == "crack/a_mask.png"
        assert mask_of(category, "crack/a_mask.png") is None


class TestOddities:
    def test_images_of_one_stem_get_no_mask(self, cup):
        plant(cup, "test/crack/000.jpg")
        category = only(cup)
        assert len(category.test) == 6
        assert mask_of(category, "crack/000.png") is mask_of(category, "crack/000.jpg") is None
        assert mask_of(category, "crack/001.png") == "crack/001_mask.png"
        assert category.problems == (
            "cup/ground_truth/crack: left out masks that fit several images or share a name: 000_mask.png.",
            "cup/test/crack: several images have one name but for the extension: 000.jpg, 000.png.",
            "cup/test/crack: pixel metrics leave out 2 of 3 images, without a mask: 000.jpg, 000.png.",
        )

    def test_masks_of_one_stem_are_not_used(self, cup):
        plant(cup, "ground_truth/hole/000_mask.bmp")
        category = only(cup)
        assert mask_of(category, "hole/000.png") is None
        assert "share a name: 000_mask.bmp, 000_mask.png" in category.problems[0]

    def test_hidden_files_are_skipped(self, cup):
        before = open_mvtec(cup)
        plant(
            cup, "test/good/._000.png", "test/.cache/000.png", "ground_truth/crack/.DS_Store", ".git/config"
        )
        plant(cup.parent, ".trash/test/good/0.png")
        assert open_mvtec(cup) == before
        assert open_mvtec(cup.parent) == before

    def test_files_that_are_no_images_are_reported(self, cup):
        plant(cup, "test/good/notes.txt", "test/crack/Thumbs.db", "train/good/video.mp4")
        problems = only(cup).problems
        assert problems == (
            "cup/train/good: left out 1 entry that cannot be images: video.mp4.",
            "cup/test/good: left out 1 entry that cannot be images: notes.txt.",
            "cup/test/crack: left out 1 entry that cannot be images: Thumbs.db.",
        )

    def test_broken_link_is_reported(self, cup):
        (cup / "test" / "good" / "gone.png").symlink_to(cup / "nowhere.png")
        category = only(cup)
        assert "gone.png" in category.problems[0]
        assert not any(record.image.name == "gone.png" for record in category.test)

    def test_many_names_are_cut(self, cup):
        plant(cup, *(f"test/good/{n}.txt" for n in range(9)))
        assert only(cup).problems[0].endswith("0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 4 more.")

    def test_names_cannot_steer_a_terminal(self, cup):
        plant(cup, "test/good/\x1b[2Jx.txt")
        assert only(cup).problems[0].endswith("images: \\x1b[2Jx.txt.")

    def test_what_lies_in_the_wrong_place_is_reported(self, cup):
        plant(
            cup, "test/good/old/0.png", "test/stray.png", "train/crack/0.png", "valid/good/0.png", "photo.png"
        )
        category = only(cup)
        assert (len(category.train), len(category.test)) == (2, 5)
        assert category.problems == (
            "cup: folders other than train, test, ground_truth were left out: valid.",
            "cup: images beside the folder 'test' were left out: photo.png.",
            "cup/train: folders other than 'good' were left out: crack.",
            "cup/test: left out 1 file outside the folders of this part: stray.png.",
            "cup/test/good: folders inside were left out: old.",
        )

    def test_what_lies_beside_the_categories_is_reported(self, cup):
        plant(cup.parent, "tables/1cls.csv", "overview.png", "license.txt")
        assert open_mvtec(cup.parent).problems == (
            "shop: folders without a folder 'test' were left out: tables.",
            "shop: images beside the categories were left out: overview.png.",
        )

    @pytest.mark.parametrize(
        ("given", "absent", "label"), [("test/good/0.png", "defective", 0), ("test/crack/0.png", "good", 1)]
    )
    def test_one_kind_of_image_only(self, tmp_path, given, absent, label):
        category = only(plant(tmp_path / "cup", given))
        assert [record.label for record in category.test] == [label]
        assert category.problems == (f"cup/test: there is no {absent} image, so that metrics are undefined.",)

    def test_empty_defect_folder_is_reported(self, cup):
        (cup / "test" / "scratch").mkdir()
        assert only(cup).problems == ("cup/test/scratch: there is no image.",)

    def test_one_empty_category_does_not_stop_the_others(self, cup):
        (cup.parent / "lid" / "test").mkdir(parents=True)
        full, empty = open_mvtec(cup.parent)
        assert (full.problems, empty.test) == ((), ())
        assert len(empty.problems) == 2


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "said"), [("nope", "does not exist"), ("shop/cup/readme.txt", "is a file")]
    )
    def test_no_folder(self, cup, tmp_path, name, said):
        with pytest.raises(DatasetError, match=f"is wanted, but .*{said}; check the path"):
            open_mvtec(tmp_path / name)

    def test_overlong_and_impossible_names(self):
        for name in ("x" * 5000, "a\0b"):
            with pytest.raises(DatasetError, match="does not exist"):
                open_mvtec(name)

    def test_folder_of_data_sets_lists_what_would_work(self, cup, tmp_path):
        plant(tmp_path, "market/bowl/test/good/0.png", "papers/a.pdf")
        with pytest.raises(DatasetError) as error:
            open_mvtec(tmp_path)
        message = str(error.value)
        assert "<category>/test/good and <category>/test/<defect> is wanted" in message
        assert "its folders (market, papers, shop) hold no folder 'test'" in message
        assert message.endswith(f"these would work: '{tmp_path / 'market'}', '{tmp_path / 'shop'}'")

    @pytest.mark.parametrize("part", ["test", "test/good", "train/good"])
    def test_folder_inside_a_category_names_the_category(self, cup, part):
        with pytest.raises(DatasetError, match=f"these would work: '{cup}'$"):
            open_mvtec(cup / part)

    def test_empty_folder(self, tmp_path):
        with pytest.raises(DatasetError, match=r"it holds no folder; check the path and the layout$"):
            open_mvtec(tmp_path)

    def test_flat_test_folder(self, tmp_path):
        with pytest.raises(DatasetError, match=r"has none there; add them .*outside the folders.*0\.png"):
            open_mvtec(plant(tmp_path, "cup/test/0.png", "cup/test/1.png"))

    def test_locked_folder(self, cup, monkeypatch):
        plain = Path.iterdir

        def refuse(self):
            if self.name == "good":
                raise PermissionError(13, "Permission denied")
            return plain(self)

        monkeypatch.setattr(Path, "iterdir", refuse)
        with pytest.raises(DatasetError, match=r"good' should be listed but cannot be .*Permission denied"):
            open_mvtec(cup)


def saved(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)
    return path


class TestReadMask:
    marked = np.zeros((12, 8), dtype=bool)
    marked[2:5, 3:7] = True

    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
    @pytest.mark.parametrize("extension", ["png", "bmp", "tif"])
    def test_modes(self, tmp_path, mode, extension):
        path = saved(tmp_path / f"m.{extension}", self.marked.astype(np.uint8) * 255, mode)
        mask = read_mask(path, (12, 8))
        assert mask.dtype == bool
        assert np.array_equal(mask, self.marked)

    @pytest.mark.parametrize("value", [1, 7, 255])
    def test_any_number_above_zero_is_a_defect(self, tmp_path, value):
        path = saved(tmp_path / "m.png", self.marked.astype(np.uint8) * value)
        assert np.array_equal(read_mask(path, (12, 8)), self.marked)

    def test_jpeg_is_cut_at_the_middle(self, tmp_path):
        marked = np.zeros((64, 64), dtype=bool)
        marked[13:45, 13:45] = True
        path = saved(tmp_path / "m.jpg", marked.astype(np.uint8) * 255)
        assert np.asarray(Image.open(path))[~marked].max() > 0  # black that is not quite black
        assert np.array_equal(read_mask(path, (64, 64)), marked)

    def test_same_proportions_take_the_nearest_pixel(self, tmp_path):
        path = saved(tmp_path / "m.png", self.marked)
        assert np.array_equal(read_mask(path, (36, 24)), self.marked.repeat(3, 0).repeat(3, 1))
        big = saved(tmp_path / "big.png", self.marked.repeat(3, 0).repeat(3, 1))
        assert np.array_equal(read_mask(big, (12, 8)), self.marked)

    @pytest.mark.parametrize("shape", [(341, 512), (342, 512), (334, 500), (2001, 3000)])
    def test_sides_rounded_to_whole_pixels_are_the_same_proportions(self, tmp_path, shape):
        path = saved(tmp_path / "m.png", np.ones((667, 1000), dtype=bool))
        assert read_mask(path, shape).shape == shape

    @pytest.mark.parametrize("shape", [(8, 12), (12, 9), (11, 8), (24, 18), (6, 6), (0, 0)])
    def test_other_proportions_are_refused(self, tmp_path, shape):
        path = saved(tmp_path / "m.png", self.marked)
        said = rf"m\.png' should fit an image of {shape[1]} x {shape[0]} pixels but has 8 x 12; use"
        with pytest.raises(DatasetError, match=said):
            read_mask(path, shape)

    def test_unreadable_mask(self, tmp_path):
        with pytest.raises(ImageError, match="there is no such file"):
            read_mask(tmp_path / "none.png", (4, 4))
        (tmp_path / "bad.png").write_bytes(b"\x89PNG but no more")
        with pytest.raises(ImageError, match="damaged"):
            read_mask(tmp_path / "bad.png", (4, 4))


COUNTS = {  # good, defective, masks, train: the table in the read-me of the photographs
    "mvtec_ad/bottle": (20, 63, 63, 30),
    "mvtec_ad/capsule": (9, 17, 8, 0),
    "mvtec_ad/metal_nut": (8, 8, 8, 0),
    "mvtec_ad/leather": (4, 20, 11, 4),
    "magnetic_tile/tile": (120, 160, 160, 0),
    "adfi_hazelnut/hazelnut": (75, 24, 0, 0),
    "wood_boards/wood": (70, 71, 71, 30),
    "mpdd/metal_plate": (80, 71, 71, 0),
}


@pytest.mark.shared
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the folder of real photographs is not beside the checkout")
class TestPhotographs:
    @pytest.mark.parametrize("where", COUNTS)
    def test_counts(self, where):
        category = only(PHOTOS / where)
        kinds = Counter(record.label for record in category.test)
        masks = sum(record.mask is not None for record in category.test)
        assert (kinds[0], kinds[1], masks, len(category.train)) == COUNTS[where]
        assert f"{category.dataset}/{category.name}" == where

    def test_what_has_no_mask_is_named_and_nothing_else(self):
        problems = [p for where in COUNTS for p in only(PHOTOS / where).problems]
        assert all("without a mask" in problem for problem in problems)
        assert sum(int(p.split("leave out ")[1].split()[0]) for p in problems) == 9 + 9

    def test_folder_of_all_sets_says_which_would_work(self):
        with pytest.raises(DatasetError, match="mvtec_ad"):
            open_mvtec(PHOTOS)

    def test_masks_fit_their_images(self):
        for record in only(PHOTOS / "mvtec_ad" / "metal_nut").pixel_test:
            with Image.open(record.image) as picture:
                width, height = picture.size
            if record.mask is not None:
                mask = read_mask(record.mask, (height, width))
                assert 0 < mask.mean() < 0.5 or record.defect == "flip"


def test_records_are_frozen(cup):
    record = only(cup).test[0]
    with pytest.raises(AttributeError):
        record.label = 0  # type: ignore[misc]
    assert isinstance(open_mvtec(cup), Dataset)
