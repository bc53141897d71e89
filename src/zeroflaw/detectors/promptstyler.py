"""PromptStyler: learned style words, and a linear classifier of sentences that judges images.

Cho et al., "PromptStyler: Prompt-driven Style Generation for Source-free Domain Generalization", ICCV 2023,
section 3. Style vectors are learned one after the other through the frozen text tower. A style should lead to
sentences unlike those of the styles before it (`style_loss`), while a class said in that style is still told
from the other classes (`content_loss`). Three kinds of sentences are compared::

    style            "a S style of a"
    content          "[class]"
    style-content    "a S style of a [class]"

The classifier is trained on the embeddings of the last kind for all styles and classes. The paper classifies
objects in images of many kinds; here the classes are a normal and an anomalous product. See
docs/promptstyler.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from zeroflaw.detectors.base import Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.heads import linear
from zeroflaw.detectors.inputs import FitInputs, Step
from zeroflaw.detectors.learned import assemble, embed_pieces, random_vectors
from zeroflaw.detectors.text_head import PromptDetector
from zeroflaw.detectors.training import Checkpoint, Learning, epoch
from zeroflaw.parameters import Count, Rate, parameters
from zeroflaw.runtime.heads import LinearHead
from zeroflaw.runtime.scorer import TextScorer
from zeroflaw.towers.backbone import Backbone
from zeroflaw.towers.model import TextTower
from zeroflaw.towers.tokenizer import Tokenizer
from zeroflaw.words import TEMPLATE_PHOTO, Articles, fill, sentences

BEFORE_STYLE = "a"
AFTER_STYLE = "style of a"

Weight = Annotated[float, Field(ge=0, le=1e6)]
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]


class StylePrompts:
    """The sentences around a style word of ``length`` vectors, for N contents in words, ready to take one.

    All sentences begin alike, so the style stands in the same place in each, and one pass through the tower
    embeds them all.

    Attributes:
        texts: the sentences; the first is without content.
        contents: embeddings of the contents alone, normalised float32 (N, E) on the CPU.
    """

    def __init__(
        self,
        tower: TextTower,
        tokenizer: Tokenizer,
        contents: Sequence[str],
        *,
        length: int = 1,
        articles: Articles = "literal",
    ) -> None:
        self._tower = tower
        ends = [AFTER_STYLE, *(fill(f"{AFTER_STYLE} {{}}", content, articles) for content in contents)]
        self.texts = [f"{BEFORE_STYLE} S {end}" for end in ends]
        blank = torch.zeros(length, tower.config.width)
        self._frame, self._ends = assemble(tower, tokenizer, [BEFORE_STYLE, blank], ends)  # (1 + N, T, C)
        self._place = int(assemble(tower, tokenizer, [BEFORE_STYLE])[1])  # where the end would stand
        with torch.no_grad():
            self.contents = embed_pieces(tower, tokenizer, [], contents).cpu()

    def embed(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the style prompt, (E,), and the style-content prompts, (N, E), of one style (M, C).

        Both are normalised float32 on the CPU, and gradients flow back to the style.
        """
        start, stop = self._place, self._place + len(style)
        put = style.to(self._frame).expand(len(self._frame), *style.shape)
        vectors = torch.cat([self._frame[:, :start], put, self._frame[:, stop:]], 1)
        found = self._tower.from_vectors(vectors, self._ends).cpu()
        return found[0], found[1:]


