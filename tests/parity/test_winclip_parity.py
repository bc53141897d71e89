"""WinCLIP and WinCLIP+ against the formulas, written out in NumPy, patch by patch and window by window.

Nothing of the package computes here but the tokenizer: both towers run in float64 on the tiny backbone, and
probabilities in a hundred decimal digits, where 1 - p is exact however close p is to one.
"""

from __future__ import annotations

from decimal import Decimal, getcontext
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plain_clip import Plain, unit
from zeroflaw import load_backbone
from zeroflaw.detectors import make
from zeroflaw.words import ENSEMBLE_ANOMALOUS, ENSEMBLE_NORMAL, ENSEMBLE_TEMPLATES

SIDE, PATCH, GRID, BLOCKS = 48, 8, 6, 2
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
getcontext().prec = 100
TOLERANCE = 2e-6  # on probabilities: float32 towers against float64


@lru_cache(maxsize=2)
def towers(folder: Path) -> Plain:
    return Plain(load_backbone(f"local-dir:{folder}").model)


def patch_tokens(image: np.ndarray, w: Plain) -> np.ndarray:
    """(48, 48, 3) uint8 to 36 tokens with their positions."""
    pixels = ((image / 255 - MEAN) / STD).transpose(2, 0, 1)
    return w.patches(pixels).reshape(GRID * GRID, -1) + w.weights["vision.positions"][1:]


def look(tokens: np.ndarray, w: Plain) -> tuple[np.ndarray, np.ndarray]:
    """Unit embedding of the class token beside these tokens, and the tokens after the last block but one."""
    x = w.with_class(tokens)
    for number in range(BLOCKS):
        before = x
        x = w.block(f"vision.blocks.{number}", x)
    return unit(w.norm("vision.ln_post", x[0]) @ w.weights["vision.projection"]), before[1:]


# --- prompts ----------------------------------------------------------------------------------------

CROPPED = "a cropped photo of a {}"
JPEG = "a jpeg corrupted photo of a {}"
SLIPPED = [t + "." for t in ENSEMBLE_TEMPLATES if t not in (CROPPED, JPEG)]
SLIPPED.append(JPEG.replace(" a {}", " the {}") + ".")


def prototypes(folder: Path, name: str, templates: list[str], mean: str) -> list[np.ndarray]:
    """Normal, then anomalous."""
    w, tokenizer = towers(folder), load_backbone(f"local-dir:{folder}").tokenizer
    found = []
    for states in (ENSEMBLE_NORMAL, ENSEMBLE_ANOMALOUS):
        rows = []
        for state, template in product(states, templates):
            text = template.replace("{}", state.replace("{}", name))
            rows.append(w.sentence(tokenizer, text, normalise=mean == "normalised"))
        average = sum(rows) / len(rows)
        found.append(unit(average))
    return found


# --- the method -------------------------------------------------------------------------------------


def probability(f: np.ndarray, pair: list[np.ndarray], temperature: float) -> Decimal:
    normal, anomalous = (Decimal(float(f @ t) / temperature).exp() for t in pair)
    return anomalous / (normal + anomalous)


def log_odds(p: Decimal) -> float:
    return float((p / (1 - p)).ln())


def harmonic(values: list[Decimal], over: str) -> Decimal:
    if over == "normal":
        return 1 - harmonic([1 - value for value in values], "anomalous")
    return len(values) / sum(1 / value for value in values)


def window_patches(size: int) -> list[list[tuple[int, int]]]:
    corners = product(range(GRID - size + 1), range(GRID - size + 1))
    return [[(y + i, x + j) for i in range(size) for j in range(size)] for y, x in corners]


def window_embeddings(image: np.ndarray, w: Plain, size: int) -> list[np.ndarray]:
    tokens = patch_tokens(image, w)
    return [look(tokens[[y * GRID + x for y, x in held]], w)[0] for held in window_patches(size)]


