"""Heat maps on a fixed scale, and the names of what is written."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.special import expit, logit

from zeroflaw.errors import UsageError
from zeroflaw.report import colours, drawing
from zeroflaw.report.drawing import write_png
from zeroflaw.report.heatmap import anchored, draw_heatmap, overlay
from zeroflaw.report.names import parts, safe_path, shared_folders
from zeroflaw.report.page import Page
from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.regions import REACH

GREY = np.full((60, 80, 3), 128, np.uint8)


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


# Full dichromacy after Machado, Oliveira and Fernandes (2009), on linear RGB.
PROTAN = [(0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)]
DEUTAN = [(0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)]


def test_the_table_rises_evenly_in_lightness() -> None:
    light = lightness(colours.table())
    assert colours.table().shape == (256, 3)
    assert light[-1] - light[0] > 70
    steps = np.diff(light[::5])
    assert steps.min() > 0.5 * steps.mean()
    assert steps.max() < 2.0 * steps.mean()


@pytest.mark.parametrize("matrix", [PROTAN, DEUTAN])
def test_the_table_keeps_its_order_and_hues_for_colour_blind_eyes(matrix: list[tuple[float, ...]]) -> None:
    seen = np.clip((colours.table() / 255.0) ** 2.2 @ np.array(matrix).T, 0, 1) ** (1 / 2.2) * 255
    assert np.all(np.diff(lightness(seen)[::5]) > 0)
    low, high = seen[20], seen[200]
    assert low[2] > low[0] + 60  # still blue
    assert high[0] > high[2] + 60  # still yellow


def test_colours_do_not_depend_on_the_rest_of_the_picture() -> None:
    values = np.array([0.0, 0.2, 0.5, 1.0, 7.0, -3.0])
    together = colours.colourise(values)
    alone = np.array([colours.colourise(np.array([value]))[0] for value in values])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together[[0, 3]], colours.table()[[0, 255]])
    np.testing.assert_array_equal(together[[5, 4]], together[[0, 3]])


def test_low_values_are_cool_and_a_flaw_glows_where_it_is() -> None:
    cool = overlay(GREY, np.full((15, 15), 0.1, np.float32)).astype(int)
    assert np.all(cool[:, :, 2] > cool[:, :, 0])
    values = np.zeros((15, 20), np.float32)
    values[3, 15] = 1.0  # the cell that covers rows 12-15 and columns 60-63
    glow = overlay(GREY, values).astype(int)
    warm = glow[:, :, 0] - glow[:, :, 2]
    assert np.unravel_index(np.argmax(warm), warm.shape)[0] in range(12, 16)
    assert np.unravel_index(np.argmax(warm), warm.shape)[1] in range(60, 64)
    np.testing.assert_array_equal(glow[40:, :40], overlay(GREY, np.zeros((2, 2)))[40:, :40])


def test_the_photo_shows_through_without_its_colours() -> None:
    photo = np.zeros((40, 40, 3), np.uint8)
    photo[:, 20:] = (250, 10, 10)
    picture = overlay(photo, np.zeros((4, 4))).astype(int)
    assert picture[20, 30].sum() > picture[20, 10].sum() + 80
    assert picture[20, 30, 2] > picture[20, 30, 0]


def test_the_outline_lies_where_a_region_ends() -> None:
    values = np.tile(np.linspace(0, 1, 80, dtype=np.float32), (60, 1))
    picture = overlay(GREY, values, threshold=0.5)
    line = np.argwhere((picture == colours.OUTLINE).all(axis=2))
    first = int(np.argmax(values[0] >= expit(-REACH)))
    assert 20 < first < 40
    assert set(line[:, 1]) == {first - 1}  # it lies outside, and hides nothing of the region
    assert len(line) == 60
    assert (picture[:, first - 2] == colours.INK).all()


@pytest.mark.parametrize("threshold", [0.02, 0.5, 0.97])
def test_a_photo_below_the_threshold_is_untouched_whatever_its_level(threshold: float) -> None:
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    calm = expit(logit(threshold) - random.uniform(0.5, 3, (6, 8)))
    np.testing.assert_array_equal(overlay(photo, calm, threshold=threshold), photo)


def test_anchored_maps_look_the_same_at_every_level_and_never_saturate() -> None:
    excess = np.array([-4.0, -1.0, 0.0, 1.0, 2.0])
    for line in (-3.0, 0.0, 2.0):
        found = anchored(expit(excess + line), float(expit(line)))
        np.testing.assert_allclose(found, expit(excess), rtol=1e-6)
    strong = anchored(expit(np.linspace(2, 15, 30)), 0.5)
    assert (np.diff(strong) > 0).all()
    assert strong[-1] < 1
    assert anchored(np.array([0.0, 1.0]), 0.5).tolist() == pytest.approx([0, 0.97], abs=0.01)


def test_the_flaw_shows_through_its_own_heat() -> None:
    photo = np.full((90, 90, 3), 128, np.uint8)
    photo[40:50, 40:50] = 20
    values = np.full((9, 9), 0.1)
    values[3:6, 3:6] = 0.999
    picture = overlay(photo, values, threshold=0.5).astype(int)
    assert picture[35, 45].sum() - picture[45, 45].sum() > 0.6 * 3 * (128 - 20)
    assert picture[35, 45, 0] > picture[35, 45, 2] + 20  # warm
    steps = np.abs(np.diff(picture[45, 50:60].sum(1)))  # from patch to patch without stairs
    assert steps.max() < 60


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (100, 100), (1500, 1000)])
def test_every_shape_of_photo_can_be_drawn(shape: tuple[int, int]) -> None:
    photo = np.zeros((*shape, 3), np.uint8)
    options = {"threshold": 0.3, "score": 0.5, "label": True, "title": "a" * 300 + "é漢.png"}
    picture = draw_heatmap(photo, np.zeros((1, 1), np.float32), **options)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert max(picture.shape) <= 768 + 200
    assert min(picture.shape[:2]) >= 160
    assert (picture[0] == 255).all()


def test_caption_verdict_and_bar_are_drawn() -> None:
    zeros = np.zeros((3, 3))
    bare = draw_heatmap(GREY, zeros)
    for change in ({"score": 0.5}, {"label": True}, {"title": "a.png"}, {"threshold": 0.9}):
        assert not np.array_equal(draw_heatmap(GREY, zeros, **change), bare)
    assert not np.array_equal(draw_heatmap(GREY, zeros, label=True), draw_heatmap(GREY, zeros, label=False))
    bar = bare[20:-60, bare.shape[1] - 90]
    assert np.abs(bar[0].astype(int) - colours.table()[255]).max() < 12
    assert np.abs(bar[-1].astype(int) - colours.table()[0]).max() < 30


@pytest.mark.parametrize(
    ("photo", "values", "words"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((2, 2)), "wanted a photo"),
        (GREY, np.zeros((2, 2, 1)), "wanted a photo"),
        (GREY, np.zeros((0, 2)), "wanted a photo"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((2, 2)), "wanted a photo"),
        (GREY, np.array([[0.0, np.nan]]), "NaN"),
    ],
)
def test_what_is_no_photo_or_map_is_refused(photo: np.ndarray, values: np.ndarray, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        draw_heatmap(photo, values)


def test_png_is_lossless_bare_and_repeatable(tmp_path: Path) -> None:
    picture = draw_heatmap(GREY, np.eye(4))
    write_png(tmp_path / "a.png", picture)
    write_png(tmp_path / "b.png", picture)
    write_png(tmp_path / "mask.png", np.eye(4, dtype=np.uint8) * 255)
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
        assert image.info == {}
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "L"


def test_numbers_and_texts() -> None:
    shown = [drawing.number(value) for value in (0, 0.5, 0.004, -3.14159, 12.34, 98765.4)]
    assert shown == ["0.00", "0.50", "0.004", "-3.14", "12.3", "98765"]
    assert drawing.number(0.12345, 3) == "0.123"
    assert drawing.drawable("Ü-Teil 漢.png\n") == "U-Teil ?.png?"
    short = drawing.fitted("a_very_long_folder_name/another_one/part_0042.png", 13, 150)
    assert drawing.width(short, 13) <= 150
    assert "…" in short
    assert short.endswith("0042.png")
    assert drawing.fitted("a.png", 13, 150) == "a.png"
    assert drawing.fitted("a.png", 13, 1) == "…"


# --- page


def said(name: str, logit: float, **more: object) -> Prediction:
    values = np.full((4, 6), 0.2, np.float32)
    values[1, 2] = expit(logit)
    made = Prediction(name, float(expit(logit)), logit, {}, (60, 80), map=values)
    return made.with_threshold(0.5, "by hand", map_threshold=0.6, **more)  # type: ignore[arg-type]


def noise(seed: int, size: tuple[int, int] = (600, 800)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_products_are_ranked_apart_and_the_worst_come_first(tmp_path: Path) -> None:
    good = (-2.0, -1.0)
    calibrations = {"nut": Calibration(detector="x", rule="given", threshold=0.5, good=good, schema=1)}
    with Page("detector x", calibrations=calibrations) as page:
        page.alarm = "the <light> changed"
        for product, name, value in (("nut", "a", 0.1), ("cap", "b", 5), ("nut", "c", 2), ("nut", "d", 0.5)):
            page.add(f"{name}.png", GREY, said(name, value, p_value=0.25), product=product)
        page.refuse("e.png", "no <image>")
        text = page.write(tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["cap", "nut", "Not judged"]
    assert re.findall(r"<h3>(.*?)</h3>", text) == ["1. b.png", "1. c.png", "2. d.png", "3. a.png"]
    assert re.findall(r'data-verdict="(.*?)"', text) == ["flawed", "flawed", "flawed", "good"]
    assert re.findall(r"data-good='(.*?)'", text) == ["[]", "[-2.0, -1.0]"]
    assert "the &lt;light&gt; changed" in text
    assert "e.png: no &lt;image&gt;" in text
    assert "score 0.881 · log-odds 2.00 · p 0.250 · 1 region, the largest " in text
    assert "no regions" in text


@pytest.mark.parametrize("maps", [True, False])
def test_a_photo_takes_at_most_45_kilobytes_and_nothing_from_elsewhere(maps: bool, tmp_path: Path) -> None:
    hostile = "\"><script>alert(1)</script>'&.png"
    with Page("x") as page:
        for number in range(20):
            made = said("a", number / 10)
            page.add(hostile, noise(number), made if maps else replace(made, map=None), product="<b>")
        held = [
            value for cards in page._cards.values() for card in cards for value in (card.photo, card.heat)
        ]
        path = page.write(tmp_path / "report.html")
    assert not any(isinstance(value, bytes) for value in held)
    assert path.stat().st_size < 20 * 45_000 + 40_000
    text = path.read_text(encoding="utf-8")
    assert hostile not in text
    assert text.count("<script>") == 1
    assert not re.findall(r"(?:https?:)?//(?!www.w3.org/2000/svg)[a-z]+\.", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    )
    pictures = re.findall(r'data-src="data:image/jpeg;base64,(.*?)"', text)
    assert len(pictures) == (40 if maps else 20)
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as picture:
        assert max(picture.size) > 150


# --- notebooks


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("maps", [True, False])
def test_a_prediction_shows_itself_in_a_notebook(there: bool, maps: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if there:
        write_png(path, noise(0, (60, 80)))
    made = replace(said(str(path), 2.0), map=said("a", 2.0).map if maps else None)
    with Image.open(io.BytesIO(made._repr_png_())) as shown:
        assert shown.format == "PNG"
        assert (shown.width > 400) == maps  # with caption and bar
        assert len(np.unique(np.asarray(shown).reshape(-1, 3), axis=0)) > 100 or not (there or maps)


# --- names


def names_for(*sources: str) -> list[str]:
    taken: set[str] = set()
    return [safe_path(parts(source), taken) for source in sources]


def test_folders_that_all_share_are_counted() -> None:
    assert shared_folders(["/data/x/a.png", "/data/y/b.png"]) == 2
    assert shared_folders(["/data/x/a.png"]) == 3
    assert shared_folders(["x/a.png", "x/a.png/b.png"]) == 1
    assert shared_folders(["a.png", "x/b.png"]) == shared_folders([]) == 0
    assert shared_folders([r"C:\x\a.png", r"C:\x\b.png"]) == 2


def test_names_stay_readable_and_apart() -> None:
    assert names_for("photos/part 7.png", r"line\Ölkappe (2).JPG", "noext") == [
        "photos/part 7",
        "line/Ölkappe (2)",
        "noext",
    ]
    assert names_for(
        "good/000.png", "crack/000.png", "crack/000.jpg", "Crack/000.PNG", "crack/000-2.png"
    ) == [
        "good/000",
        "crack/000",
        "crack/000-2",
        "Crack/000-3",
        "crack/000-2-2",
    ]
    assert names_for("a.png", "a.png/x.png") == ["a", "a.png_/x"]  # a file and a folder of one name
    assert names_for("/".join("abcdefghijk")) == ["c/d/e/f/g/h/i/j/k"]


def test_long_names_are_cut_but_stay_apart() -> None:
    names = names_for(*(f"{'漢' * 300}/{'字' * 300}.{kind}" for kind in ("png", "jpg", "bmp")))
    assert len(set(names)) == 3
    assert all(len(f"{name}.png".encode()) <= 255 for path in names for name in path.split("/"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("..", "image"),
        ("", "image"),
        ("/", "image"),
        ("...png", "image"),
        (".hidden.png", "hidden"),
        (r"..\..\windows\a.png", "windows/a"),
        ("a/b\0c\n\x1b[31m.png", "a/b_c__[31m"),
        ("aux/con.png", "_aux/_con"),
        ("LPT1.tar.png", "_LPT1.tar"),
        ("b\udcff.png", "b_"),
        ("<ndarray>", "_ndarray_"),
        ("a:b|c?.png", "a_b_c_"),
    ],
)
def test_hostile_names_are_harmless(source: str, expected: str) -> None:
    assert names_for(source) == [expected]


@given(st.lists(st.text(max_size=120), max_size=6))
def test_names_never_leave_the_folder_nor_meet(sources: list[str]) -> None:
    names = names_for(*sources)
    assert len({name.casefold() for name in names}) == len(sources)
    for name in (part for path in names for part in f"{path}.png".split("/")):
        assert Path(name).name == name
        assert not name.startswith(".")
        assert len(name.encode()) <= 255
        assert not set(name) & set('/\\:*?"<>|\0\n')
