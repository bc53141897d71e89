"""Style words against the paper's formulas in plain numpy: the tower, the losses, the learning, ArcFace."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plain_clip import Plain
from zeroflaw import load_backbone
from zeroflaw.detectors.learned import random_vectors
from zeroflaw.detectors.promptstyler import (
    PromptStyler,
    StylePrompts,
    arcface_loss,
    content_loss,
    style_loss,
    two_class_head,
)

Vector = np.ndarray[Any, np.dtype[np.float64]]
CONTENTS = ["normal nut", "anomalous toothbrush"]  # of unequal length in tokens


class PlainTower:
    """The text tower written out."""

    def __init__(self, backbone: Any) -> None:
        self.plain, self.tokenizer = Plain(backbone.model), backbone.tokenizer

    def sentence(self, *pieces: str | Vector) -> Vector:
        return self.plain.sentence(self.tokenizer, *pieces)

    def style(self, vector: Vector) -> Vector:
        return self.sentence("a", vector, "style of a")

    def styled(self, vector: Vector) -> list[Vector]:
        return [self.sentence("a", vector, f"style of a {content}") for content in CONTENTS]


def plain_style_loss(style: Vector, earlier: Sequence[Vector]) -> float:
    total = 0.0
    for other in earlier:
        total += abs(sum(a * b for a, b in zip(style, other, strict=True)))
    return total / len(earlier) if earlier else 0.0


def plain_content_loss(styled: Sequence[Vector], contents: Sequence[Vector], temperature: float) -> float:
    total = 0.0
    for m in range(len(contents)):
        z = [float(styled[m] @ contents[n]) / temperature for n in range(len(contents))]
        total -= math.log(math.exp(z[m]) / sum(math.exp(value) for value in z))
    return total / len(contents)


def plain_arcface(weight: Vector, features: Vector, labels: Sequence[int], s: float, m: float) -> float:
    total = 0.0
    for x, label in zip(features, labels, strict=True):
        logits = []
        for number, w in enumerate(weight):
            cosine = (x @ w) / (math.sqrt(x @ x) * math.sqrt(w @ w))
            logits.append(s * math.cos(math.acos(cosine) + (m if number == label else 0.0)))
        total -= math.log(math.exp(logits[label]) / sum(math.exp(z) for z in logits))
    return total / len(features)


def slope(loss: Callable[[Vector], float], at: Vector, step: float = 1e-5) -> Vector:
    """The gradient by central differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        moved = np.zeros_like(at)
        moved[place] = step
        found[place] = (loss(at + moved) - loss(at - moved)) / (2 * step)
    return found


def descend(loss: Callable[[Vector], float], at: Vector, rate: float, momentum: float, steps: int) -> Vector:
    speed = np.zeros_like(at)
    for _ in range(steps):
        speed = momentum * speed + slope(loss, at)
        at = at - rate * speed
    return at


def units(rows: int, width: int, seed: int) -> torch.Tensor:
    random = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(random, dim=-1)


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Path) -> Any:
    return load_backbone(f"local-dir:{tiny_backbone}", device="cpu")


def test_prompts_with_a_style_word(backbone: Any) -> None:
    plain, prompts = PlainTower(backbone), StylePrompts(backbone.model.text, backbone.tokenizer, CONTENTS)
    vector = torch.randn(1, 32, generator=torch.Generator().manual_seed(3))
    style, styled = prompts.embed(vector)
    word = vector[0].double().numpy()
    np.testing.assert_allclose(style.numpy(), plain.style(word), atol=2e-6)
    np.testing.assert_allclose(styled.numpy(), plain.styled(word), atol=2e-6)
    contents = [plain.sentence(content) for content in CONTENTS]
    np.testing.assert_allclose(prompts.contents.numpy(), contents, atol=2e-6)
    assert prompts.texts == [
        "a S style of a",
        "a S style of a normal nut",
        "a S style of a anomalous toothbrush",
    ]


