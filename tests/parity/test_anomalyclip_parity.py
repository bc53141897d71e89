"""AnomalyCLIP against plain loops in double precision, written from the formulas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from conftest import random_model
from labelled_set import write_labelled_set
from zeroflaw.detectors.anomalyclip import AnomalyCLIP
from zeroflaw.detectors.anomalyclip_features import Features
from zeroflaw.detectors.anomalyclip_training import Objective, dice_loss, focal_loss
from zeroflaw.detectors.blur import blurred
from zeroflaw.images import read_image
from zeroflaw.lab.datasets import open_mvtec
from zeroflaw.towers.local import LocalPath, local_features
from zeroflaw.towers.model import CLIP, CLIPConfig, TextConfig, VisionConfig

HEADS = 2


def deep_model(*, aligned: bool = False, ln_pre: bool = True) -> CLIP:
    """Four blocks a tower, 16 wide, a 3 x 3 grid."""
    shape: dict[str, Any] = {"width": 16, "layers": 4, "heads": HEADS, "mlp_width": 24}
    vision = VisionConfig(image_size=24, patch_size=8, patch_projection=aligned, ln_pre=ln_pre, **shape)
    text = TextConfig(context_length=20, vocab_size=50, **shape)
    return random_model(CLIPConfig(embed_dim=12, vision=vision, text=text), seed=3)


class Plain:
    """The arithmetic of a transformer, one token at a time."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        for t, row in enumerate(x):
            out[t] = (row - row.mean()) / math.sqrt(row.var() + 1e-5)
            out[t] = out[t] * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return out

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def attention(self, block: str, x: np.ndarray, *, values_only: bool, causal: bool = False) -> np.ndarray:
        """What the attention of a block adds to x (T, C); x is what goes into the block."""
        width = x.shape[1]
        depth = width // HEADS
        qkv = self.linear(f"{block}.attn.qkv", self.norm(f"{block}.ln_1", x))
        q, k, v = qkv[:, :width], qkv[:, width : 2 * width], qkv[:, 2 * width :]
        if values_only:
            q, k = v, v
        mixed = np.zeros_like(x)
        for head in range(HEADS):
            part = slice(head * depth, (head + 1) * depth)
            for i in range(len(x)):
                seen = range(i + 1) if causal else range(len(x))
                likeness = np.array([q[i, part] @ k[j, part] / math.sqrt(depth) for j in seen])
                share = np.exp(likeness - likeness.max())
                share /= share.sum()
                for weight, j in zip(share, seen, strict=True):
                    mixed[i, part] += weight * v[j, part]
        return self.linear(f"{block}.attn.out", mixed)

    def block(self, name: str, x: np.ndarray, *, causal: bool = False) -> np.ndarray:
        x = x + self.attention(name, x, values_only=False, causal=causal)
        hidden = self.linear(f"{name}.mlp.0", self.norm(f"{name}.ln_2", x))
        gelu = np.array([[h / 2 * (1 + math.erf(h / math.sqrt(2))) for h in row] for row in hidden])
        return x + self.linear(f"{name}.mlp.2", gelu)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def stretched(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, pixel centres aligned, borders repeated: (h, w) -> (height, width)."""
    h, w = values.shape
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * h / height - 0.5, 0), h - 1)
            u = min(max((x + 0.5) * w / width - 0.5, 0), w - 1)
            top, left = int(v), int(u)
            down, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = v - top, u - left
            out[y, x] = (1 - a) * ((1 - b) * values[top, left] + b * values[top, right]) + a * (
                (1 - b) * values[down, left] + b * values[down, right]
            )
    return out


def plain_local(model: CLIP, pixels: np.ndarray, path: LocalPath) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Class token and local patch embeddings after each layer, for one image (3, Y, X)."""
    plain, w = Plain(model), Plain(model).weights
    size = model.config.vision.patch_size
    rows, columns = pixels.shape[1] // size, pixels.shape[2] // size
    kernel = w["vision.patch_embedding.conv.weight"]
    native = w["vision.positions"][1:].reshape(*model.config.vision.grid, -1)
    positions = np.stack([stretched(native[..., c], rows, columns) for c in range(native.shape[-1])], -1)
    tokens = [w["vision.class_embedding"] + w["vision.positions"][0]]
    for y in range(rows):
        for x in range(columns):
            patch = pixels[:, y * size : (y + 1) * size, x * size : (x + 1) * size]
            tokens.append((kernel * patch).sum((1, 2, 3)) + positions[y, x])
    x = np.stack(tokens)
    if model.config.vision.ln_pre:
        x = plain.norm("vision.ln_pre", x)
    depth = model.config.vision.layers
    projection = w["vision.patch_projection" if model.config.vision.patch_projection else "vision.projection"]
    local, found = None, {}
    for number in range(1, depth + 1):
        name = f"vision.blocks.{number - 1}"
        if number == depth - path.blocks + 1:
            local = x
        if local is not None:
            local = local + plain.attention(name, x, values_only=True)
            found[number] = unit(plain.norm("vision.ln_post", local[1:]) @ projection)
        x = plain.block(name, x)
    first = plain.norm("vision.ln_post", x[:1])[0] if path.class_norm else x[0]
    return unit(first @ w["vision.projection"]), found


@pytest.mark.parametrize(
    ("path", "side", "options"),
    [
        (LocalPath(3, (2, 4)), 24, {}),
        (LocalPath(4, (1,)), 40, {}),  # a 5 x 5 grid from 3 x 3 positions
        (LocalPath(1, class_norm=True), 16, {"aligned": True}),
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
        image, patches = plain_local(model, picture, path)
        np.testing.assert_allclose(found.image[row].numpy(), image, atol=5e-6)
        for layer in layers:
            np.testing.assert_allclose(found.layers[layer][row].numpy(), patches[layer], atol=5e-6)


def test_the_class_token_does_not_depend_on_the_local_path() -> None:
    model = deep_model()
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(2))
    with_norm = LocalPath(2, class_norm=True, interpolation="bicubic")
    torch.testing.assert_close(
        local_features(model.vision, images, with_norm).image, model.vision(images).image, rtol=0, atol=1e-6
    )
    alone = local_features(model.vision, images, LocalPath(2), patches=False)
    assert alone.patches is None
    assert torch.equal(alone.image, local_features(model.vision, images, LocalPath(4)).image)


def plain_text(model: CLIP, vectors: np.ndarray, end: int, deep: list[np.ndarray]) -> np.ndarray:
    """One prompt (T, C) with learned tokens before the blocks 2, 3, ..."""
    plain = Plain(model)
    x = vectors + plain.weights["text.positions"][: len(vectors)]
    for number in range(1, model.config.text.layers + 1):
        if 2 <= number <= len(deep) + 1:
            x = x.copy()
            for position, token in enumerate(deep[number - 2], 1):
                x[position] = token
        x = plain.block(f"text.blocks.{number - 1}", x, causal=True)
    return unit(plain.norm("text.ln_final", x[end : end + 1])[0] @ plain.weights["text.projection"])


@pytest.mark.parametrize("sets", [0, 1, 3])
def test_deep_text_tokens(sets: int) -> None:
    model = deep_model()
    generator = torch.Generator().manual_seed(sets)
    vectors = torch.randn(2, 9, 16, generator=generator)
    deep = [torch.randn(3, 16, generator=generator) for _ in range(sets)]
    ends = torch.tensor([6, 8])
    found = model.text.from_vectors(vectors, ends, deep)
    for row, end in enumerate(ends.tolist()):
        wanted = plain_text(model, vectors[row].double().numpy(), end, [d.double().numpy() for d in deep])
        np.testing.assert_allclose(found[row].numpy(), wanted, atol=2e-6)
    if not sets:
        torch.testing.assert_close(found, model.text.from_vectors(vectors, ends), rtol=0, atol=1e-6)


def test_gradients_reach_the_deep_tokens() -> None:
    model = deep_model().double()
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, 6, 16, generator=generator, dtype=torch.double)
    deep = [torch.randn(2, 16, generator=generator, dtype=torch.double) for _ in range(3)]

    def first(at: torch.Tensor, which: int) -> torch.Tensor:
        tokens = [at if number == which else one for number, one in enumerate(deep)]
        return model.text.from_vectors(vectors, torch.tensor([5, 4]), tokens)[:, 0].sum()

    for which, tokens in enumerate(deep):
        leaf = tokens.clone().requires_grad_(True)
        first(leaf, which).backward()
        step = torch.zeros_like(tokens)
        step[1, 5] = 1e-3
        slope = (first(tokens + step, which) - first(tokens - step, which)) / 2e-3
        assert abs(float(leaf.grad[1, 5] - slope)) < 1e-4 + 0.02 * abs(float(slope))  # embeddings are float32
        assert float(leaf.grad.abs().sum()) > 0


def plain_focal(p: np.ndarray, masks: np.ndarray, gamma: float, smoothing: float) -> float:
    total = []
    for value, marked in zip(p.ravel(), masks.ravel(), strict=True):
        targets = (smoothing, 1 - smoothing) if marked else (1 - smoothing, smoothing)
        sure = targets[0] * (1 - value) + targets[1] * value + smoothing
        total.append(-((1 - sure) ** gamma) * math.log(sure))
    return float(np.mean(total))


def plain_dice(p: np.ndarray, masks: np.ndarray, smoothing: float) -> float:
    losses = []
    for one, mask in zip(p, masks, strict=True):
        both = sum(v for v, m in zip(one.ravel(), mask.ravel(), strict=True) if m)
        losses.append(1 - (2 * both + smoothing) / (one.sum() + mask.sum() + smoothing))
    return float(np.mean(losses))


def test_focal_and_dice_loss() -> None:
    random = np.random.default_rng(0)
    p, masks = random.random((3, 5, 4)), random.random((3, 5, 4)) > 0.6
    p[0], masks[1] = masks[0], False  # one that is right everywhere, one without a flaw
    as_tensors = torch.from_numpy(p), torch.from_numpy(masks)
    for gamma, smoothing in ((2.0, 1e-5), (0.5, 1e-3)):
        found = float(focal_loss(*as_tensors, gamma, smoothing))
        assert found == pytest.approx(plain_focal(p, masks, gamma, smoothing), rel=1e-9)
    for smoothing in (1.0, 1e-5):
        assert float(dice_loss(*as_tensors, smoothing)) == pytest.approx(
            plain_dice(p, masks, smoothing), rel=1e-9
        )


def test_the_whole_loss() -> None:
    random = np.random.default_rng(1)
    image, text = unit(random.normal(size=(3, 6))), unit(random.normal(size=(2, 6)))
    patches = unit(random.normal(size=(3, 2, 6, 6)))  # two layers, a 2 x 3 grid
    labels, masks = np.array([0, 1, 1]), random.random((3, 8, 8)) > 0.5
    wanted = {"image": 0.0, "focal": 0.0, "dice": 0.0}
    for row, label in enumerate(labels):
        odds = np.exp(text @ image[row] / 0.07)
        wanted["image"] -= math.log(odds[label] / odds.sum()) / 3
    for layer in range(2):
        maps = np.empty((3, 8, 8))
        for row in range(3):
            odds = np.exp(patches[row, layer] @ text.T / 0.07)
            maps[row] = stretched((odds[:, 1] / odds.sum(1)).reshape(2, 3), 8, 8)
        wanted["focal"] += 4 * plain_focal(maps, masks, 2.0, 1e-5)
        wanted["dice"] += 4 * (plain_dice(maps, masks, 1.0) + plain_dice(1 - maps, ~masks, 1.0))
    batch = Features(*(torch.from_numpy(x) for x in (image, labels, patches, masks)), grid=(2, 3))
    objective = Objective(0.07, True, True, True, 4.0, 2.0, 1e-5, 1.0)
    found = objective.terms(torch.from_numpy(text), batch)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("grid", "patch", "sigma"), [((5, 4), 14, 4.0), ((3, 3), 5, 9.0), ((2, 6), 8, 0.7)])