@parameters
class PromptStyler(PromptDetector):
    """Learned styles around the words "normal object" and "anomalous object".

    Named scores: ``style`` (the classifier), ``prompt`` (two-class prompt score), and both again with
    ``_part`` for the most anomalous part of the image.

    Each state is a content of its own in the content loss; the classifier knows two classes only.

    Attributes:
        template: the sentence of the ``prompt`` score; styles do not use it.
        articles: as in `EmbeddingDetector`, also in "style of a"; the paper writes "a".
        n_styles: number of style words K.
        style_length: vectors per style word.
        style_iterations: steps per style; with 0, styles stay random.
        style_learning_rate: of these steps, by stochastic gradient descent.
        style_weight: of the style loss; the paper adds both losses up.
        content_weight: of the content loss.
        temperature: of the softmax in the content loss; the paper has none.
        momentum: of both optimisers.
        epochs, batch_size, learning_rate: of the classifier.
        scale: what cosines are multiplied with to become logits, in training (ArcFace) and prediction.
        margin: added to the angle of the right class in training, in radians (ArcFace).
        fusion: "style", "prompt", "style_part", "prompt_part" or weights; the paper has the classifier alone.
    """

    name: ClassVar[str] = "promptstyler"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "Cho et al., ICCV 2023, arXiv 2307.15199"
    resumable: ClassVar[bool] = True

    template: str = TEMPLATE_PHOTO
    articles: Articles = "literal"
    n_styles: Annotated[int, Field(ge=1, le=10_000)] = 80
    style_length: Annotated[int, Field(ge=1, le=70)] = 1
    style_iterations: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    style_learning_rate: Rate = 0.002
    style_weight: Weight = 1.0
    content_weight: Weight = 1.0
    temperature: Positive = 1.0
    momentum: Annotated[float, Field(ge=0, le=0.999)] = 0.9
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 50
    batch_size: Count = 128
    learning_rate: Rate = 0.005
    scale: Positive = 5.0
    margin: Annotated[float, Field(ge=0, le=math.pi)] = 0.5
    fusion: str = "style"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        bare = replace(self.vocabulary_, templates=("{}",))
        self.contents_ = sentences(bare, placeholder=self.placeholder)  # the classes in words

    @property
    @override
    def _templates(self) -> tuple[str, ...]:
        return (self.template,)

    @property
    @override
    def own_score(self) -> str:
        return "style"

    @override
    def _fit(self, backbone: Backbone, inputs: FitInputs) -> Fitted[TextScorer]:
        tower, (normal, anomalous) = backbone.model.text, self.contents_
        prompts = StylePrompts(
            tower,
            backbone.tokenizer,
            [*normal, *anomalous],
            length=self.style_length,
            articles=self.articles,
        )
        kept = self._checkpoint(inputs, backbone)
        generator = torch.Generator().manual_seed(self.seed)
        starts = random_vectors(self.n_styles, self.style_length, tower.config.width, generator)
        learned = self._learn_styles(prompts, starts, kept, inputs.stage("styles"))
        classes = torch.tensor([0] * len(normal) + [1] * len(anomalous))
        style = self._classifier(learned["styled"], classes, generator, inputs.stage("classifier"))
        prompt, pair = self._pair(backbone)
        words = {
            **pair,
            "contents": {"normal": normal, "anomalous": anomalous},
            "style_prompt": prompts.texts[0],
            "style_content_prompts": prompts.texts[1:],
            "mean_overlap": mean_overlap(learned["prompts"]),
            "contents_kept": contents_kept(learned["styled"], prompts.contents),
        }
        scorer = self._scorer(backbone, {"prompt": prompt, "style": style})
        return Fitted(scorer, words, {"styles": learned["styles"].numpy()})

    def _learn_styles(
        self, prompts: StylePrompts, starts: Tensor, kept: Checkpoint | None, progress: Step
    ) -> dict[str, Tensor]:
        """Learn styles from their first values (K, M, C), one after the other, each away from all before it.

        Returns:
            ``styles`` (K, M, C), and the embeddings of their ``prompts`` (K, E) and of their style-content
            prompts, ``styled`` (K, N, E); these are computed once a style has its final value.
        """
        count, width = prompts.contents.shape
        nothing = {
            "styles": starts[:0],
            "prompts": torch.empty(0, width),
            "styled": torch.empty(0, count, width),
        }
        learned = (kept.load() if kept else None) or nothing
        for number in range(len(learned["styles"]), len(starts)):
            found = self._learn_style(prompts, starts[number].clone(), learned["prompts"], number + 1)
            learned = {name: torch.cat([learned[name], value[None]]) for name, value in found.items()}
            if kept is not None:
                kept.save(learned)
            progress(number + 1, len(starts))
        return learned

    def _learn_style(
        self, prompts: StylePrompts, style: Tensor, earlier: Tensor, number: int
    ) -> dict[str, Tensor]:
        """Learn one style (M, C), away from the prompts (J, E) of earlier ones."""
        learning = Learning(
            {"style": style.requires_grad_()},
            partial(torch.optim.SGD, lr=self.style_learning_rate, momentum=self.momentum),
            torch.Generator(),  # nothing is drawn
            seed=self.seed,
            rate="style_learning_rate",
        )

        def terms(prompt: Tensor, styled: Tensor) -> dict[str, Tensor]:
            content = content_loss(styled, prompts.contents, self.temperature)
            return {
                f"style {number}": self.style_weight * style_loss(prompt, earlier),
                "content": self.content_weight * content,
            }

        learning.run(self.style_iterations, lambda: learning.step(terms(*prompts.embed(style))))
        with torch.no_grad():
            prompt, styled = prompts.embed(style)
            learning.total(terms(prompt, styled))
        return {"styles": style.detach(), "prompts": prompt, "styled": styled}

    def _classifier(
        self, styled: Tensor, classes: Tensor, generator: torch.Generator, progress: Step
    ) -> LinearHead:
        """Train a linear layer of two classes on style-content prompts (K, N, E) with `arcface_loss` (section
        3.3).
        """
        features, labels = styled.flatten(0, 1), classes.repeat(len(styled))
        bound = 1 / math.sqrt(features.shape[1])  # PyTorch's default for a linear layer
        weight = torch.empty(2, features.shape[1]).uniform_(-bound, bound, generator=generator)
        learning = Learning(
            {"classifier": weight.requires_grad_()},
            partial(torch.optim.SGD, lr=self.learning_rate, momentum=self.momentum),
            generator,
            seed=self.seed,
        )

        def terms(x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"classifier": arcface_loss(weight, x, y, self.scale, self.margin)}

        def one_epoch() -> None:
            for rows in epoch(len(features), self.batch_size, generator):
                learning.step(terms(features[rows], labels[rows]))

        learning.run(self.epochs, one_epoch, progress=progress)
        learning.total(terms(features, labels))
        return two_class_head(weight.detach(), self.scale)


