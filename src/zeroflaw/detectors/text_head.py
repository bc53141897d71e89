"""Detectors whose named scores are heads over embeddings, and those that train a head on pairs of prompts.

Images, token windows and aligned patch tokens all live in the text's space, so one head scores them all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from zeroflaw.detectors.base import BackboneDetector, Fitted
from zeroflaw.detectors.fusion import parse_fusion
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.parameters import Rate, parameters
from zeroflaw.runtime.heads import FNNHead, Head, Layer, LinearHead, rounded
from zeroflaw.runtime.scorer import Parts, Scorer, Side, TextScorer
from zeroflaw.runtime.scores import make_windows
from zeroflaw.runtime.stream import Progress, stage
from zeroflaw.words import TEMPLATE_PHOTO, Articles, Vocabulary, sentences
from zeroflaw.words.phrases import Placeholder

if TYPE_CHECKING:
    from torch import Tensor

    from zeroflaw.towers.backbone import Backbone

HeadName = Literal["fnn", "mean-difference", "logistic", "lda"]
Normalization = Literal["none", "layer", "batch"]
MapSource = Literal["auto", "windows", "patches"]
Share = Annotated[float, Field(ge=0, le=0.99)]


@parameters
class EmbeddingDetector(BackboneDetector):
    """Base of detectors that score embeddings between words.

    Attributes:
        object: name of the product, or None where it is unknown.
        map_from: where anomaly maps come from: token "windows" (WinCLIP), aligned "patches" (one pass), or
            "auto" for patches where the backbone has aligned ones and windows elsewhere.
        window_sizes: sides of the windows in patches.
        window_stride: step between windows in patches.
        image_in_map: include the image's own score in the harmonic mean that makes the map (WinCLIP, section
            4.2).
    """

    scorer_class: ClassVar[type[Scorer]] = TextScorer

    object: str | None = None
    map_from: MapSource = "auto"
    window_sizes: Annotated[tuple[Side, ...], Field(min_length=1)] = (2, 3)
    window_stride: Side = 1
    image_in_map: bool = True

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_stride > min(self.window_sizes):
            raise UsageError(
                f"window_stride must be a whole number from 1 to {min(self.window_sizes)}, the smallest of "
                f"window_sizes, got {self.window_stride}"
            )

    @override
    def _check_backbone(self, backbone: Backbone) -> None:
        if self.map_from == "patches" and not backbone.has_aligned_patches:
            raise UsageError(
                f"map_from='patches' wants a backbone whose patch tokens agree with its text, which "
                f"'{self.backbone}' does not have; use map_from='windows'"
            )
        if self._parts(backbone).source == "windows":
            for size in self.window_sizes:
                make_windows(backbone.grid, size, self.window_stride)

    @override
    def _check_scorer(self, scorer: Scorer, backbone: Backbone) -> None:
        heads = getattr(scorer, "heads", None) or {"prompt": getattr(scorer, "head", None)}
        for name, head in heads.items():
            if head is None or head.width != backbone.embed_dim:
                raise DetectorError(
                    f"head '{name}' of head.safetensors does not take the {backbone.embed_dim} numbers of "
                    f"'{self.backbone}'; save the detector again"
                )

    def _parts(self, backbone: Backbone) -> Parts:
        """Where the scores of an image's parts come from on a backbone."""
        aligned = backbone.has_aligned_patches and self.map_from != "windows"
        source: Literal["patches", "windows"] = "patches" if aligned else "windows"
        return Parts(source=source, sizes=self.window_sizes, stride=self.window_stride)

    def _scorer(self, backbone: Backbone, heads: Mapping[str, Head]) -> TextScorer:
        return TextScorer(heads, self.weights, self._parts(backbone), self.image_in_map)

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Weights of the named scores in the final one; they sum to one."""

    @override
    def _facts(self) -> dict[str, str]:
        weights = ", ".join(f"`{name}` {weight:.2f}" for name, weight in self.weights.items())
        return {"Object": self.object or "unknown", "Score": f"weighted mean of {weights}"}


@parameters
class TextTrained(EmbeddingDetector):
    """Base of detectors that train a head on text embeddings of prompt pairs, beside the two-prompt score.

    What the random-word and the learned-word detector have in common lies here, so that nothing but the
    prompts of their training sets tells them apart. Named scores: ``prompt`` (two-class prompt score), the
    head's own (``fnn`` or the control's name), and both again with ``_part`` for the most anomalous part of
    the image.

    Attributes:
        normal: state words for normal, of the two-prompt score.
        anomalous: state words for anomalous.
        template: the sentence around them.
        articles: article before the object, see `zeroflaw.words.articles`.
        placeholder: what the two-class prompt says for an unknown object; "" is nothing.
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
    placeholder: Placeholder = "object"
    head: HeadName = "fnn"
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(max_length=16)] = (
        512,
        256,
        128,
    )
    normalization: Normalization = "none"
    dropout: Share = 0.0
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 256
    learning_rate: Rate = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=1e3)] = 1e-3
    noise: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    label_smoothing: Share = 0.0
    temperature: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    fusion: str = "A"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.vocabulary_ = Vocabulary().updated(
            normal=self.normal, anomalous=self.anomalous, templates=(self.template,), object=self.object
        )
        _ = self.weights

    @abstractmethod
    def _training_texts(
        self, backbone: Backbone, checkpoint: Path | None, progress: Progress | None
    ) -> tuple[Tensor, Tensor, dict[str, Any], Mapping[str, Tensor]]:
        """Return embeddings (N, E) of the normal and of the anomalous prompts, pair by pair, their words,
        and what was learned to make them.
        """

    @property
    @override
    def weights(self) -> Mapping[str, float]:
        known = ("prompt", self.head, "prompt_part", f"{self.head}_part")
        return parse_fusion(self.fusion, known, self.head)

    @override
    def _fit(
        self, backbone: Backbone, inputs: FitInputs, checkpoint: Path | None, progress: Progress | None
    ) -> Fitted:
        from zeroflaw.detectors.heads import prototype_pair  # torch, which prediction does without

        pair = sentences(self.vocabulary_, articles=self.articles, placeholder=self.placeholder)
        normal, anomalous, words, learned = self._training_texts(backbone, checkpoint, progress)
        two_class = backbone.embed_texts(pair[0]), backbone.embed_texts(pair[1])
        heads: dict[str, Head] = {
            "prompt": prototype_pair(*two_class, backbone.logit_scale),
            self.head: self._train(normal, anomalous, backbone.logit_scale, progress),
        }
        prompt = {"normal": pair[0], "anomalous": pair[1]}
        used = {"vocabulary": self.vocabulary_.describe(), "prompt": prompt, **words}
        return Fitted(
            self._scorer(backbone, heads), used, {name: tensor.numpy() for name, tensor in learned.items()}
        )

    def _train(self, normal: Tensor, anomalous: Tensor, scale: float, progress: Progress | None) -> Head:
        from zeroflaw.detectors.heads import FNNTraining, lda, logistic_regression, mean_difference, train_fnn

        if self.head == "mean-difference":
            return cooled(mean_difference(normal, anomalous, scale), self.temperature)
        if self.head == "logistic":
            return cooled(logistic_regression(normal, anomalous), self.temperature)
        if self.head == "lda":
            return cooled(lda(normal, anomalous), self.temperature)
        how = FNNTraining(
            self.hidden,
            self.normalization,
            self.dropout,
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.weight_decay,
            self.noise,
            self.label_smoothing,
            self.seed,
        )
        network = train_fnn(normal, anomalous, how, progress=stage(progress, "network"))
        return cooled(network, self.temperature)


def cooled(head: Head, temperature: float) -> Head:
    """Divide the logits by the temperature, in the last layer: what is saved needs no extra step."""
    if temperature == 1:
        return head
    if isinstance(head, LinearHead):
        return LinearHead(rounded(head.weight / temperature), rounded(head.bias / temperature))
    *inner, last = head.layers
    return FNNHead([*inner, Layer(rounded(last.weight / temperature), rounded(last.bias / temperature))])
