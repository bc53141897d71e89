"""Detectors whose named scores are heads over embeddings, and those that train a head on pairs of prompts.

Images, token windows and aligned patch tokens all live in the text's space, so one head scores them all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from zeroflaw.detectors.base import BackboneDetector, Fitted, S
from zeroflaw.detectors.heads import (
    FNNTraining,
    HeadName,
    cooled,
    lda,
    logistic_regression,
    mean_difference,
    prototype_pair,
)
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.errors import UsageError, closest
from zeroflaw.parameters import parameters
from zeroflaw.runtime.heads import Head, LinearHead
from zeroflaw.runtime.scorer import Parts, Scorer, Side, TextScorer
from zeroflaw.runtime.scores import make_windows
from zeroflaw.words import TEMPLATE_PHOTO, Articles, Vocabulary, sentences
from zeroflaw.words.phrases import Placeholder

if TYPE_CHECKING:
    from torch import Tensor

    from zeroflaw.towers.backbone import Backbone

MapSource = Literal["auto", "windows", "patches"]


@parameters
class EmbeddingDetector(BackboneDetector[S]):
    """Base of detectors that score embeddings between words for normal and for anomalous.

    Attributes:
        object: name of the product, or None where it is unknown.
        normal: state words for normal.
        anomalous: state words for anomalous.
        articles: article before the object, see `zeroflaw.words.articles`.
        map_from: where anomaly maps come from: token "windows" (WinCLIP), aligned "patches" (one pass), or
            "auto" for patches where the backbone has aligned ones and windows elsewhere.
        window_sizes: sides of the windows in patches.
        window_stride: step between windows in patches.
        image_in_map: include the image's own score in the harmonic mean that makes the map (WinCLIP, section
            4.2).
    """

    object: str | None = None
    normal: tuple[str, ...] = ("normal",)
    anomalous: tuple[str, ...] = ("anomalous",)
    articles: Articles = "agree"
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
        self.vocabulary_ = Vocabulary(
            normal=self.normal, anomalous=self.anomalous, templates=self._templates, object=self.object
        )

    @property
    @abstractmethod
    def _templates(self) -> tuple[str, ...]:
        """The sentences around the states."""

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

    def _parts(self, backbone: Backbone) -> Parts:
        """Where the scores of an image's parts come from on a backbone."""
        aligned = backbone.has_aligned_patches and self.map_from != "windows"
        source: Literal["patches", "windows"] = "patches" if aligned else "windows"
        return Parts(source=source, sizes=self.window_sizes, stride=self.window_stride)


@parameters
class PromptDetector(EmbeddingDetector[TextScorer]):
    """Base of detectors that have the two-prompt score, alone or beside a head of their own.

    Attributes:
        placeholder: what sentences say for an unknown object; "" is nothing.
        fusion: the scores that make the final one, see `parse_fusion`.
    """

    scorer_class: ClassVar[type[Scorer]] = TextScorer

    placeholder: Placeholder = "object"
    fusion: str = "prompt"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.weights

    @property
    def own_score(self) -> str:
        """Name of the score that is called "head" in `fusion`."""
        return "prompt"

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of the named scores in the final one; they sum to one."""
        names = ("prompt", self.own_score)
        return parse_fusion(self.fusion, [*names, *(f"{name}_part" for name in names)], self.own_score)

    def _pair(self, backbone: Backbone) -> tuple[LinearHead, dict[str, Any]]:
        """Return the head between the means of both sides' sentences, and the words it was made of."""
        pair = sentences(self.vocabulary_, articles=self.articles, placeholder=self.placeholder)
        normal, anomalous = (backbone.embed_texts(side) for side in pair)
        words = {
            "vocabulary": self.vocabulary_.describe(),
            "prompt": {"normal": pair[0], "anomalous": pair[1]},
        }
        return prototype_pair(normal, anomalous, backbone.logit_scale), words

    def _scorer(self, backbone: Backbone, heads: Mapping[str, Head]) -> TextScorer:
        return TextScorer(heads, self.weights, self._parts(backbone), self.image_in_map)

    @override
    def _fits(self, scorer: TextScorer, backbone: Backbone) -> bool:
        return all(head.width == backbone.embed_dim for head in scorer.heads.values())


