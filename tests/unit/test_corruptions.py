"""Corruptions: exact values on small pictures, the noise of a name, bounds on memory."""

from __future__ import annotations

import tracemalloc
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroflaw.corruptions import CORRUPTIONS, SEVERITIES, corrupt, noise_source, parse_corruption
from zeroflaw.errors import UsageError

EVERY = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]


def picture(height: int = 40, width: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(colour: tuple[int, int, int], height: int = 24, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(EVERY), st.integers(0, 23), st.integers(1, 23), st.integers(0, 2**16))
def test_size_and_kind_stay_and_the_input_too(case, height, width, seed):
    image = picture(height, width, seed)
    before = image.copy()
    changed = corrupt(image, *case, seed=seed)
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert not np.shares_memory(changed, image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_changes_more(name):
    image = picture() // 2 + 30
    changes = [np.abs(corrupt(image, name, severity).astype(int) - image).mean() for severity in SEVERITIES]
    assert changes == sorted(set(changes))
    assert changes[0] > 1


@pytest.mark.parametrize(("severity", "added"), [(1, 25), (2, 51), (3, 76), (4, 102), (5, 127)])
def test_brightness_adds_to_the_value_and_keeps_the_hue(severity, added):
    # 0.1 is 25.5 grey levels, 0.3 is 76.5, 0.5 is 127.5; the half is cut off.
    assert corrupt(plain((100, 100, 100)), "brightness", severity)[0, 0].tolist() == [100 + added] * 3
    assert corrupt(plain((0, 0, 0)), "brightness", severity)[0, 0].tolist() == [added] * 3
    assert corrupt(plain((255, 0, 64)), "brightness", severity)[0, 0].tolist() == [255, 0, 64]
    if severity == 2:  # all channels alike, and V is clipped
        assert corrupt(plain((100, 50, 20)), "brightness", 2)[0, 0].tolist() == [151, 75, 30]
        assert corrupt(plain((240, 120, 0)), "brightness", 2)[0, 0].tolist() == [255, 127, 0]


def test_contrast_goes_towards_the_mean_of_each_channel():
    image = plain((0, 100, 7), 2, 2)
    image[0] = (200, 100, 207)
    changed = corrupt(image, "contrast", 4)  # 0.1 of the distance is left
    assert changed[0, 0].tolist() == [110, 100, 117]
    assert changed[1, 1].tolist() == [90, 100, 97]


@pytest.mark.parametrize("severity", [1, 2, 3])
@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
def test_defocus_leaves_a_plain_picture_as_it_is(severity, level):
    image = plain((level, level, level))
    assert np.array_equal(corrupt(image, "defocus_blur", severity), image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 3), (505, 790), (41, 41)])
def test_defocus_has_no_seams(shape):
    """Rows are blurred some at a time; a slow convolution of the whole picture gives the same."""
    image = picture(*shape, seed=3)
    reach = 8
    framed = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect").astype(np.float64)
    line = np.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line**2 <= 9).astype(np.float64)  # radius 3: 29 pixels
    slow = np.zeros(image.shape)
    for y, x in zip(*np.nonzero(disk), strict=True):
        slow += framed[y : y + shape[0], x : x + shape[1]] / disk.sum()
    assert np.array_equal(corrupt(image, "defocus_blur", 1), np.floor(slow + 1e-6))


@pytest.mark.parametrize(
    ("severity", "spread"), list(zip(SEVERITIES, (0.08, 0.12, 0.18, 0.26, 0.38), strict=True))
)
def test_noise_has_the_stated_spread_where_nothing_is_clipped(severity, spread):
    noisy = corrupt(plain((127, 127, 127), 200, 200), "gaussian_noise", severity, key="a").astype(np.float64)
    deviation = np.quantile(noisy, 0.84134) - np.quantile(noisy, 0.5)  # one deviation, whatever is clipped
    assert abs(deviation - 255 * spread) < 0.02 * 255 * spread + 1
    assert abs(np.median(noisy) - 126.5) <= 1.5
    free = ((noisy > 0) & (noisy < 255)).all(axis=2)
    assert np.abs(np.corrcoef(noisy[free].T) - np.eye(3)).max() < 0.03  # a draw for each channel


