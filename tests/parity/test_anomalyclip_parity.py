"""AnomalyCLIP against plain NumPy in double precision, written from the formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from conftest import random_model
from labelled_set import write_labelled_set
from plain_clip import Plain, unit
from zeroflaw.detectors.anomalyclip import AnomalyCLIP
from zeroflaw.detectors.anomalyclip.learning import LabelledFeatures, Losses, dice_loss, focal_loss
from zeroflaw.detectors.blur import blurred
from zeroflaw.images import read_image
from zeroflaw.lab.datasets import open_mvtec
from zeroflaw.towers.configs import CLIPConfig, TextConfig, VisionConfig
from zeroflaw.towers.local import LocalPath, local_features
from zeroflaw.towers.model import CLIP


def deep_model(*, aligned: bool = False, ln_pre: bool = True) -> CLIP:
    """Four blocks a tower, 16 wide, a 3 x 3 grid."""
    shape: dict[str, Any] = {"width": 16, "layers": 4, "heads": 2, "mlp_width": 24}
    vision = VisionConfig(image_size=24, patch_size=8, patch_projection=aligned, ln_pre=ln_pre, **shape)
    text = TextConfig(context_length=20, vocab_size=50, **shape)
    return random_model(CLIPConfig(embed_dim=12, vision=vision, text=text), seed=3)


def stretched(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, pixel centres aligned, borders repeated: (h, w) -> (height, width)."""
    whole = torch.from_numpy(values).double()[None, None]
    return F.interpolate(whole, (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()


class PlainLocal(Plain):
    """With the local path."""

    def local(self, pixels: np.ndarray, path: LocalPath) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Class token and local patch embeddings after each block, for one image (3, Y, X)."""
        w, vision, patches = self.weights, self.config.vision, self.patches(pixels)
        rows, columns = patches.shape[:2]
        native = w["vision.positions"][1:].reshape(*vision.grid, -1)
        positions = np.stack([stretched(part, rows, columns) for part in np.moveaxis(native, -1, 0)], -1)
        x = self.with_class((patches + positions).reshape(rows * columns, -1))
        projection = w["vision.patch_projection" if vision.patch_projection else "vision.projection"]
        local, found = x, {}
        for number in range(1, vision.layers + 1):
            name = f"vision.blocks.{number - 1}"
            if number > vision.layers - path.blocks:
                local = local + self.attention(name, x, values_only=True)
                found[number] = unit(self.norm("vision.ln_post", local[1:]) @ projection)
                x = self.block(name, x)
            else:
                local = x = self.block(name, x)
        first = self.norm("vision.ln_post", x[0]) if path.class_norm else x[0]
        return unit(first @ w["vision.projection"]), found


@pytest.mark.parametrize(
    ("path", "side", "options"),
    [
        (LocalPath(3, (2, 4)), 24, {}),
        (LocalPath(4, (1,)), 40, {}),  # a 5 x 5 grid from 3 x 3 positions
        (LocalPath(1, class_norm=True), 24, {"aligned": True}),
        (LocalPath(2), 24, {"ln_pre": False}),
    ],
)
def test_the_local_path(path: LocalPath, side: int, options: dict[str, bool]) -> None:
    model = deep_model(**options)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    found = local_features(model.vision, images, path)
    layers = path.layers or (4,)
    assert sorted(found.layers) == list(layers)
    assert found.patches is found.layers[layers[-1]]
    for row, picture in enumerate(images.double().numpy()):
        image, patches = PlainLocal(model).local(picture, path)
        np.testing.assert_allclose(found.image[row].numpy(), image, atol=5e-6)
        for layer in layers:
            np.testing.assert_allclose(found.layers[layer][row].numpy(), patches[layer], atol=5e-6)
    alone = local_features(model.vision, images, path, patches=False)
    assert alone.patches is None
    torch.testing.assert_close(alone.image, found.image, rtol=0, atol=1e-6)
    if path.class_norm:
        torch.testing.assert_close(alone.image, model.vision(images).image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sets", [0, 1, 3])
def test_deep_text_tokens(sets: int) -> None:
    model, generator = deep_model(), torch.Generator().manual_seed(sets)
    vectors = torch.randn(2, 9, 16, generator=generator)
    deep = [torch.randn(3, 16, generator=generator).requires_grad_() for _ in range(sets)]
    ends = torch.tensor([6, 8])
    found = model.text.from_vectors(vectors, ends, deep)
    if sets:
        found[:, 0].sum().backward()
    assert all(float(tokens.grad.abs().min()) > 0 for tokens in deep)
    for row, end in enumerate(ends.tolist()):
        tokens = [d.detach().double().numpy() for d in deep]
        wanted = Plain(model).text(vectors[row].double().numpy(), end, tokens)
        np.testing.assert_allclose(found[row].detach().numpy(), wanted, atol=2e-6)


def plain_focal(p: np.ndarray, masks: np.ndarray, gamma: float, smoothing: float) -> float:
    target = np.where(masks, 1 - smoothing, smoothing)  # of the anomalous class
    sure = target * p + (1 - target) * (1 - p) + smoothing
    return float((-((1 - sure) ** gamma) * np.log(sure)).mean())


def plain_dice(p: np.ndarray, masks: np.ndarray, smoothing: float) -> float:
    both = [2 * one[mask].sum() + smoothing for one, mask in zip(p, masks, strict=True)]
    return float(np.mean(1 - np.array(both) / (p.sum((1, 2)) + masks.sum((1, 2)) + smoothing)))


def test_focal_and_dice_loss() -> None:
    random = np.random.default_rng(0)
    p, masks = random.random((3, 5, 4)), random.random((3, 5, 4)) > 0.6
    p[0], masks[1] = masks[0] * 0.999, False  # one that is all but right everywhere, one without a flaw
    tensors = torch.from_numpy(p), torch.from_numpy(masks)
    for gamma, smoothing in ((2.0, 1e-5), (0.5, 1e-3)):
        found = float(focal_loss(*tensors, gamma, smoothing))
        assert found == pytest.approx(plain_focal(p, masks, gamma, smoothing), rel=1e-6)
        assert float(dice_loss(*tensors, gamma)) == pytest.approx(plain_dice(p, masks, gamma), rel=1e-9)
    right = torch.ones(1, 2, 2, dtype=torch.double), torch.ones(1, 2, 2, dtype=torch.bool)
    assert np.isfinite(float(focal_loss(*right, 0.5, 1e-5)))


def test_the_whole_loss() -> None:
    random = np.random.default_rng(1)
    image, text = unit(random.normal(size=(3, 6))), unit(random.normal(size=(2, 6)))
    patches = unit(random.normal(size=(3, 2, 6, 6)))  # two layers, a 2 x 3 grid
    labels, masks = np.array([0, 1, 1]), random.random((3, 8, 8)) > 0.5
    odds = np.exp(image @ text.T / 0.07)
    wanted = {"image": -np.log(odds[range(3), labels] / odds.sum(1)).mean(), "focal": 0.0, "dice": 0.0}
    for layer in range(2):
        grids = expit(patches[:, layer] @ (text[1] - text[0]) / 0.07).reshape(3, 2, 3)
        maps = np.stack([stretched(grid, 8, 8) for grid in grids])
        wanted["focal"] += 4 * plain_focal(maps, masks, 2.0, 1e-5)
        wanted["dice"] += 4 * (plain_dice(maps, masks, 1.0) + plain_dice(1 - maps, ~masks, 1.0))
    batch = LabelledFeatures(*(torch.from_numpy(x) for x in (image, labels, patches, masks)), grid=(2, 3))
    found = Losses().loss_terms(torch.from_numpy(text), batch)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("grid", "patch", "sigma"), [((5, 4), 14, 4.0), ((3, 3), 5, 9.0), ((2, 6), 8, 0.7)])
def test_the_blur_is_that_of_the_whole_picture(grid: tuple[int, int], patch: int, sigma: float) -> None:
    values = np.random.default_rng(0).random((1, *grid))
    plain = stretched(values[0], grid[0] * patch, grid[1] * patch)
    picture = gaussian_filter(plain, sigma)
    np.testing.assert_allclose(blurred(values, patch, sigma, pixels=True)[0], picture, atol=1e-9)
    np.testing.assert_allclose(blurred(values, patch, 0, pixels=True)[0], plain, atol=1e-9)
    np.testing.assert_allclose(blurred(values, patch, sigma)[0], centres(picture, patch), atol=1e-9)
    assert np.array_equal(blurred(values, patch, 0), values)


def centres(picture: np.ndarray, patch: int) -> np.ndarray:
    """The pixel in the middle of each patch, or the mean of the four around it."""
    rows, columns = (side // patch for side in picture.shape)
    middle = slice((patch - 1) // 2, patch // 2 + 1)
    return picture.reshape(rows, patch, columns, patch)[:, middle, :, middle].mean((1, 3))


@pytest.mark.parametrize("map_grid", ["patches", "pixels"])
def test_scores_and_maps_from_images(map_grid: str, tiny_backbone: Path, tmp_path: Path) -> None:
    auxiliary = open_mvtec(write_labelled_set(tmp_path, products=("cup",)))
    settings: dict[str, Any] = {"epochs": 2, "image_size": 40, "map_layers": (1, 2), "value_blocks": 2}
    detector = AnomalyCLIP(backbone=f"local-dir:{tiny_backbone}", map_grid=map_grid, **settings)
    detector.fit(auxiliary=auxiliary)
    picture = read_image(auxiliary.categories[0].test[0].image)
    (found,) = detector.predict([picture], maps=True)
    plain, tokenizer = PlainLocal(detector.backbone_.model), detector.backbone_.tokenizer
    learned = {name: tokens.astype(float) for name, tokens in detector.fitted_.learned.items()}
    table, texts = plain.weights["text.token_embedding.weight"], []
    for side, words in (("normal", "object."), ("anomalous", "damaged object.")):
        ids = tokenizer.encode([words])[0][0].numpy()
        vectors = np.concatenate([table[ids[:1]], learned[side], table[ids[1:]]])
        texts.append(plain.text(vectors, len(vectors) - 1, [learned["deep.2"]]))
    pixels = detector.resized(detector.backbone_).preprocess([picture])[0].astype(float)
    image, patches = plain.local(pixels, LocalPath(2))
    direction = (texts[1] - texts[0]) / 0.07
    assert found.logit == pytest.approx(image @ direction, abs=2e-4)
    grid = np.mean([expit(patches[layer] @ direction).reshape(5, 5) for layer in (1, 2)], axis=0)
    smooth = gaussian_filter(stretched(grid, 40, 40), 4.0)
    wanted = smooth if map_grid == "pixels" else centres(smooth, 8)
    np.testing.assert_allclose(found.map, wanted, atol=1e-5)
