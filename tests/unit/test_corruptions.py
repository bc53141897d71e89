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
@given(
    st.sampled_from(EVERY),
    st.integers(1, 23),
    st.integers(1, 23),
    st.integers(0, 2**16),
)
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
    assert (corrupt(plain((255, 255, 255)), "brightness", severity) == 255).all()
    assert corrupt(plain((255, 0, 64)), "brightness", severity)[0, 0].tolist() == [255, 0, 64]


def test_brightness_scales_all_channels_alike():
    assert corrupt(plain((100, 50, 20)), "brightness", 2)[0, 0].tolist() == [151, 75, 30]
    assert corrupt(plain((240, 120, 0)), "brightness", 2)[0, 0].tolist() == [255, 127, 0]  # V is clipped


def test_contrast_goes_towards_the_mean_of_each_channel():
    image = plain((0, 100, 7), 2, 2)
    image[0] = (200, 100, 207)
    changed = corrupt(image, "contrast", 4)  # 0.1 of the distance is left
    assert changed[0, 0].tolist() == [110, 100, 117]
    assert changed[1, 1].tolist() == [90, 100, 97]


def test_defocus_spreads_a_point_over_a_disk():
    image = plain((0, 0, 0), 41, 41)
    image[20, 20] = 255
    spread = corrupt(image, "defocus_blur", 1)[:, :, 0]  # radius 3: 29 pixels of 255 / 29
    rows, columns = np.nonzero(spread)
    inside = [(y, x) for y in range(-3, 4) for x in range(-3, 4) if x * x + y * y <= 9]
    assert sorted(zip(rows - 20, columns - 20, strict=True)) == inside
    assert set(spread[spread > 0].tolist()) == {255 // 29}


@pytest.mark.parametrize("severity", [1, 2, 3])
@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
def test_defocus_leaves_a_plain_picture_as_it_is(severity, level):
    image = plain((level, level, level))
    assert np.array_equal(corrupt(image, "defocus_blur", severity), image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 3), (505, 490), (1100, 20)])
def test_defocus_has_no_seams(shape):
    """Squares are blurred one by one; a slow convolution of the whole picture gives the same."""
    image = picture(*shape, seed=3)
    reach = 8
    framed = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect").astype(np.float64)
    line = np.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line**2 <= 9).astype(np.float64)
    slow = np.zeros(image.shape)
    for y, x in zip(*np.nonzero(disk), strict=True):
        slow += framed[y : y + shape[0], x : x + shape[1]] / disk.sum()
    assert np.array_equal(corrupt(image, "defocus_blur", 1), np.floor(slow + 1e-6))


@pytest.mark.parametrize(
    ("severity", "spread"), list(zip(SEVERITIES, (0.08, 0.12, 0.18, 0.26, 0.38), strict=True))
)
def test_noise_has_the_stated_spread_where_nothing_is_clipped(severity, spread):
    image = plain((127, 127, 127), 200, 200)
    noisy = corrupt(image, "gaussian_noise", severity, key="a").astype(np.float64)
    free = (noisy > 0) & (noisy < 255)
    deviation = np.quantile(noisy, 0.84134) - np.quantile(noisy, 0.5)  # one deviation, whatever is clipped
    assert abs(deviation - 255 * spread) < 0.02 * 255 * spread + 1
    assert free.mean() > 0.8
    assert abs(np.median(noisy) - 126.5) <= 1.5
    channels = noisy.reshape(-1, 3)[free.reshape(-1, 3).all(axis=1)]
    assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.03


def test_noise_belongs_to_the_name_and_the_seed():
    image = picture()
    first = corrupt(image, "gaussian_noise", 3, seed=1, key="nut/test/good/000.png")
    corrupt(image, "gaussian_noise", 3, seed=1, key="other")
    assert np.array_equal(first, corrupt(image, "gaussian_noise", 3, seed=1, key="nut/test/good/000.png"))
    assert not np.array_equal(first, corrupt(image, "gaussian_noise", 3, seed=1, key="nut/test/good/001.png"))
    assert not np.array_equal(first, corrupt(image, "gaussian_noise", 3, seed=2, key="nut/test/good/000.png"))
    for name in set(CORRUPTIONS) - {"gaussian_noise"}:
        assert np.array_equal(corrupt(image, name, 3, seed=1, key="a"), corrupt(image, name, 3))


