"""Detectors whose head is trained on pairs of prompts and scores images, beside the two-prompt score.

What the random-word and the learned-word detector have in common lies here, so that nothing but the prompts
of their training sets tells them apart.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zeroflaw.detectors.embedding import EmbeddingDetector
from zeroflaw.detectors.fusion import parse_fusion
from zeroflaw.detectors.heads import (
    FNN,
    HeadName,
    LinearHead,
    Normalization,
    Step,
    empty_linear,
    lda,
    logistic_regression,
    mean_difference,
    prototype_pair,
    train_fnn,
)
from zeroflaw.detectors.ranges import check_range
from zeroflaw.errors import UsageError
from zeroflaw.runtime.stream import Progress
from zeroflaw.words import TEMPLATE_PHOTO, Articles, UnknownObject, Vocabulary, sentences

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

LARGEST_WIDTH = 65_536
MOST_LAYERS = 16


@dataclass(kw_only=True, eq=False)
class TextTrained(EmbeddingDetector):
    """Base of detectors that train a head on text embeddings of prompt pairs.

    Named scores: ``prompt`` (two-class prompt score), the head's own (``fnn`` or the control's name), and
    both again with ``_part`` for the most anomalous part of the image.

    Attributes:
        normal: state words for normal, of the two-prompt score.
        anomalous: state words for anomalous.
        template: the sentence around them.
        articles: article before the object, see `zeroflaw.words.articles`.
        unknown: what the two-class prompt says for an unknown object.
        head: "fnn" (the paper's) or a control: "mean-difference", "logistic", "lda".
        hidden: widths between the FNN's layers; three make the paper's four layers.
        normalization: none, layer or batch, between the FNN's layers.
        dropout: share of hidden units dropped while training.
        epochs, batch_size, learning_rate: of Adam; not in the paper.
        weight_decay: of Adam; not in the paper. Text is so easy to tell apart that without it the logits of
            images, which lie off the text's manifold, all run to one side.
        noise: Gaussian noise on text embeddings while training.
        label_smoothing: moves the training targets towards one half.
        temperature: divides the head's logits, so that probabilities are not all 0 or 1.
        fusion: weights of the scores: "A", "B" (two readings of the paper) or as in "prompt=0.3,fnn=0.7".
    """

    normal: tuple[str, ...] = ("normal",)
    anomalous: tuple[str, ...] = ("anomalous",)
    template: str = TEMPLATE_PHOTO
    articles: Articles = "agree"
    unknown: UnknownObject = "object"
    head: HeadName = "fnn"
    hidden: tuple[int, ...] = (512, 256, 128)
    normalization: Normalization = "none"
    dropout: float = 0.0
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    noise: float = 0.0
    label_smoothing: float = 0.0
    temperature: float = 1.0
    fusion: str = "A"

    @abstractmethod
    def _training_texts(
        self, backbone: Backbone, checkpoint: Path | None, progress: Progress | None
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Return embeddings (N, E) of the normal and of the anomalous prompts, pair by pair, and their
        words.
        """

    def validate(self) -> None:
        """Check every parameter.

        Raises:
            UsageError: a parameter is out of range.
            WordsError: a word is refused.
        """
        super().validate()
        self._vocabulary()
        check_range("epochs", self.epochs, 1, 100_000, whole=True)
        check_range("batch_size", self.batch_size, 2, 1_000_000, whole=True)
        check_range("learning_rate", self.learning_rate, 1e-12, 1e3)
        check_range("weight_decay", self.weight_decay, 0, 1e3)
        check_range("noise", self.noise, 0, 1e3)
        check_range("temperature", self.temperature, 1e-6, 1e6)
        check_range("dropout", self.dropout, 0, 0.99)
        check_range("label_smoothing", self.label_smoothing, 0, 0.99)
        if len(self.hidden) > MOST_LAYERS:
            raise UsageError(
                f"hidden may list {MOST_LAYERS} widths, got {len(self.hidden)}; use fewer layers"
            )
        for width in self.hidden:
            check_range("hidden", width, 1, LARGEST_WIDTH, whole=True)
        _ = self.weights

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of the named scores in the final one; they sum to one."""
        known = ("prompt", self.head, "prompt_part", f"{self.head}_part")
        return parse_fusion(self.fusion, known, self.head)

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary().updated(
            normal=self.normal, anomalous=self.anomalous, templates=(self.template,), object=self.object
        )

    def _fit_heads(
        self, backbone: Backbone, checkpoint: Path | None, progress: Progress | None
    ) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        vocabulary = self._vocabulary()
        pair = sentences(vocabulary, articles=self.articles, unknown=self.unknown)
        normal, anomalous, words = self._training_texts(backbone, checkpoint, progress)
        two_class = backbone.embed_texts(pair[0]), backbone.embed_texts(pair[1])
        heads: dict[str, nn.Module] = {
            "prompt": prototype_pair(*two_class, backbone.logit_scale),
            self.head: self._train(normal, anomalous, backbone.logit_scale, progress),
        }
        prompt = {"normal": pair[0], "anomalous": pair[1]}
        return heads, {"vocabulary": vocabulary.describe(), "prompt": prompt, **words}

    def _train(self, normal: Tensor, anomalous: Tensor, scale: float, progress: Progress | None) -> nn.Module:
        if self.head == "mean-difference":
            return self._tempered(mean_difference(normal, anomalous, scale))
        if self.head == "logistic":
            return self._tempered(logistic_regression(normal, anomalous))
        if self.head == "lda":
            return self._tempered(lda(normal, anomalous))
        with torch.device("meta"):  # nothing is drawn from the global generator
            network = self._empty_network(normal.shape[1])
        trained = train_fnn(
            network,
            normal,
            anomalous,
            seed=self.seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            noise=self.noise,
            label_smoothing=self.label_smoothing,
            progress=stage(progress, "network"),
        )
        return self._tempered(trained)

    @torch.no_grad()
    def _tempered(self, head: FNN | LinearHead) -> nn.Module:
        """Divide the logits by the temperature, in the last layer: what is saved needs no extra step."""
        last: nn.Module = head.layers[-1] if isinstance(head, FNN) else head
        for parameter in last.parameters():
            parameter.div_(self.temperature)
        return head

    def _empty_network(self, width: int) -> FNN:
        return FNN(width, self.hidden, normalization=self.normalization, dropout=self.dropout)

    def _empty_heads(self, width: int) -> dict[str, nn.Module]:
        network = self._empty_network(width) if self.head == "fnn" else empty_linear(width)
        return {"prompt": empty_linear(width), self.head: network}


def stage(progress: Progress | None, name: str) -> Step | None:
    """Return a progress callback for one stage of a fit, or None where nobody listens."""
    return None if progress is None else lambda done, total: progress(name, done, total)