def test_the_blur_is_that_of_the_whole_picture(grid: tuple[int, int], patch: int, sigma: float) -> None:
    values = np.random.default_rng(0).random(grid)
    picture = gaussian_filter(stretched(values, grid[0] * patch, grid[1] * patch), sigma)
    middle = [(patch - 1) // 2, patch // 2]  # one pixel twice, or the two around the centre
    wanted = [
        [
            np.mean([picture[y * patch + a, x * patch + b] for a in middle for b in middle])
            for x in range(grid[1])
        ]
        for y in range(grid[0])
    ]
    found = blurred(torch.from_numpy(values)[None], patch, sigma)[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert torch.equal(blurred(torch.from_numpy(values)[None], patch, 0)[0], torch.from_numpy(values))


def test_scores_and_maps_from_images(tiny_backbone: Path, tmp_path: Path) -> None:
    auxiliary = open_mvtec(write_labelled_set(tmp_path, products=("cup",)))
    detector = AnomalyCLIP(backbone=f"local-dir:{tiny_backbone}", epochs=2, image_size=40, map_layers=(1, 2))
    detector.value_blocks = 2
    detector.fit(auxiliary=auxiliary)
    picture = read_image(auxiliary.categories[0].test[0].image)
    (found,) = detector.predict([picture], maps=True)
    model, prompts = detector.backbone_.model, detector.prompts_
    assert prompts is not None
    table, encode = Plain(model).weights["text.token_embedding.weight"], detector.backbone_.tokenizer.encode
    texts = []
    for tokens, words in ((prompts.normal, "object."), (prompts.anomalous, "damaged object.")):
        ids = encode([words])[0][0].numpy()
        vectors = np.concatenate([table[ids[:1]], tokens.double().numpy(), table[ids[1:]]])
        texts.append(plain_text(model, vectors, len(vectors) - 1, [d.double().numpy() for d in prompts.deep]))
    pixels = detector.backbone_.with_image_size(40).preprocess([picture])[0].double().numpy()
    image, patches = plain_local(model, pixels, LocalPath(2))
    assert found.logit == pytest.approx((image @ texts[1] - image @ texts[0]) / 0.07, abs=2e-4)
    odds = [np.exp(patches[layer] @ np.stack(texts).T / 0.07) for layer in (1, 2)]
    grid = np.mean([(o[:, 1] / o.sum(1)).reshape(5, 5) for o in odds], axis=0)
    smooth = gaussian_filter(stretched(grid, 40, 40), 4.0)
    wanted = smooth.reshape(5, 8, 5, 8)[:, 3:5, :, 3:5].mean((1, 3))
    assert found.map is not None
    np.testing.assert_allclose(found.map, wanted, atol=1e-5)