def style_loss(style: Tensor, earlier: Tensor) -> Tensor:
    """How much a style says what earlier ones said: the mean of |cos|, 0 for the first (equation 1).

    Args:
        style: embedding of the style prompt, normalised (E,).
        earlier: those of the earlier styles, normalised (J, E).
    """
    if len(earlier) == 0:
        return style.new_zeros(())
    return (earlier @ style).abs().mean()


def content_loss(styled: Tensor, contents: Tensor, temperature: float = 1.0) -> Tensor:
    """How far a style blurs what is said in it: cross entropy over cosines (equations 2 and 3).

    Row m of ``styled`` should be closer to content m than to the others.

    Args:
        styled, contents: of style-content prompts and of contents alone, normalised (N, E).
        temperature: what cosines are divided by; the paper's softmax has none, which is 1.
    """
    return F.cross_entropy(styled @ contents.T / temperature, torch.arange(len(contents)))


def mean_overlap(styles: Tensor) -> float:
    """Mean |cos| between the style prompts (K, E) of different styles; 0 for one style."""
    count = len(styles)
    if count < 2:
        return 0.0
    cosines = (styles @ styles.T).abs()
    return float((cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1)))


def contents_kept(styled: Tensor, contents: Tensor) -> float:
    """Return the share of style-content prompts (K, N, E) that lie closest to their own content (N, E)."""
    nearest = (styled @ contents.T).argmax(-1)
    return float((nearest == torch.arange(len(contents))).float().mean())


def arcface_loss(weight: Tensor, features: Tensor, labels: Tensor, scale: float, margin: float) -> Tensor:
    """Cross entropy over scaled cosines, the angle to the right class widened (Deng et al., CVPR 2019).

    The right class's logit is ``scale * cos(angle + margin)``, the others' ``scale * cos(angle)``; weight
    (classes, E) and features (B, E) of any length, right classes (B,), the margin in radians.
    """
    cosine = F.normalize(features, dim=-1) @ F.normalize(weight, dim=-1).T
    cosine = cosine.clamp(-1 + 1e-6, 1 - 1e-6)  # the sine has no slope at the ends
    sine = (1 - cosine.square()).sqrt()
    widened = cosine * math.cos(margin) - sine * math.sin(margin)
    right = F.one_hot(labels, len(weight)).bool()
    return F.cross_entropy(scale * torch.where(right, widened, cosine), labels)


def two_class_head(weight: Tensor, scale: float) -> LinearHead:
    """Return the head whose logit is ``scale * (cos to row 1 - cos to row 0)`` of class weights (2, E).

    That is the log-odds of class 1 in the softmax over scaled cosines. For normalised embeddings it is one
    direction: the scaled difference of the normalised weights.
    """
    normal, anomalous = F.normalize(weight, dim=-1)
    return linear(scale * (anomalous - normal))
