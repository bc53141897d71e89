"""PromptStyler: learned style words, and a linear classifier of sentences that judges images.

Cho et al., "PromptStyler: Prompt-driven Style Generation for Source-free Domain Generalization", ICCV 2023.
Style vectors are learned one after the other through the frozen text tower; the classifier is trained on the
embeddings of "a S style of a [class]" for all styles and classes. The paper classifies objects in pictures of
many kinds; here the classes are a normal and an anomalous product. See docs/promptstyler.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroflaw.detectors.base import take_tensors
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.fusion import parse_fusion
from zeroflaw.detectors.heads import LinearHead, Step, empty_linear, prototype_pair
from zeroflaw.detectors.learned import random_vectors
from zeroflaw.detectors.ranges import check_range
from zeroflaw.detectors.styles import StylePrompts, content_loss, contents_kept, mean_overlap, style_loss
from zeroflaw.detectors.text_head import EmbeddingDetector, stage
from zeroflaw.detectors.training import Checkpoint, total_loss
from zeroflaw.runtime.stream import Progress
from zeroflaw.words import TEMPLATE_PHOTO, Articles, UnknownObject, Vocabulary, sentences

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

_RANGES: Mapping[str, tuple[float, float, bool]] = {
    "n_styles": (1, 10_000, True),
    "style_length": (1, 70, True),
    "style_iterations": (0, 1_000_000, True),
    "style_learning_rate": (1e-12, 1e3, False),
    "style_weight": (0, 1e6, False),
    "content_weight": (0, 1e6, False),
    "temperature": (1e-6, 1e6, False),
    "momentum": (0, 0.999, False),
    "epochs": (1, 100_000, True),
    "batch_size": (1, 1_000_000, True),
    "learning_rate": (1e-12, 1e3, False),
    "scale": (1e-6, 1e6, False),
    "margin": (0, math.pi, False),
}


@dataclass(kw_only=True, eq=False)
class PromptStyler(EmbeddingDetector):
    """Learned styles around the words "normal object" and "anomalous object".

    Named scores: ``style`` (the classifier), ``prompt`` (two-class prompt score), and both again with
    ``_part`` for the most anomalous part of the image.

    Attributes:
        normal: state words for normal. Each state is a content of its own in the content loss; the classifier
            knows two classes only.
        anomalous: state words for anomalous.
        template: the sentence of the ``prompt`` score; styles do not use it.
        articles: article before the object, see `zeroflaw.words.articles`; the paper writes "style of a".
        unknown: what is written for an unknown object.
        n_styles: number of style words K.
        style_length: vectors per style word.
        style_iterations: steps per style; with 0, styles stay random.
        style_learning_rate: of these steps, by stochastic gradient descent.
        style_weight: of the style loss; the paper adds both losses up.
        content_weight: of the content loss.
        temperature: of the softmax in the content loss; the paper has none.
        momentum: of both optimisers.
        epochs: of the classifier.
        batch_size: of the classifier.
        learning_rate: of the classifier.
        scale: what cosines are multiplied with to become logits, in training (ArcFace) and prediction.
        margin: added to the angle of the right class in training, in radians (ArcFace).
        fusion: "style", "prompt", "style_part", "prompt_part" or weights, see `zeroflaw.detectors.fusion`;
            the paper has the classifier alone.
    """

    name: ClassVar[str] = "promptstyler"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "Cho et al., ICCV 2023, arXiv 2307.15199"
    resumable: ClassVar[bool] = True

    normal: tuple[str, ...] = ("normal",)
    anomalous: tuple[str, ...] = ("anomalous",)
    template: str = TEMPLATE_PHOTO
    articles: Articles = "literal"
    unknown: UnknownObject = "object"
    n_styles: int = 80
    style_length: int = 1
    style_iterations: int = 100
    style_learning_rate: float = 0.002
    style_weight: float = 1.0
    content_weight: float = 1.0
    temperature: float = 1.0
    momentum: float = 0.9
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 0.005
    scale: float = 5.0
    margin: float = 0.5
    fusion: str = "style"

    styles_: Tensor | None = field(init=False, default=None, repr=False)

    def validate(self) -> None:
        """Check every parameter.

        Raises:
            UsageError: a parameter is out of range.
            WordsError: a word is refused.
        """
        super().validate()
        self._contents()
        for name, (low, high, whole) in _RANGES.items():
            check_range(name, getattr(self, name), low, high, whole=whole)
        _ = self.weights

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of the named scores in the final one; they sum to one."""
        return parse_fusion(self.fusion, ("prompt", "style", "prompt_part", "style_part"), "style")

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary().updated(
            normal=self.normal, anomalous=self.anomalous, templates=(self.template,), object=self.object
        )

    def _contents(self) -> tuple[list[str], list[str]]:
        """Return the classes in words, of the normal and of the anomalous side."""
        return sentences(self._vocabulary().updated(templates=("{}",)), unknown=self.unknown)

    def _fit_heads(
        self, backbone: Backbone, checkpoint: Path | None, progress: Progress | None
    ) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        vocabulary, contents = self._vocabulary(), self._contents()
        pair = sentences(vocabulary, articles=self.articles, unknown=self.unknown)
        prompts = StylePrompts(
            backbone.model.text,
            backbone.tokenizer,
            [*contents[0], *contents[1]],
            length=self.style_length,
            articles=self.articles,
        )
        kept = None if checkpoint is None else Checkpoint(checkpoint, self._identity(backbone))
        generator = torch.Generator().manual_seed(self.seed)
        width = backbone.model.config.text.width
        starts = random_vectors(self.n_styles, self.style_length, width, generator)
        learned = self._learn_styles(prompts, starts, kept, stage(progress, "styles"))
        self.styles_ = learned["styles"]
        two_class = backbone.embed_texts(pair[0]), backbone.embed_texts(pair[1])
        sides = torch.tensor([0] * len(contents[0]) + [1] * len(contents[1]))
        heads: dict[str, nn.Module] = {
            "prompt": prototype_pair(*two_class, backbone.logit_scale),
            "style": self._classifier(learned["styled"], sides, generator, stage(progress, "classifier")),
        }
        used = {
            "vocabulary": vocabulary.describe(),
            "prompt": {"normal": pair[0], "anomalous": pair[1]},
            "contents": {"normal": contents[0], "anomalous": contents[1]},
            "style_prompt": prompts.texts[0],
            "style_content_prompts": prompts.texts[1:],
            "mean_overlap": mean_overlap(learned["prompts"]),
            "contents_kept": contents_kept(learned["styled"], prompts.contents),
        }
        return heads, used

    def _identity(self, backbone: Backbone) -> dict[str, Any]:
        """Return all that decides what is learned; the backbone counts by its content, not by its name."""
        return {**self.get_params(), "detector": self.name, "backbone": backbone.fingerprint}

    def _learn_styles(
        self, prompts: StylePrompts, starts: Tensor, kept: Checkpoint | None, progress: Step | None
    ) -> dict[str, Tensor]:
        """Learn styles from their first values (K, M, C), one after the other, each away from all before it.

        Returns:
            ``styles`` (K, M, C), and the embeddings of their ``prompts`` (K, E) and of their style-content
            prompts, ``styled`` (K, N, E); these are computed once a style has its final value.
        """
        count, width = prompts.contents.shape
        learned = {
            "styles": starts[:0],
            "prompts": torch.empty(0, width),
            "styled": torch.empty(0, count, width),
        }
        if kept is not None:
            learned = kept.load() or learned
        for number in range(len(learned["styles"]), len(starts)):
            style = self._learn_style(prompts, starts[number], learned["prompts"], number)
            with torch.no_grad():
                prompt, styled = prompts.embed(style)
                self._loss(prompts, prompt, styled, learned["prompts"], (number + 1) * self.style_iterations)
            found = {"styles": style, "prompts": prompt, "styled": styled}
            learned = {name: torch.cat([learned[name], value[None]]) for name, value in found.items()}
            if kept is not None:
                kept.save(learned)
            if progress is not None:
                progress(number + 1, len(starts))
        return learned

    def _learn_style(self, prompts: StylePrompts, start: Tensor, earlier: Tensor, number: int) -> Tensor:
        """Learn one style (M, C); nothing else changes."""
        style = nn.Parameter(start.clone())
        optimiser = torch.optim.SGD([style], lr=self.style_learning_rate, momentum=self.momentum)
        for iteration in range(self.style_iterations):
            step = number * self.style_iterations + iteration + 1
            loss = self._loss(prompts, *prompts.embed(style), earlier, step)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return style.detach()

    def _loss(
        self, prompts: StylePrompts, prompt: Tensor, styled: Tensor, earlier: Tensor, step: int
    ) -> Tensor:
        terms = {
            "style": self.style_weight * style_loss(prompt, earlier),
            "content": self.content_weight * content_loss(styled, prompts.contents, self.temperature),
        }
        return total_loss(terms, step=step, seed=self.seed, rate="style_learning_rate")

    def _classifier(
        self, styled: Tensor, sides: Tensor, generator: torch.Generator, progress: Step | None
    ) -> LinearHead:
        weight = train_arcface(
            styled.flatten(0, 1),
            sides.repeat(len(styled)),
            generator=generator,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            scale=self.scale,
            margin=self.margin,
            seed=self.seed,
            progress=progress,
        )
        return two_class_head(weight, self.scale)

    def _empty_heads(self, width: int) -> dict[str, nn.Module]:
        return {"prompt": empty_linear(width), "style": empty_linear(width)}

    def _state(self) -> dict[str, Tensor]:
        assert self.styles_ is not None
        return {**super()._state(), "styles": self.styles_}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        shape = (self.n_styles, self.style_length, self.backbone_.model.config.text.width)
        mine = {name: tensor for name, tensor in tensors.items() if name == "styles"}
        self.styles_ = take_tensors(mine, {"styles": shape})["styles"]
        super()._restore({name: tensor for name, tensor in tensors.items() if name != "styles"})

    def _card(self) -> str:
        assert self.words_ is not None
        words = self.words_
        examples = "” / “".join([words["style_content_prompts"][0], words["style_content_prompts"][-1]])
        return (
            f"{self.n_styles} style words S were learned, {self.style_iterations} steps each, and a linear\n"
            f"classifier trained on sentences such as “{examples}”.\n"
            f"Mean |cos| between different styles is {words['mean_overlap']:.3f}; "
            f"{words['contents_kept']:.1%} of the sentences lie closest to their own content."
        )


