"""Preprocessing: equal to an independent implementation, and strict about what it is given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zeroflaw.errors import UsageError
from zeroflaw.runtime.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=12, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.sampled_from(["bicubic", "bilinear"]), st.integers(0, 9))
def test_shortest_equals_transformers(height: int, width: int, interpolation: str, seed: int) -> None:
    transformers = pytest.importorskip("transformers")
    # Where an odd number of pixels is cut off, open_clip rounds the offset and transformers cuts it.
    assume(int(32 * max(height, width) / min(height, width)) % 2 == 0)
    image = picture(height, width, seed)
    theirs = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        resample={"bicubic": 3, "bilinear": 2}[interpolation],
        image_mean=OPENAI_MEAN,
        image_std=OPENAI_STD,
    )(images=[image], return_tensors="pt")["pixel_values"]
    ours = Preprocess(image_size=32, interpolation=interpolation, resize="shortest")([image])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("width", "left"), [(11, 2), (9, 0), (13, 2)])
def test_shortest_rounds_the_offset_as_open_clip_does(width: int, left: int) -> None:
    """The offset is the nearest whole number, and the even one of two that are as near."""
    image = picture(8, width)
    wanted = Preprocess(image_size=8)([np.ascontiguousarray(image[:, left : left + 8])])
    np.testing.assert_array_equal(Preprocess(image_size=8, resize="shortest")([image]), wanted)


def test_squash_equals_transformers_with_a_fixed_size() -> None:
    transformers = pytest.importorskip("transformers")
    image = picture(37, 71)
    theirs = transformers.CLIPImageProcessorPil(size={"height": 24, "width": 24}, do_center_crop=False)(
        images=[image], return_tensors="pt"
    )["pixel_values"]
    np.testing.assert_allclose(Preprocess(image_size=24)([image]), theirs, rtol=0, atol=1e-6)


def test_squash_keeps_the_border_that_shortest_cuts_off() -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, :8] = 255
    kept = {
        mode: Preprocess(image_size=20, resize=mode)([image])[0, 0, 10, 0] for mode in ("squash", "shortest")
    }
    assert kept["squash"] > kept["shortest"] + 3


def test_images_of_different_sizes_make_one_batch_and_do_not_touch_each_other() -> None:
    images = [picture(10, 30), picture(50, 20, 1), picture(16, 16, 2)]
    prepare = Preprocess(image_size=16)
    batch = prepare(images)
    assert batch.shape == (3, 3, 16, 16)
    assert batch.dtype == np.float32
    for row, image in zip(batch, images, strict=True):
        np.testing.assert_array_equal(row, prepare([image])[0])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"uint8 array of shape .* got"):
        Preprocess(image_size=8)([image])


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one image"):
        Preprocess(image_size=8)([])
