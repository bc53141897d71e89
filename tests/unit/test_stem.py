"""The stem: what it says about patches, against plain loops."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from zeroflaw.towers.configs import StemConfig, from_json
from zeroflaw.towers.stem import TOP, Stem, _mirror_index, _mirrored, _near, _nearest, _squares

SMALL = StemConfig(
    first=8,
    repeats=(1, 1, 1, 1, 1),
    channels=(4, 4, 6, 8, 10),
    kernels=(3,) * 5,
    expansions=(1,) * 5,
    context=5,
)


# Logarithms of distances between patches amplify the last digit, which differs between memory addresses;
# what these tests look for changes a token by tenths.
CLOSE = {"atol": 1e-3, "rtol": 0.0}


def _random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def stem():
    """A random stem whose features have mean 0 and deviation 1, as those of a trained one."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        stem = Stem(SMALL, 7).eval()
        features = stem.features(_random(4, 3, 64, 64)).movedim(1, -1).flatten(0, -2)
        stem.mean.copy_(features.mean(0))
        stem.std.copy_(features.std(0).clamp_min(1e-3))
        return stem


def test_config_survives_json():
    assert from_json(StemConfig, json.dumps(asdict(SMALL)), "here") == SMALL


@pytest.mark.parametrize(("size", "patches"), [((48, 64), 12), ((16, 16), 1), ((40, 79), 8)])
def test_tokens_follow_the_image(stem, size, patches):
    tokens = stem(_random(2, 3, *size))
    assert tokens.shape == (2, patches, 7)
    assert tokens.isfinite().all()


def test_rest_at_the_border_is_not_looked_at(stem):
    images = _random(1, 3, 47, 40)
    torch.testing.assert_close(stem(images), stem(images[..., :32, :32]), **CLOSE)


def test_images_of_a_batch_do_not_mix(stem):
    images = _random(3, 3, 48, 48)
    torch.testing.assert_close(stem(images)[1:2], stem(images[1:2]), **CLOSE)


def test_squares_are_squared_distances():
    x = _random(2, 9, 4)
    torch.testing.assert_close(_squares(x), torch.cdist(x, x).square(), atol=1e-5, rtol=1e-4)


def test_nearest_leaves_touching_patches_out():
    grid = (6, 7)
    squares = _squares(_random(1, 42, 3))
    found = _nearest(squares, _near(grid))
    row, column = divmod(16, 7)
    others = [n for n in range(42) if max(abs(n // 7 - row), abs(n % 7 - column)) > 1]
    wanted = squares[0, 16, others].sort().values
    for place, count in enumerate(TOP):
        assert found[0, 16, place] == pytest.approx(float(wanted[:count].mean()), rel=1e-5)


def test_mirrored_looks_around_the_mirrored_place():
    grid = (3, 5)
    squares = _random(1, 15, 15).square()
    found = _mirrored(squares, grid)[0, 1 * 5 + 1]  # row 1, column 1; its mirrored place is row 1, column 3
    around = [row * 5 + column for row in (0, 1, 2) for column in (2, 3, 4)]
    assert found[0] == squares[0, 6, around].min()


def test_an_odd_patch_is_farther_than_the_others(stem):
    features = torch.zeros(1, sum(SMALL.sizes), 5, 5)
    features[..., 2, 3] = 3
    x = features.flatten(2).transpose(1, 2)
    distances = stem.distances(x, stem.reduction(x), (5, 5))[0]
    nearest_fixed = distances[:, len(TOP) + 2]
    assert int(nearest_fixed.argmax()) == 2 * 5 + 3


@pytest.mark.parametrize("grid", [(1, 1), (4, 3)])
def test_mirror_index_stays_inside(grid):
    index = _mirror_index(grid)
    assert index.shape == (3, grid[0] * grid[1], 9)
    assert 0 <= int(index.min()) <= int(index.max()) < grid[0] * grid[1]