def arcface_loss(weight: Tensor, features: Tensor, labels: Tensor, scale: float, margin: float) -> Tensor:
    """Cross entropy over scaled cosines, the angle to the right class widened (Deng et al., CVPR 2019).

    The right class's logit is ``scale * cos(angle + margin)``, the others' ``scale * cos(angle)``.

    Args:
        weight: one direction per class, of any length, (classes, E).
        features: embeddings, (B, E).
        labels: right classes, whole numbers (B,).
        scale: what cosines are multiplied with.
        margin: in radians.
    """
    cosine = F.normalize(features, dim=-1) @ F.normalize(weight, dim=-1).T
    cosine = cosine.clamp(-1 + 1e-6, 1 - 1e-6)  # the sine has no slope at the ends
    sine = (1 - cosine.square()).sqrt()
    widened = cosine * math.cos(margin) - sine * math.sin(margin)
    right = F.one_hot(labels, len(weight)).bool()
    return F.cross_entropy(scale * torch.where(right, widened, cosine), labels)


def train_arcface(
    features: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    scale: float,
    margin: float,
    seed: int,
    progress: Step | None = None,
) -> Tensor:
    """Train a linear layer without bias for two classes with `arcface_loss` (PromptStyler, section 3.3).

    Args:
        features: embeddings of sentences, (R, E).
        labels: 0 or 1, (R,).
        generator: draws the first weights, PyTorch's default for a linear layer, and the order of the rows.
        seed: named in the error.

    Returns:
        Class weights (2, E).

    Raises:
        UsageError: the loss is not finite.
    """
    bound = 1 / math.sqrt(features.shape[1])
    weight = nn.Parameter(torch.empty(2, features.shape[1]).uniform_(-bound, bound, generator=generator))
    optimiser = torch.optim.SGD([weight], lr=learning_rate, momentum=momentum)
    step = 0
    for epoch in range(epochs):
        for rows in torch.randperm(len(features), generator=generator).split(batch_size):
            step += 1
            loss = arcface_loss(weight, features[rows], labels[rows], scale, margin)
            loss = total_loss({"classifier": loss}, step=step, seed=seed)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if progress is not None:
            progress(epoch + 1, epochs)
    total_loss({"classifier": arcface_loss(weight, features, labels, scale, margin)}, step=step, seed=seed)
    return weight.detach()


def two_class_head(weight: Tensor, scale: float) -> LinearHead:
    """Return the head whose logit is ``scale * (cos to row 1 - cos to row 0)`` of class weights (2, E).

    That is the log-odds of class 1 in the softmax over scaled cosines. For normalised embeddings it is one
    direction: the scaled difference of the normalised weights.
    """
    normal, anomalous = F.normalize(weight, dim=-1)
    return LinearHead(scale * (anomalous - normal), torch.zeros(()))
