"""The rendered sample set: layout, masks, determinism."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zeroflaw.images import read_image
from zeroflaw.lab.samples import PRODUCTS, render, render_samples, written_samples

CASES = [(name, flaw) for name, product in PRODUCTS.items() for flaw in product.flaws]


@pytest.mark.parametrize("product", PRODUCTS)
def test_sound_products_vary_and_have_no_mask(product: str) -> None:
    one, mask = render(product, index=0)
    other, _ = render(product, index=1)
    assert one.shape == (352, 352, 3)
    assert one.dtype == np.uint8
    assert not mask.any()
    assert np.abs(one.astype(int) - other).mean() > 1
    assert 25 < one.mean() < 225
    assert (one == 255).mean() < 0.02


@pytest.mark.parametrize(("product", "flaw"), CASES)
def test_a_flaw_is_small_inside_and_marked_where_it_is(product: str, flaw: str) -> None:
    picture, mask = render(product, flaw, seed=3)
    assert mask.dtype == np.bool_
    assert mask.shape == (352, 352)
    assert 0.0005 < mask.mean() < 0.12
    assert not mask[[0, -1]].any()
    # What is flawed must look unlike its surroundings: a ring of 12 pixels about the mask.
    ring = np.zeros_like(mask)
    for row, column in np.argwhere(mask)[::7]:
        ring[max(0, row - 12) : row + 13, max(0, column - 12) : column + 13] = True
    ring &= ~mask
    inside, around = picture[mask].astype(float), picture[ring].astype(float)
    differs = np.abs(inside.mean(axis=0) - around.mean(axis=0)).max()
    assert differs > 8 or inside.std() > 1.3 * around.std()


def test_same_seed_same_picture_whatever_else_is_rendered() -> None:
    np.testing.assert_array_equal(render("gear", seed=5, index=2)[0], render("gear", seed=5, index=2)[0])
    assert not np.array_equal(render("gear", seed=5)[0], render("gear", seed=6)[0])


def test_layout_is_that_of_mvtec(tmp_path: Path) -> None:
    written = render_samples(tmp_path / "new", good=1, flawed=4, seed=1)
    assert len(written) == 5 * len(PRODUCTS)
    for name, product in PRODUCTS.items():
        folder = tmp_path / "new" / name
        assert sorted(path.name for path in (folder / "test").iterdir()) == sorted(["good", *product.flaws])
        assert (folder / "test" / product.flaws[0] / "001.png").is_file()
        masks = list((folder / "ground_truth").rglob("*.png"))
        assert len(masks) == 4
        for path in masks:
            assert folder / "test" / path.parent.name / path.name.replace("_mask", "") in written
            assert set(np.unique(read_image(path))) == {0, 255}
    np.testing.assert_array_equal(read_image(written[0]), render("capsule", seed=1)[0])
    everything = {p.relative_to(tmp_path / "new").as_posix() for p in (tmp_path / "new").rglob("*.*")}
    assert written_samples(tmp_path / "new") == everything
    (tmp_path / "new" / "README.txt").write_text("mine")
    assert written_samples(tmp_path / "new") == set()