def test_noise_belongs_to_the_name_and_the_seed():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, name, seed = (
        corrupt(picture(), "gaussian_noise", 3, seed=seed, key=f"nut/test/good/{name}.png")
        for seed, name in ((1, "000"), (1, "000"), (1, "001"), (2, "000"))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, name)
    assert not np.array_equal(first, seed)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    for other in set(CORRUPTIONS) - {"gaussian_noise"}:
        assert np.array_equal(corrupt(picture(), other, 3, seed=1, key="a"), corrupt(picture(), other, 3))


def test_noise_is_the_same_on_every_machine():
    """The first draws, written down: another NumPy or system must not change them."""
    draws = noise_source(0, "metal_nut/test/good/000.png").normal(size=4)
    assert draws == pytest.approx(
        [-1.0258337073610184, 0.1720055159610033, -2.1540181174971464, -1.0477795106690388], abs=1e-12
    )
    names = [unicodedata.normalize(form, "tür/ä.png") for form in ("NFC", "NFD")]
    one, two = (corrupt(picture(), "gaussian_noise", 1, key=name) for name in names)
    assert np.array_equal(one, two)  # both ways to write an umlaut are one name
    corrupt(picture(), "gaussian_noise", 1, key="not utf-8: \udcff")


def test_strips_give_the_noise_of_the_whole():
    image = plain((128, 128, 128), 900, 600)  # more than one strip
    draws = noise_source(5, "a").normal(size=image.shape)
    whole = np.clip(128 + 255 * 0.18 * draws, 0, 255).astype(np.uint8)
    ours = corrupt(image, "gaussian_noise", 3, seed=5, key="a")
    assert np.abs(ours.astype(int) - whole).max() <= 1
    assert (ours != whole).mean() < 1e-4


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_memory_does_not_grow_with_floating_point_copies(name):
    image = picture(2000, 2000)
    corrupt(picture(8, 8), name, 5)  # tables and disks that stay
    tracemalloc.start()
    corrupt(image, name, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * image.nbytes + 40 * 2**20  # one copy as float64 alone would be 8 times its size


@pytest.mark.parametrize(
    ("given", "says"),
    [
        *(({"severity": value}, "whole number from 1 to 5") for value in (0, 6, 2.0, True, "3", None)),
        *(({"seed": value}, "seed must be a whole number from 0") for value in (-1, 1.5, True, None)),
        ({"image": np.zeros((4, 4), np.uint8)}, r"uint8 \(H, W, 3\) is wanted"),
        ({"image": np.zeros((4, 4, 3))}, r"uint8 \(H, W, 3\) is wanted"),
        ({"image": np.zeros((4, 4, 4), np.uint8)}, r"uint8 \(H, W, 3\) is wanted"),
        ({"image": None}, r"uint8 \(H, W, 3\) is wanted"),
    ],
)
def test_other_arguments_are_refused(given, says):
    with pytest.raises(UsageError, match=says):
        corrupt(**{"image": picture(), "name": "contrast", "severity": 1, **given})


def test_a_corruption_is_written_with_its_severity():
    assert [parse_corruption(f"{name}:{severity}") for name, severity in EVERY] == EVERY


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gausian-noise:3", "did you mean 'gaussian_noise'"),
        ("fog:3", "known: brightness, contrast, defocus_blur, gaussian_noise"),
        ("", "there is no corruption ''"),
        *(
            (f"contrast{rest}", "such as contrast:3")
            for rest in ("", ":", ":0", ":6", ":3:3", ": 3", ":٣", ":" + "1" * 5000)
        ),
    ],
)
def test_another_text_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        parse_corruption(text)
