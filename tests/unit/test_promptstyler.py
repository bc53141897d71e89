"""Style words: what is learned, what stays, what can be interrupted, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from zeroflaw import UsageError, WordsError, load, load_backbone
from zeroflaw.detectors.learned import random_vectors
from zeroflaw.detectors.promptstyler import (
    PromptStyler,
    StylePrompts,
    contents_kept,
    mean_overlap,
    style_loss,
)

FAST: dict[str, Any] = {"n_styles": 3, "style_iterations": 3, "epochs": 2, "device": "cpu"}


def detector(backbone: Path, **parameters: Any) -> PromptStyler:
    return PromptStyler(backbone=f"local-dir:{backbone}", **{**FAST, **parameters})


def learned(fitted: PromptStyler) -> torch.Tensor:
    assert fitted.fitted_ is not None
    return torch.from_numpy(fitted.fitted_.learned["styles"])


def styles(backbone: Path, **parameters: Any) -> torch.Tensor:
    return learned(detector(backbone, **parameters).fit())


def saved_bytes(fitted: PromptStyler, folder: Path) -> dict[str, bytes]:
    fitted.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def pictures(count: int = 2) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(count)]


# --- prompts and losses -----------------------------------------------------------------------------


def prompts(backbone: Path, contents: list[str], **options: Any) -> StylePrompts:
    towers = load_backbone(f"local-dir:{backbone}", device="cpu")
    return StylePrompts(towers.model.text, towers.tokenizer, contents, **options)


def test_articles_before_the_content(tiny_backbone: Path) -> None:
    texts = prompts(tiny_backbone, ["anomalous nut"], articles="agree").texts
    assert texts == ["a S style of a", "a S style of an anomalous nut"]


def test_gradients_flow_into_the_style_and_nowhere_else(tiny_backbone: Path) -> None:
    towers = load_backbone(f"local-dir:{tiny_backbone}", device="cpu")
    made = StylePrompts(towers.model.text, towers.tokenizer, ["nut", "a bent metal nut"])
    style = torch.zeros(1, 32, requires_grad=True)
    alone, styled = made.embed(style)
    for found in (alone.sum(), styled[0].sum(), styled[1].sum()):
        (gradient,) = torch.autograd.grad(found, style, retain_graph=True)
        assert float(gradient.abs().sum()) > 0
    (alone.sum() + styled.sum()).backward()
    assert all(p.grad is None for p in towers.model.parameters())
    assert not made.contents.requires_grad


def test_a_style_of_several_vectors(tiny_backbone: Path) -> None:
    made = prompts(tiny_backbone, ["nut"], length=3)
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    swapped = made.embed(vectors.flip(0))[0]
    assert not torch.allclose(made.embed(vectors)[0], swapped, atol=1e-3)


def test_a_sentence_too_long_for_the_tower_is_refused(tiny_backbone: Path) -> None:
    with pytest.raises(WordsError, match="77 tokens"):
        prompts(tiny_backbone, ["nut"], length=74)
    with pytest.raises(WordsError, match="77 tokens"):
        detector(tiny_backbone, style_length=70, object="a " * 20 + "nut").fit()


def test_what_the_model_card_measures() -> None:
    corners = torch.eye(3)
    assert mean_overlap(corners[:1]) == 0
    assert mean_overlap(corners) == 0
    assert mean_overlap(torch.stack([corners[0], -corners[0], corners[1]])) == pytest.approx(1 / 3)
    assert contents_kept(corners[None, :2], corners[:2]) == 1
    assert contents_kept(torch.stack([corners[:2], corners[[0, 0]]]), corners[:2]) == 0.75


# --- learning ---------------------------------------------------------------------------------------


def test_without_steps_styles_stay_as_they_were_drawn(tiny_backbone: Path) -> None:
    drawn = random_vectors(3, 1, 32, torch.Generator().manual_seed(5))
    assert torch.equal(styles(tiny_backbone, style_iterations=0, seed=5), drawn)


def test_later_styles_leave_earlier_ones_alone(tiny_backbone: Path, tmp_path: Path) -> None:
    kept: list[torch.Tensor] = []
    checkpoint = tmp_path / "fit.checkpoint"

    def look(stage: str, done: int, total: int) -> None:
        if stage == "styles":
            kept.append(load_file(checkpoint)["styles"])
            assert (done, total) == (len(kept), 3)

    fitted = detector(tiny_backbone).fit(checkpoint=checkpoint, progress=look)
    assert [len(part) for part in kept] == [1, 2, 3]
    for part in kept:
        assert torch.equal(part, learned(fitted)[: len(part)])


def test_the_style_loss_drives_styles_apart(tiny_backbone: Path) -> None:
    towers = load_backbone(f"local-dir:{tiny_backbone}", device="cpu")
    made = StylePrompts(towers.model.text, towers.tokenizer, ["nut"])

    def overlap(weight: float) -> float:
        steps = {"content_weight": 0.0, "style_iterations": 20, "style_learning_rate": 0.5}
        found = styles(tiny_backbone, style_weight=weight, **steps)
        with torch.no_grad():
            return mean_overlap(torch.stack([made.embed(style)[0] for style in found]))

    assert overlap(1.0) < 0.8 * overlap(0.0)


def test_each_loss_can_be_switched_off(tiny_backbone: Path) -> None:
    start = styles(tiny_backbone, style_iterations=0)
    assert torch.equal(styles(tiny_backbone, style_weight=0.0, content_weight=0.0), start)
    by_content = styles(tiny_backbone, style_weight=0.0)
    by_style = styles(tiny_backbone, content_weight=0.0)
    assert not torch.equal(by_content, start)
    assert torch.equal(by_style[0], start[0])  # nothing came before it
    assert not torch.equal(by_style[1:], start[1:])
    assert not torch.equal(by_content, by_style)
    assert float(style_loss(torch.ones(2), torch.empty(0, 2))) == 0


def test_every_state_word_is_a_content_and_the_classes_stay_two(tiny_backbone: Path) -> None:
    fitted = detector(
        tiny_backbone, normal=("fine", "{} in order"), anomalous=("bent",), object="metal_nut"
    ).fit()
    assert fitted.words_["contents"] == {
        "normal": ["fine metal nut", "metal nut in order"],
        "anomalous": ["bent metal nut"],
    }
    assert fitted.words_["style_content_prompts"][-1] == "a S style of a bent metal nut"
    assert fitted.words_["prompt"]["anomalous"] == ["a photo of a bent metal nut"]
    (found,) = fitted.predict(pictures(1))
    assert set(found.scores) == {"prompt", "style"}
    assert found.score == found.scores["style"]


def test_the_classifier_tells_its_own_sentences_apart(tiny_backbone: Path) -> None:
    fitted = detector(tiny_backbone, epochs=60, batch_size=3, learning_rate=0.05).fit()
    text, tokenizer = fitted.backbone_.model.text, fitted.backbone_.tokenizer
    made = StylePrompts(text, tokenizer, ["normal object", "anomalous object"])
    with torch.no_grad():
        sentences = torch.stack([made.embed(style)[1] for style in learned(fitted)])
    logits = fitted.scorer_.heads["style"](sentences.numpy())
    assert (logits[:, 0] < logits[:, 1]).all()
    assert np.abs(logits).max() <= 2 * fitted.scale


def test_fusion_with_the_prompt_score(tiny_backbone: Path) -> None:
    (found,) = detector(tiny_backbone, fusion="prompt=1,head=3").fit().predict(pictures(1))
    assert found.score == pytest.approx(
        0.25 * found.scores["prompt"] + 0.75 * found.scores["style"], abs=1e-6
    )


# --- repeated, interrupted, saved -------------------------------------------------------------------


def test_equal_seeds_give_equal_bytes(tiny_backbone: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    one, again, other = (detector(tiny_backbone, seed=seed).fit() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    found = [saved_bytes(d, tmp_path / str(n)) for n, d in enumerate((one, again, other))]
    assert found[0] == found[1]
    assert found[0]["head.safetensors"] != found[2]["head.safetensors"]


@pytest.mark.parametrize("stop", [("styles", 1), ("styles", 3), ("classifier", 1)])
def test_an_interrupted_fit_ends_with_the_same_bytes(
    stop: tuple[str, int], tiny_backbone: Path, tmp_path: Path
) -> None:
    whole = saved_bytes(detector(tiny_backbone).fit(), tmp_path / "whole")
    checkpoint, seen = tmp_path / "fit.checkpoint", []

    def interrupt(stage: str, done: int, total: int) -> None:
        if (stage, done) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector(tiny_backbone).fit(checkpoint=checkpoint, progress=interrupt)
    resumed = detector(tiny_backbone).fit(checkpoint=checkpoint, progress=lambda *step: seen.append(step[:2]))
    assert saved_bytes(resumed, tmp_path / "resumed") == whole
    left = [done for stage, done in seen if stage == "styles"]
    assert left == ([2, 3] if stop == ("styles", 1) else [])


def test_a_checkpoint_of_another_fit_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    detector(tiny_backbone).fit(checkpoint=tmp_path / "fit.checkpoint")
    with pytest.raises(UsageError, match="other values of momentum, seed"):
        detector(tiny_backbone, seed=1, momentum=0.5).fit(checkpoint=tmp_path / "fit.checkpoint")


def test_the_backbone_counts_by_content_in_a_checkpoint(tiny_backbone: Path, tmp_path: Path) -> None:
    detector(tiny_backbone).fit(checkpoint=tmp_path / "fit.checkpoint")
    link = tmp_path / "elsewhere"
    link.symlink_to(tiny_backbone)
    assert detector(link).fit(checkpoint=tmp_path / "fit.checkpoint").is_fitted


def test_styles_are_saved(tiny_backbone: Path, tmp_path: Path) -> None:
    fitted = detector(tiny_backbone).fit()
    fitted.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert isinstance(loaded, PromptStyler)
    assert torch.equal(learned(loaded), learned(fitted))
    assert learned(loaded).shape == (3, 1, 32)
    assert "3 style words" in fitted.card_


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"n_styles": 0}, "n_styles must be a whole number from 1"),
        ({"style_length": 1.5}, "style_length must be a whole number"),
        ({"style_iterations": -1}, "style_iterations must be a whole number from 0"),
        ({"style_learning_rate": 0.0}, "style_learning_rate must be a number from"),
        ({"style_weight": -1.0}, "style_weight must be a number from 0"),
        ({"content_weight": float("nan")}, "content_weight must be a number from 0"),
        ({"temperature": 0.0}, "temperature must be a number from"),
        ({"momentum": 1.0}, "momentum must be a number from"),
        ({"scale": 0.0}, "scale must be a number from"),
        ({"margin": 4.0}, "margin must be a number from"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"articles": "some"}, "articles must be one of"),
        ({"fusion": "fnn"}, "fusion wants A, B or scores out of prompt, style"),
        ({"normal": ("bad",), "anomalous": ("bad",)}, "both"),
    ],
)
def test_wrong_parameters_are_refused_before_the_backbone_is_touched(
    parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        PromptStyler(**{"backbone": "local-dir:nowhere", **parameters}).fit()


def test_a_loss_that_is_no_number_stops_the_fit_and_keeps_the_checkpoint(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, embed = tmp_path / "fit.checkpoint", StylePrompts.embed
    calls: list[int] = []

    def broken(self: StylePrompts, style: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        found = embed(self, style)
        return (found[0] * float("nan"), found[1]) if len(calls) == 6 else found

    monkeypatch.setattr(StylePrompts, "embed", broken)
    with pytest.raises(
        UsageError, match=r"stopped at step 2: .*style 2 nan, content .*seed 7.*style_learning_rate"
    ):
        detector(tiny_backbone, seed=7).fit(checkpoint=checkpoint)
    assert len(load_file(checkpoint)["styles"]) == 1
    monkeypatch.undo()
    whole = saved_bytes(detector(tiny_backbone, seed=7).fit(), tmp_path / "whole")
    resumed = detector(tiny_backbone, seed=7).fit(checkpoint=checkpoint)
    assert saved_bytes(resumed, tmp_path / "resumed") == whole
