"""Windows over a patch grid, and their way back to the patches by harmonic means."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import random_model, tiny_config
from zeroflaw.errors import UsageError
from zeroflaw.runtime.scores import expit, harmonic_map, harmonic_mean, make_windows


@pytest.mark.parametrize(
    ("grid", "size", "stride", "corners"),
    [
        ((3, 3), 2, 1, [0, 1, 3, 4]),
        ((2, 4), 2, 2, [0, 2]),
        ((2, 5), 2, 2, [0, 2, 3]),  # the last one is moved inside
        ((3, 3), 3, 2, [0]),
    ],
)
def test_windows_lie_where_they_should(
    grid: tuple[int, int], size: int, stride: int, corners: list[int]
) -> None:
    windows = make_windows(grid, size, stride)
    assert windows.index[:, 0].tolist() == corners
    square = [row * grid[1] + column for row in range(size) for column in range(size)]
    assert windows.index.tolist() == [[corner + step for step in square] for corner in corners]
    for held, cover in zip(windows.index, windows.cover, strict=True):
        assert np.flatnonzero(cover).tolist() == held.tolist()
    assert windows.count.min() >= 1


@pytest.mark.parametrize(("size", "stride"), [(0, 1), (4, 1), (2, 3), (2, 0)])
def test_windows_that_do_not_fit_are_refused(size: int, stride: int) -> None:
    with pytest.raises(UsageError, match=f"on a 3 x 3 grid, got size {size}, stride {stride}"):
        make_windows((3, 3), size, stride)


def test_a_patch_gets_the_harmonic_mean_of_the_windows_that_hold_it() -> None:
    windows = make_windows((2, 3), 2)
    logits = np.array([[-1.0, 2.0], [0.5, 0.5]])
    p = expit(logits)
    middle = 2 / (1 / p[:, 0] + 1 / p[:, 1])
    expected = np.stack([p[:, 0], middle, p[:, 1]] * 2, 1)
    np.testing.assert_allclose(expit(harmonic_map(logits, windows)), expected, rtol=1e-12)
    np.testing.assert_allclose(expit(harmonic_mean([logits, 0 * logits])), 2 / (1 / p + 2), rtol=1e-12)


def test_far_apart_windows_neither_saturate_nor_underflow() -> None:
    windows = make_windows((1, 3), 1)
    logits = np.array([[-3000.0, 0.0, 4000.0]])
    np.testing.assert_allclose(harmonic_map(logits, windows), logits, rtol=1e-12)


def test_windows_pass_gradients_and_may_first_be_made_in_inference_mode() -> None:
    make_windows.cache_clear()
    with torch.inference_mode():
        windows = make_windows((6, 6), 2, 1)
    assert make_windows((6, 6), 2, 1) is windows
    tower = random_model(tiny_config()).vision
    pixels = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    tokens = tower.tokens(pixels).requires_grad_()
    tower.window_embeddings(tokens, windows).sum().backward()
    assert tokens.grad is not None
    assert float(tokens.grad.abs().max()) > 0
