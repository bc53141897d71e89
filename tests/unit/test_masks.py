"""Masks: what marks a pixel, which way up it is, and what looks wrong."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import encoded, png16, tiff
from zeroflaw import masks
from zeroflaw.errors import DatasetError, ImageError
from zeroflaw.masks import open_mask, read_marked, read_mask


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
        advice = "turn it" if shape == (8, 12) else "use"
        said = rf"m\.png' should fit an image of {shape[1]} x {shape[0]} pixels but has 8 x 12; {advice}"
        with pytest.raises(DatasetError, match=said):
            read_mask(path, shape)

    def test_masks_in_a_folder_are_united(self, tmp_path):
        with pytest.raises(DatasetError, match=r"masks are wanted in '.*', but there is none"):
            read_mask(tmp_path, (5, 7))
        expected = np.zeros((5, 7), dtype=bool)
        for name, value, place in (("000.png", 254, (1, 2)), ("001.png", 7, (4, 6))):
            one = np.zeros((5, 7), dtype=np.uint8)
            one[place], expected[place] = value, True
            saved(tmp_path / name, one)
        (tmp_path / "readme.txt").touch()
        (tmp_path / "._000.png").touch()
        assert np.array_equal(read_mask(tmp_path, (5, 7)), expected)
        saved(tmp_path / "000.png", np.zeros((7, 5), np.uint8))
        with pytest.raises(
            DatasetError, match=r"000\.png' should fit an image of 7 x 5 pixels but has 5 x 7"
        ):
            read_mask(tmp_path, (5, 7))

    def test_unreadable_mask(self, tmp_path):
        with pytest.raises(ImageError, match="there is no such file"):
            read_mask(tmp_path / "none.png", (4, 4))
        (tmp_path / "bad.png").write_bytes(b"\x89PNG but no more")
        with pytest.raises(ImageError, match="damaged"):
            read_mask(tmp_path / "bad.png", (4, 4))


SHAPE = (60, 80)
MARKED = np.zeros(SHAPE, dtype=bool)
MARKED[20:38, 30:55] = True
BYTES = MARKED.astype(np.uint8)


Colour = tuple[int, int, int]


def painted(colour: Colour, behind: Colour = (0, 0, 0), alpha: int = 255) -> Image.Image:
    """A layer as an editor exports it: transparent but for the flaw."""
    layer = np.zeros((*SHAPE, 4), np.uint8)
    layer[:, :, :3] = behind
    layer[MARKED] = (*colour, alpha)
    return Image.fromarray(layer)


def palette(*colours: Colour, values: np.ndarray = BYTES) -> Image.Image:
    image = Image.fromarray(values).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette([level for colour in colours for level in colour])
    return image


def keyed(mode: str) -> bytes:
    """A PNG in which one colour counts as transparent."""
    grey = Image.fromarray(np.where(MARKED, 200, 90).astype(np.uint8))
    return encoded(grey.convert(mode), transparency=90 if mode == "L" else (90, 90, 90))


VIOLET, YELLOW, BLACK, WHITE = (68, 1, 84), (253, 231, 37), (0, 0, 0), (255, 255, 255)
GREY_ALPHA = np.dstack([np.full(SHAPE, 77), BYTES * 255]).astype(np.uint8)
WAYS: dict[str, Callable[[], bytes]] = {
    "grey": lambda: encoded(Image.fromarray(BYTES * 255)),
    "value 1": lambda: encoded(Image.fromarray(BYTES)),
    "one bit": lambda: encoded(Image.fromarray(MARKED)),
    "one bit tiff": lambda: encoded(Image.fromarray(MARKED), "TIFF"),
    "colour": lambda: encoded(Image.fromarray(np.dstack([BYTES * 200, BYTES * 0, BYTES * 0]))),
    "16 bits, value 1": lambda: png16(BYTES.astype(np.uint16)),
    "16 bits": lambda: png16(BYTES.astype(np.uint16) * 65535),
    "16 bits tiff": lambda: tiff(BYTES.astype(np.uint16) * 3),
    "16 bits rgb planes": lambda: tiff(np.dstack([BYTES.astype(np.uint16) * 900] * 3), planar=True),
    "16 bits grey alpha": lambda: tiff(np.dstack([BYTES * 0, BYTES]).astype(np.uint16) * 65535, extra=2),
    "float": lambda: tiff(BYTES.astype(np.float32) / 4),
    "int32": lambda: tiff(BYTES.astype(np.int32) * 70_000),
    "painted red": lambda: encoded(painted((255, 0, 0))),
    "painted black": lambda: encoded(painted(BLACK)),
    "painted over hidden white": lambda: encoded(painted((255, 0, 0), behind=WHITE)),
    "painted faintly": lambda: encoded(painted((255, 0, 0), alpha=40)),
    "painted webp": lambda: encoded(painted((255, 0, 0)), "WEBP"),
    "painted lossless webp": lambda: encoded(painted((9, 9, 9)), "WEBP", lossless=True),
    "painted tiff": lambda: encoded(painted((255, 0, 0)), "TIFF"),
    "painted grey": lambda: encoded(Image.fromarray(GREY_ALPHA)),
    "opaque rgba": lambda: encoded(Image.fromarray(BYTES * 255).convert("RGBA")),
    "opaque black and white": lambda: encoded(Image.fromarray(GREY_ALPHA[:, :, 1]).convert("LA")),
    "palette violet": lambda: encoded(palette(VIOLET, YELLOW)),
    "palette white": lambda: encoded(palette(WHITE, BLACK)),
    "palette transparent": lambda: encoded(palette(VIOLET, YELLOW), transparency=0),
    "palette transparent one": lambda: encoded(palette(YELLOW, VIOLET, values=1 - BYTES), transparency=1),
    "palette bmp": lambda: encoded(palette(VIOLET, YELLOW), "BMP"),
    "palette tiff": lambda: encoded(palette(VIOLET, YELLOW), "TIFF"),
    "palette transparent 255": lambda: encoded(
        palette(*[VIOLET] * 256, values=np.where(MARKED, 1, 255).astype(np.uint8)), transparency=255
    ),
    "zero is white": lambda: tiff((1 - BYTES) * np.uint8(255), photometric=0),
    "zero is white, 16 bits": lambda: tiff((1 - BYTES) * np.uint16(65535), photometric=0),
    "grey key": lambda: keyed("L"),
    "colour key": lambda: keyed("RGB"),
    "lossless webp, value 1": lambda: encoded(Image.fromarray(BYTES), "WEBP", lossless=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_painted_is_marked_and_nothing_else(way: str, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"  # the content decides, not the name
    path.write_bytes(WAYS[way]())
    found = open_mask(path, SHAPE)
    np.testing.assert_array_equal(found.marked, MARKED)
    assert found.ignored is None
    assert found.notes == ()


def test_values_to_ignore_are_neither_good_nor_flawed(tmp_path: Path) -> None:
    border = np.zeros(SHAPE, dtype=bool)
    border[18:40, 28:57] = True
    border &= ~MARKED
    values = np.where(border, 255, BYTES).astype(np.uint8)
    colours = [BLACK, YELLOW, *[VIOLET] * 253, WHITE]
    kinds = {
        "grey": encoded(Image.fromarray(values)),
        "palette": encoded(palette(*colours, values=values)),
        "deep": png16(values.astype(np.uint16)),
        "colour": encoded(Image.fromarray(values).convert("RGB")),
    }
    for kind, data in kinds.items():
        (tmp_path / kind).write_bytes(data)
        found = open_mask(tmp_path / kind, SHAPE, ignore=255)
        np.testing.assert_array_equal(found.marked, MARKED, kind)
        assert found.ignored is not None
        np.testing.assert_array_equal(found.ignored, border, kind)
        assert found.notes == ()
        plain = open_mask(tmp_path / kind, SHAPE)
        np.testing.assert_array_equal(plain.marked, MARKED | border, kind)
        assert plain.notes == ((masks.BESIDE_255,) if kind != "deep" else ())


def soft(values: np.ndarray) -> bytes:
    """A PNG made of a JPEG."""
    return encoded(Image.open(io.BytesIO(encoded(Image.fromarray(values), "JPEG", quality=60))))


@pytest.mark.parametrize(
    ("data", "notes"),
    [
        (encoded(Image.fromarray(255 - BYTES * 255)), [masks.INVERTED]),
        (encoded(Image.fromarray(BYTES * 0)), [masks.EMPTY]),
        (soft(BYTES * 255), [masks.SOFT]),
        (encoded(Image.fromarray(BYTES), "JPEG"), [masks.FAINT, masks.EMPTY]),
        (encoded(Image.fromarray(BYTES * 255), "JPEG"), []),
        (encoded(Image.fromarray(BYTES * 255), "WEBP", quality=50), []),
        (encoded(Image.fromarray(BYTES * 255).resize((160, 120), Image.Resampling.BILINEAR)), []),
        (encoded(Image.fromarray((BYTES + np.eye(*SHAPE, dtype=np.uint8)) * 127)), []),
        (
            encoded(
                Image.fromarray(BYTES * 255), "TIFF", save_all=True, append_images=[Image.new("L", (80, 60))]
            ),
            ["only the first of its 2 pages was looked at; save each as a picture of its own"],
        ),
    ],
)
def test_what_looks_wrong_is_named(data: bytes, notes: list[str], tmp_path: Path) -> None:
    (tmp_path / "mask").write_bytes(data)
    assert list(open_mask(tmp_path / "mask", SHAPE).notes) == notes


TURNS = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, -1),
}  # what each orientation does to an upright picture when it is stored; EXIF 2.32, tag 0x0112


def write(path: Path, upright: np.ndarray, drawn: int, tag: int | None) -> Path:
    """Write a picture as orientation ``drawn`` stores it, with a tag or none."""
    exif = Image.Exif()
    if tag is not None:
        exif[0x0112] = tag
    stored = np.ascontiguousarray(TURNS.get(drawn, lambda a: a)(upright))
    Image.fromarray(stored).save(path, exif=exif if tag else b"")
    return path


@pytest.mark.parametrize("turned", TURNS)
@pytest.mark.parametrize("square", [False, True])
def test_masks_are_turned_with_their_photos_where_it_is_sure(
    turned: int, square: bool, tmp_path: Path
) -> None:
    marked = np.pad(MARKED, ((0, 20), (0, 0))) if square else MARKED
    photo = write(tmp_path / "photo.jpg", np.dstack([marked * np.uint8(90)] * 3), turned, turned)
    size = marked.shape
    tagged = open_mask(write(tmp_path / "1.png", marked * np.uint8(255), turned, turned), size, image=photo)
    np.testing.assert_array_equal(tagged.marked, marked)
    assert tagged.notes == ()
    upright = open_mask(write(tmp_path / "2.png", marked * np.uint8(255), 1, None), size, image=photo)
    np.testing.assert_array_equal(upright.marked, marked)
    assert upright.notes == ((masks.NOT_TURNED,) if square or turned < 5 else ())
    plain = write(tmp_path / "3.png", marked * np.uint8(255), turned, None)
    if turned >= 5 and not square:
        stored = open_mask(plain, size, image=photo)
        np.testing.assert_array_equal(stored.marked, marked)
        assert stored.notes == (masks.TURNED,)
        with pytest.raises(DatasetError, match="turn it as the image was turned"):
            open_mask(plain, size)
    else:
        assert open_mask(plain, size, image=photo).notes == (masks.NOT_TURNED,)


def test_several_masks_of_one_photo(tmp_path: Path) -> None:
    halves = [MARKED.copy(), MARKED.copy()]
    halves[0][:, 40:], halves[1][:, :40] = False, False
    paths = []
    for number, half in enumerate(halves):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(half.astype(np.uint8) * 255).save(paths[-1])
    found = open_mask(tuple(paths), SHAPE)
    np.testing.assert_array_equal(found.marked, MARKED)
    assert found.notes == ()


def test_a_mask_at_its_own_size(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(WAYS["grey"]())
    np.testing.assert_array_equal(read_marked(tmp_path / "m.png").marked, MARKED)