@parameters
class TextTrained(FNNTraining, PromptDetector):
    """Base of detectors that train a head on text embeddings of prompt pairs, beside the two-prompt score.

    What the random-word and the learned-word detector have in common lies here, so that nothing but the
    prompts of their training sets tells them apart. Named scores: ``prompt`` (two-class prompt score), the
    head's own (``fnn`` or the control's name), and both again with ``_part`` for the most anomalous part of
    the image. Words are those of the two-prompt score; how the network is trained is in `FNNTraining`.

    Attributes:
        template: the sentence around the state words.
        head: "fnn" (the paper's) or a control: "mean-difference", "logistic", "lda".
        temperature: divides the head's logits, so that probabilities are not all 0 or 1.
        fusion: weights of the scores: "A", "B" (two readings of the paper) or as in "prompt=0.3,fnn=0.7".
    """

    template: str = TEMPLATE_PHOTO
    head: HeadName = "fnn"
    temperature: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    fusion: str = "A"

    @abstractmethod
    def _training_texts(
        self, backbone: Backbone, inputs: FitInputs
    ) -> tuple[Tensor, Tensor, dict[str, Any], Mapping[str, Tensor]]:
        """Return embeddings (N, E) of the normal and of the anomalous prompts, pair by pair, their words,
        and what was learned to make them.
        """

    @property
    @override
    def _templates(self) -> tuple[str, ...]:
        return (self.template,)

    @property
    @override
    def own_score(self) -> str:
        return self.head

    @override
    def _fit(self, backbone: Backbone, inputs: FitInputs) -> Fitted[TextScorer]:
        normal, anomalous, words, learned = self._training_texts(backbone, inputs)
        prompt, used = self._pair(backbone)
        head: Head
        if self.head == "fnn":
            from zeroflaw.detectors.network import train_fnn  # torch, which prediction does without

            head = train_fnn(normal, anomalous, self, self.seed, progress=inputs.stage("network"))
        elif self.head == "mean-difference":
            head = mean_difference(normal, anomalous, backbone.logit_scale)
        else:
            head = (logistic_regression if self.head == "logistic" else lda)(normal, anomalous)
        scorer = self._scorer(backbone, {"prompt": prompt, self.head: cooled(head, self.temperature)})
        return Fitted(scorer, used | words, {name: tensor.numpy() for name, tensor in learned.items()})


READINGS: Mapping[str, str] = {"A": "prompt+head", "B": "prompt+prompt_part+head"}
"""The two readings of how RWDA (Tamura, BMVC 2023) combines scores; the formula itself could not be
established.

A: prompt-guided probability and network output, equal weights. B: two CLIP scores, of the image and of its
most anomalous part, beside the network's.
"""


def parse_fusion(text: str, known: Sequence[str], own: str) -> dict[str, float]:
    """Read ``"A"``, ``"B"`` (see `READINGS`), ``"fnn"``, ``"prompt+fnn"`` or ``"prompt=0.3,fnn=0.7"``.

    Args:
        text: what the user wrote; the name ``head`` stands for the detector's own head.
        known: names of the scores there are.
        own: name of the detector's own head.

    Returns:
        Weights by name, made to sum to one.

    Raises:
        UsageError: an unknown score, a weight that is not a positive number, or nothing at all.
    """
    text = READINGS.get(text, text)
    weights: dict[str, float] = {}
    for part in text.split("," if "=" in text else "+"):
        given, _, number = part.partition("=")
        try:
            weight = float(number) if "=" in text else 1.0
        except ValueError:
            weight = float("nan")
        if not 1e-6 <= weight <= 1e6:
            raise UsageError(
                f"fusion wants NAME=WEIGHT with a weight from 1e-6 to 1e6, got '{part}'; "
                "for example prompt=0.3,fnn=0.7"
            )
        name = given.strip()
        if name in ("head", "head_part"):
            name = name.replace("head", own)
        if name not in known:
            wanted = ", ".join(dict.fromkeys(known))
            raise UsageError(
                f"fusion wants A, B or scores out of {wanted}, got '{name}'{closest(name, known)}"
            )
        if name in weights:
            raise UsageError(
                f"fusion wants every score once, got '{name}' twice in '{text}'; add its weights up"
            )
        weights[name] = weight
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