def spread(values: list[Decimal], size: int, how: str, over: str = "anomalous") -> np.ndarray:
    grid = np.empty((GRID, GRID), dtype=object)
    for patch in product(range(GRID), range(GRID)):
        mine = [value for value, held in zip(values, window_patches(size), strict=True) if patch in held]
        grid[patch] = harmonic(mine, over) if how == "harmonic" else sum(mine) / len(mine)
    return grid


def zero_shot(
    image: np.ndarray, w: Plain, pair: list[np.ndarray], temperature: float, over: str, image_term: bool
) -> tuple[Decimal, np.ndarray]:
    """s0, and the map M of decimals."""
    s0 = probability(look(patch_tokens(image, w), w)[0], pair, temperature)
    scales = [
        spread(
            [probability(f, pair, temperature) for f in window_embeddings(image, w, size)],
            size,
            "harmonic",
            over,
        )
        for size in (2, 3)
    ]
    grid = np.empty((GRID, GRID), dtype=object)
    for patch in product(range(GRID), range(GRID)):
        values = [scale[patch] for scale in scales] + ([s0] if image_term else [])
        grid[patch] = harmonic(values, over)
    return s0, grid


def nearest(query: np.ndarray, memory: list[np.ndarray]) -> float:
    return min(
        (1 - float(query @ r) / (np.linalg.norm(query) * np.linalg.norm(r))) / 2 for r in memory
    )  # m(F)


def reference_map(
    image: np.ndarray, references: list[np.ndarray], w: Plain, how: str = "harmonic"
) -> np.ndarray:
    """M_ref, the mean of three maps."""
    maps = []
    for size in (2, 3):
        memory = [f for reference in references for f in window_embeddings(reference, w, size)]
        found = [Decimal(nearest(f, memory)) for f in window_embeddings(image, w, size)]
        maps.append(spread(found, size, how).astype(float))
    memory = [f for reference in references for f in look(patch_tokens(reference, w), w)[1]]
    own = [nearest(f, memory) for f in look(patch_tokens(image, w), w)[1]]
    maps.append(np.array(own).reshape(GRID, GRID))
    return sum(maps) / 3


# --- tests ------------------------------------------------------------------------------------------


def pictures(count: int, width: int = SIDE, seed: int = 0) -> list[np.ndarray]:
    """Noise on slopes, so that windows differ."""
    random = np.random.default_rng(seed)
    slope = np.linspace(0, 90, width)[None, :, None]
    return [(random.integers(0, 160, (SIDE, width, 3)) + slope).astype(np.uint8) for _ in range(count)]


