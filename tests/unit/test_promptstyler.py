"""Style words: what is learned, what stays, and when learning stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from short_fits import Workshop, noise
from zeroflaw.detectors.learned import random_vectors
from zeroflaw.detectors.promptstyler import StylePrompts, contents_kept, mean_overlap, style_loss
from zeroflaw.errors import UsageError, WordsError
from zeroflaw.towers.backbone import Backbone
from zeroflaw.towers.weights import load_backbone


@pytest.fixture(scope="module")
def towers(tiny_backbone: Path) -> Backbone:
    return load_backbone(f"local-dir:{tiny_backbone}", device="cpu")


def prompts(towers: Backbone, contents: list[str], **options: Any) -> StylePrompts:
    return StylePrompts(towers.model.text, towers.tokenizer, contents, **options)


def styles(workshop: Workshop, **parameters: Any) -> torch.Tensor:
    return torch.from_numpy(workshop.fit("promptstyler", **parameters).fitted_.learned["styles"])


def test_gradients_flow_into_the_style_and_nowhere_else(towers: Backbone) -> None:
    made = prompts(towers, ["nut", "a bent metal nut"])
    style = torch.zeros(1, 32, requires_grad=True)
    alone, styled = made.embed(style)
    for found in (alone.sum(), styled[0].sum(), styled[1].sum()):
        (gradient,) = torch.autograd.grad(found, style, retain_graph=True)
        assert float(gradient.abs().sum()) > 0
    (alone.sum() + styled.sum()).backward()
    assert all(p.grad is None for p in towers.model.parameters())
    assert not made.contents.requires_grad


def test_prompts_with_articles_and_styles_of_several_vectors(towers: Backbone) -> None:
    made = prompts(towers, ["anomalous nut"], length=3, articles="agree")
    assert made.texts == ["a S style of a", "a S style of an anomalous nut"]
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(made.embed(vectors)[0], made.embed(vectors.flip(0))[0], atol=1e-3)
    with pytest.raises(WordsError, match="77 tokens"):
        prompts(towers, ["nut"], length=74)


def test_what_the_model_card_measures() -> None:
    corners = torch.eye(3)
    assert mean_overlap(corners[:1]) == mean_overlap(corners) == 0
    assert mean_overlap(torch.stack([corners[0], -corners[0], corners[1]])) == pytest.approx(1 / 3)
    assert contents_kept(corners[None, :2], corners[:2]) == 1
    assert contents_kept(torch.stack([corners[:2], corners[[0, 0]]]), corners[:2]) == 0.75


def test_later_styles_leave_earlier_ones_alone(workshop: Workshop, tmp_path: Path) -> None:
    kept: list[torch.Tensor] = []

    def look(stage: str, done: int, total: int) -> None:
        if stage == "styles":
            kept.append(load_file(tmp_path / "kept")["styles"])

    fitted = workshop.make("promptstyler").fit(checkpoint=tmp_path / "kept", progress=look)
    assert [len(part) for part in kept] == [1, 2, 3]
    learned = torch.from_numpy(fitted.fitted_.learned["styles"])
    assert all(torch.equal(part, learned[: len(part)]) for part in kept)


def test_each_loss_can_be_switched_off(workshop: Workshop) -> None:
    start = styles(workshop, style_iterations=0)
    assert torch.equal(start, random_vectors(3, 1, 32, torch.Generator().manual_seed(0)))
    assert torch.equal(styles(workshop, style_weight=0.0, content_weight=0.0), start)
    by_content, by_style = styles(workshop, style_weight=0.0), styles(workshop, content_weight=0.0)
    assert not torch.equal(by_content, start)
    assert torch.equal(by_style[0], start[0])  # nothing came before it
    assert not torch.equal(by_style[1:], start[1:])
    assert not torch.equal(by_content, by_style)
    assert float(style_loss(torch.ones(2), torch.empty(0, 2))) == 0


def test_every_state_word_is_a_content_and_the_classes_stay_two(workshop: Workshop) -> None:
    words = {"normal": ("fine", "{} in order"), "anomalous": ("bent",), "object": "metal_nut"}
    fitted = workshop.fit("promptstyler", **words, fusion="prompt=1,head=3")
    assert fitted.words_["contents"] == {
        "normal": ["fine metal nut", "metal nut in order"],
        "anomalous": ["bent metal nut"],
    }
    assert fitted.words_["style_content_prompts"][-1] == "a S style of a bent metal nut"
    assert fitted.words_["prompt"]["anomalous"] == ["a photo of a bent metal nut"]
    assert "3 style words" in fitted.card_
    (found,) = fitted.predict(noise(1))
    mean = 0.25 * found.scores["prompt"] + 0.75 * found.scores["style"]
    assert found.score == pytest.approx(mean, abs=1e-6)


def test_a_loss_that_is_no_number_stops_the_fit_and_keeps_the_checkpoint(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, calls = StylePrompts.embed, iter(range(100))

    def broken(self: StylePrompts, style: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alone, styled = embed(self, style)
        return alone * (float("nan") if next(calls) == 5 else 1), styled

    monkeypatch.setattr(StylePrompts, "embed", broken)
    with pytest.raises(UsageError, match=r"at step 2: .*style 2 nan, content .*seed 7.*style_learning_rate"):
        workshop.make("promptstyler", seed=7).fit(checkpoint=tmp_path / "kept")
    assert len(load_file(tmp_path / "kept")["styles"]) == 1