@pytest.mark.parametrize("earlier", [0, 1, 4])
def test_the_style_loss(earlier: int) -> None:
    style, others = units(1, 7, 0)[0], units(earlier, 7, 1)
    expected = plain_style_loss(style.double().numpy(), list(others.double().numpy()))
    assert float(style_loss(style, others)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_the_content_loss(temperature: float) -> None:
    styled, contents = units(3, 7, 2), units(3, 7, 3)
    expected = plain_content_loss(list(styled.double().numpy()), list(contents.double().numpy()), temperature)
    assert float(content_loss(styled, contents, temperature)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("scale", "margin"), [(5.0, 0.5), (1.0, 0.0), (30.0, 1.2)])
def test_the_arcface_loss(scale: float, margin: float) -> None:
    weight, features = 3 * torch.randn(2, 7, generator=torch.Generator().manual_seed(4)), units(6, 7, 5)
    labels = [0, 1, 1, 0, 1, 0]
    expected = plain_arcface(weight.double().numpy(), features.double().numpy(), labels, scale, margin)
    found = arcface_loss(weight, features, torch.tensor(labels), scale, margin)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_training_the_classifier(backbone: Any, tiny_backbone: Path) -> None:
    """The classifier of drawn styles against descent on the paper's loss: full batches, momentum."""
    settings: dict[str, Any] = {"n_styles": 3, "style_iterations": 0, "learning_rate": 0.1, "scale": 3.0}
    settings |= {"normal": ("normal nut",), "anomalous": ("anomalous toothbrush",), "placeholder": ""}

    def fit(epochs: int) -> tuple[Vector, Vector]:
        fitted = PromptStyler(backbone=f"local-dir:{tiny_backbone}", epochs=epochs, **settings).fit()
        return fitted.scorer_.arrays()["style.weight"].astype(float), fitted.fitted_.learned["styles"]

    _, styles = fit(1)
    plain = PlainTower(backbone)
    rows = np.array([x for style in styles for x in plain.styled(style[0].astype(float))])
    generator = torch.Generator().manual_seed(0)
    random_vectors(3, 1, 32, generator)
    bound = 1 / math.sqrt(rows.shape[1])
    start = torch.empty(2, rows.shape[1]).uniform_(-bound, bound, generator=generator).double().numpy()
    labels = [0, 1] * 3
    for epochs in (1, 4):
        weight = descend(lambda w: plain_arcface(w, rows, labels, 3.0, 0.5), start, 0.1, 0.9, epochs)
        normal, anomalous = (w / math.sqrt(w @ w) for w in weight)
        np.testing.assert_allclose(fit(epochs)[0], 3.0 * (anomalous - normal), atol=1e-5)
    assert np.abs(fit(4)[0] - fit(1)[0]).max() > 0.01


def test_the_score_is_the_softmax_over_scaled_cosines() -> None:
    weight, images = 2 * torch.randn(2, 7, generator=torch.Generator().manual_seed(7)), units(4, 7, 8)
    logits = two_class_head(weight, 5.0)(images.numpy())
    for x, logit in zip(images.double().numpy(), logits, strict=True):
        z = [5.0 * (x @ w) / math.sqrt(w @ w) for w in weight.double().numpy()]
        expected = math.exp(z[1]) / (math.exp(z[0]) + math.exp(z[1]))
        assert 1 / (1 + math.exp(-logit)) == pytest.approx(expected, abs=1e-6)


def test_styles_learned_one_after_the_other(backbone: Any, tiny_backbone: Path) -> None:
    """Two styles, two steps each; the second one is pushed off the final first one."""
    settings: dict[str, Any] = {"n_styles": 2, "style_learning_rate": 0.05, "epochs": 1, "temperature": 0.5}
    settings |= {"normal": ("normal nut",), "anomalous": ("anomalous toothbrush",), "placeholder": ""}
    where = f"local-dir:{tiny_backbone}"
    start, learned = (
        PromptStyler(backbone=where, style_iterations=steps, **settings).fit().fitted_.learned["styles"]
        for steps in (0, 2)
    )
    plain = PlainTower(backbone)
    contents = [plain.sentence(content) for content in CONTENTS]
    earlier: list[Vector] = []

    def loss(vector: Vector) -> float:
        return plain_style_loss(plain.style(vector), earlier) + plain_content_loss(
            plain.styled(vector), contents, 0.5
        )

    for number in range(2):
        expected = descend(loss, start[number, 0].astype(float), 0.05, 0.9, 2)
        moved = float(np.abs(learned[number] - start[number]).max())
        assert moved > 1e-3
        np.testing.assert_allclose(learned[number, 0], expected, atol=moved * 1e-3)
        earlier.append(plain.style(expected))