ZERO_SHOT: dict[str, tuple[list[str], str, str, float, str, bool, str]] = {
    # name: templates, object, mean of sentences, temperature, harmonic over, image term, image score
    "winclip": (list(ENSEMBLE_TEMPLATES), "metal nut", "normalised", 0.07, "anomalous", True, "image"),
    "winclip-anomalib": (SLIPPED, "metal_nut", "raw", 0.07, "anomalous", True, "image"),
    "winclip-zqhang": (SLIPPED, "metal_nut", "raw", 0.07, "anomalous", True, "image"),
    "winclip-caoyunkang": (list(ENSEMBLE_TEMPLATES), "metal_nut", "raw", 0.01, "normal", False, "map"),
    "winclip-mala": (list(ENSEMBLE_TEMPLATES), "metal nut", "normalised", 0.01, "anomalous", True, "image"),
}


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_zero_shot_scores_and_maps(name: str, tiny_backbone: Path) -> None:
    templates, words, mean, temperature, over, image_term, score = ZERO_SHOT[name]
    pair, w = prototypes(tiny_backbone, words, templates, mean), towers(tiny_backbone)
    detector = make(name, backbone=f"local-dir:{tiny_backbone}", object="metal_nut").fit()
    images = pictures(2)
    for image, found in zip(images, detector.predict(images, maps=True), strict=True):
        s0, grid = zero_shot(image, w, pair, temperature, over, image_term)
        np.testing.assert_allclose(found.map, grid.astype(float), atol=1e-5)
        # Log-odds, since probabilities close to 0 and 1 would agree whatever was computed.
        expected = log_odds(s0 if score == "image" else grid.max())
        assert found.logit == pytest.approx(expected, rel=2e-6, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "how", "fused"),
    [
        ({}, "harmonic", lambda a, b: (a + b) / 2),
        ({"reference_spread": "mean"}, "mean", lambda a, b: (a + b) / 2),
        ({"map_fusion": "harmonic"}, "harmonic", lambda a, b: 2 / (1 / a + 1 / b)),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_few_shot_scores_and_maps(
    settings: dict[str, Any], how: str, fused: Any, count: int, tiny_backbone: Path
) -> None:
    references = pictures(count, seed=1)
    pair = prototypes(tiny_backbone, "object", list(ENSEMBLE_TEMPLATES), "normalised")
    w = towers(tiny_backbone)
    detector = make("winclip-plus", backbone=f"local-dir:{tiny_backbone}", **settings)
    detector.fit(reference=references)
    (image,) = pictures(1)
    (found,) = detector.predict([image], maps=True)
    s0, grid = zero_shot(image, w, pair, 0.07, "anomalous", True)
    seen = reference_map(image, references, w, how)
    np.testing.assert_allclose(found.map, fused(grid.astype(float), seen), atol=TOLERANCE)
    assert found.scores["reference"] == pytest.approx(seen.max(), abs=TOLERANCE)
    assert found.score == pytest.approx((float(s0) + seen.max()) / 2, abs=TOLERANCE)


def test_a_reference_itself_is_no_distance_away(tiny_backbone: Path) -> None:
    references = pictures(2, seed=1)
    detector = make("winclip-plus", backbone=f"local-dir:{tiny_backbone}").fit(reference=references)
    found = list(detector.predict([references[1], *pictures(1)]))
    assert found[0].scores["reference"] < 1e-9
    assert found[1].scores["reference"] > 1e-3


def along_the_width(tiles: list[np.ndarray], starts: list[int], width: int) -> np.ndarray:
    """Cells of the photo: the mean over the tiles that hold a cell's centre, linear between their patches."""
    count = round(GRID * width / SIDE)
    merged = np.empty((GRID, count))
    for cell in range(count):
        centre = (cell + 0.5) * width / count
        held = []
        for tile, start in zip(tiles, starts, strict=True):
            if start <= centre <= start + SIDE:
                inside = (np.arange(GRID) + 0.5) * PATCH + start
                held.append([np.interp(centre, inside, row) for row in tile])
        merged[:, cell] = np.mean(held, axis=0)
    return merged


@pytest.mark.parametrize("upright", [False, True])
def test_tiles_of_a_photo_that_is_not_square(upright: bool, tiny_backbone: Path) -> None:
    width, starts = 110, [0, 38, 62]  # 0.8 x 48 = 38.4; the last tile ends on the border
    pair, w = (
        prototypes(tiny_backbone, "object", list(ENSEMBLE_TEMPLATES), "normalised"),
        towers(tiny_backbone),
    )
    (image,), (reference,) = pictures(1, width), pictures(1, seed=1)
    tiles = [image[:, start : start + SIDE] for start in starts]
    if upright:
        image, tiles = image.transpose(1, 0, 2), [tile.transpose(1, 0, 2) for tile in tiles]
    judged = [zero_shot(tile, w, pair, 0.01, "anomalous", True) for tile in tiles]
    parts = [(grid.T if upright else grid).astype(float) for _, grid in judged]
    expected = along_the_width(parts, starts, width)
    s0 = np.mean([float(s0) for s0, _ in judged])

    (found,) = make("winclip-mala", backbone=f"local-dir:{tiny_backbone}").fit().predict([image], maps=True)
    assert found.score == pytest.approx(s0, abs=1e-5)
    np.testing.assert_allclose(found.map, expected.T if upright else expected, atol=1e-5)

    plus = make("winclip-plus-mala", backbone=f"local-dir:{tiny_backbone}").fit(reference=[reference])
    (found,) = plus.predict([image])
    seen = [reference_map(tile, [reference], w) for tile in tiles]
    highest = along_the_width([grid.T if upright else grid for grid in seen], starts, width).max()
    assert found.score == pytest.approx((s0 + highest) / 2, abs=1e-5)
