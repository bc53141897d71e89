"""Resizing of maps against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zeroflaw.errors import UsageError
from zeroflaw.runtime.scores import upsample

SIDES = st.integers(1, 40)


@given(
    values=arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(0, 1, width=32)),
    size=st.tuples(SIDES, SIDES),
)
@example(values=np.random.default_rng(0).random((15, 15), dtype=np.float32), size=(900, 700))
@example(values=np.random.default_rng(1).random((64, 37), dtype=np.float32), size=(100, 20))
@example(values=np.full((3, 4), 0.3, dtype=np.float32), size=(37, 53))
@settings(max_examples=60, deadline=None)
def test_equal_to_torch_and_within_the_range_of_the_input(values: np.ndarray, size: tuple[int, int]) -> None:
    result = upsample(values, size)
    grid = torch.from_numpy(values).double()[None, None]
    expected = torch.nn.functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0, 0]
    assert (result.shape, result.dtype) == (size, np.float32)
    assert np.abs(result - expected.numpy()).max() <= 1e-6
    assert values.min() <= result.min() <= result.max() <= values.max()


def test_same_size_changes_nothing() -> None:
    values = np.random.default_rng(2).random((9, 5), dtype=np.float32)
    np.testing.assert_array_equal(upsample(values, (9, 5)), values)


@pytest.mark.parametrize(
    ("values", "size"),
    [(np.zeros(3), (2, 2)), (np.zeros((0, 3)), (2, 2)), (np.zeros((3, 3)), (0, 2)), (np.zeros((3, 3)), (2,))],
)
def test_bad_input_is_refused(values: np.ndarray, size: Any) -> None:
    with pytest.raises(UsageError, match="a map"):
        upsample(values, size)
