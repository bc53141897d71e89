"""Resizing of maps against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zeroflaw.errors import UsageError
from zeroflaw.runtime.scores import upsample

SIDES = st.integers(1, 40)


def by_torch(values, size, dtype=torch.float64):
    grid = torch.from_numpy(values).to(dtype)[None, None]
    return torch.nn.functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)[
        0, 0
    ].numpy()


@given(
    values=arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(0, 1, width=32)),
    size=st.tuples(SIDES, SIDES),
)
@settings(max_examples=80, deadline=None)
def test_equal_to_torch_and_within_the_range_of_the_input(values, size):
    result = upsample(values, size)
    assert (result.shape, result.dtype) == (size, np.float32)
    assert np.abs(result - by_torch(values, size)).max() <= 1e-6
    assert values.min() <= result.min() <= result.max() <= values.max()


@pytest.mark.parametrize(
    ("grid", "size"), [((15, 15), (900, 700)), ((7, 7), (224, 224)), ((64, 37), (100, 20))]
)
def test_equal_to_torch_on_usual_grids(grid, size):
    values = np.random.default_rng(0).random(grid, dtype=np.float32)
    assert np.abs(upsample(values, size) - by_torch(values, size)).max() <= 1e-6


def test_equal_to_torch_in_single_precision():
    values = np.random.default_rng(1).random((15, 15), dtype=np.float32)
    single = by_torch(values, (256, 240), torch.float32)
    assert np.abs(upsample(values, (256, 240)) - single).max() <= 1e-6


def test_same_size_changes_nothing():
    values = np.random.default_rng(2).random((9, 5), dtype=np.float32)
    assert np.array_equal(upsample(values, (9, 5)), values)


@pytest.mark.parametrize("value", [0.1, 0.3, 1.0])
def test_flat_map_stays_flat(value):
    assert np.all(upsample(np.full((3, 4), value), (37, 53)) == np.float32(value))


@pytest.mark.parametrize(
    ("values", "size"),
    [(np.zeros(3), (2, 2)), (np.zeros((0, 3)), (2, 2)), (np.zeros((3, 3)), (0, 2)), (np.zeros((3, 3)), (2,))],
)
def test_bad_input_is_refused(values, size):
    with pytest.raises(UsageError, match="a map"):
        upsample(values, size)