def test_noise_is_the_same_on_every_machine():
    """The first draws, written down: another NumPy or system must not change them."""
    draws = noise_source(0, "metal_nut/test/good/000.png").normal(size=4)
    assert draws == pytest.approx(
        [-1.0258337073610184, 0.1720055159610033, -2.1540181174971464, -1.0477795106690388], abs=1e-12
    )


def test_both_ways_to_write_an_umlaut_are_one_name():
    names = [unicodedata.normalize(form, "tür/ä.png") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    one, two = (corrupt(picture(), "gaussian_noise", 1, key=name) for name in names)
    assert np.array_equal(one, two)
    corrupt(picture(), "gaussian_noise", 1, key="not utf-8: \udcff")


def test_strips_give_the_noise_of_the_whole():
    image = plain((128, 128, 128), 900, 600)  # more than one strip
    draws = noise_source(5, "a").normal(size=image.shape)
    whole = np.clip(128 + 255 * 0.18 * draws, 0, 255).astype(np.uint8)
    ours = corrupt(image, "gaussian_noise", 3, seed=5, key="a")
    assert np.abs(ours.astype(int) - whole).max() <= 1
    assert (ours != whole).mean() < 1e-4


def test_noise_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    corrupt(picture(), "gaussian_noise", 3)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_memory_does_not_grow_with_floating_point_copies(name):
    image = picture(2000, 2000)
    corrupt(picture(8, 8), name, 5)  # tables and disks that stay
    tracemalloc.start()
    corrupt(image, name, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * image.nbytes + 40 * 2**20  # one copy as float64 alone would be 8 times its size


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_empty_picture_stays_empty(name):
    assert corrupt(np.zeros((0, 5, 3), dtype=np.uint8), name, 1).shape == (0, 5, 3)


@pytest.mark.parametrize("severity", [0, 6, -1, 2.0, True, "3", None])
def test_a_wrong_severity_is_refused(severity):
    with pytest.raises(UsageError, match="whole number from 1 to 5"):
        corrupt(picture(), "contrast", severity)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(UsageError, match="seed must be a whole number from 0"):
        corrupt(picture(), "contrast", 1, seed=seed)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), [[1]], None],
    ids=["grey", "float", "four channels", "list", "none"],
)
def test_another_kind_of_picture_is_refused(image):
    with pytest.raises(UsageError, match=r"uint8 \(H, W, 3\) is wanted"):
        corrupt(image, "contrast", 1)


@pytest.mark.parametrize(("text", "parsed"), [(f"{n}:{s}", (n, s)) for n, s in EVERY])
def test_a_corruption_is_written_with_its_severity(text, parsed):
    assert parse_corruption(text) == parsed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gausian_noise:3", "did you mean 'gaussian_noise'"),
        ("gaussian-noise:3", "did you mean 'gaussian_noise'"),
        ("fog:3", "known: brightness, contrast, defocus_blur, gaussian_noise"),
        ("", "there is no corruption ''"),
        ("contrast", "such as contrast:3"),
        ("contrast:", "such as contrast:3"),
        ("contrast:0", "such as contrast:3"),
        ("contrast:6", "such as contrast:3"),
        ("contrast:3:3", "such as contrast:3"),
        ("contrast: 3", "such as contrast:3"),
        ("contrast:٣", "such as contrast:3"),
        ("contrast:" + "1" * 5000, "such as contrast:3"),
    ],
)
def test_another_text_is_refused(text, says):
    with pytest.raises(UsageError) as error:
        parse_corruption(text)
    assert says in str(error.value)
