"""WinCLIP: hand-written prompts against the image and its windows, without any training.

Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023: the compositional
prompt ensemble (section 4.1), windows of several sizes and their harmonic mean (section 4.2). The paper
leaves details open, and its public implementations differ; each such detail is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from zeroflaw.detectors.base import Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.detectors.sentence_means import SentenceMean, prototype_head
from zeroflaw.detectors.text_head import EmbeddingDetector, MapSource
from zeroflaw.parameters import parameters
from zeroflaw.runtime.heads import LinearHead
from zeroflaw.runtime.scorer import Scorer
from zeroflaw.runtime.stream import Progress
from zeroflaw.runtime.winclip import WinCLIPScorer, WinCLIPSpec
from zeroflaw.words import (
    ENSEMBLE_ANOMALOUS,
    ENSEMBLE_NORMAL,
    ENSEMBLE_TEMPLATES,
    Articles,
    Vocabulary,
    fill,
    object_phrase,
)
from zeroflaw.words.states import state_of

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone


@parameters
class WinCLIP(EmbeddingDetector):
    """Zero-shot WinCLIP: the defaults are the paper's, as far as they are known.

    Attributes:
        normal: state phrases for normal.
        anomalous: state phrases for anomalous.
        templates: sentences around the state; all states are put into all of them. One that is listed twice
            counts twice.
        articles: article before the object, see `zeroflaw.words.articles`.
        keep_underscores: leave underscores in the object's name, as most public versions do.
        temperature: of the softmax between the two prototypes. Public code has 0.07 and 0.01; the paper's is
            not known. It cannot change the order of zero-shot image scores, but that of maps and means.
        sentence_mean: how sentences become a prototype: "normalised" (each sentence normalised, mean,
            normalised, as CLIP's own prompt ensembles are), "raw" (mean of raw features, normalised) or
            "unnormalised" (mean of raw features, left as it is). The paper's is not known.
        map_from: as in `EmbeddingDetector`, but "windows" by default: they are the method.
        harmonic_over: side whose probabilities are averaged harmonically. "anomalous" is the paper's, normal
            windows dominate; with "normal" anomalous ones do.
        image_score: "image" for the image's own score (the paper's), "map" for the highest value of the map.
        non_square: "squash" to the network's square, or "tile" with squares, see `zeroflaw.runtime.tiles`.
    """

    name: ClassVar[str] = "winclip"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "WinCLIP (Jeong et al., CVPR 2023)"

    scorer_class: ClassVar[type[Scorer]] = WinCLIPScorer

    normal: tuple[str, ...] = ENSEMBLE_NORMAL
    anomalous: tuple[str, ...] = ENSEMBLE_ANOMALOUS
    templates: tuple[str, ...] = ENSEMBLE_TEMPLATES
    articles: Articles = "literal"
    keep_underscores: bool = False
    temperature: Annotated[float, Field(ge=1e-3, le=100)] = 0.07
    sentence_mean: SentenceMean = "normalised"
    map_from: MapSource = "windows"
    harmonic_over: Literal["anomalous", "normal"] = "anomalous"
    image_score: Literal["image", "map"] = "image"
    non_square: Literal["squash", "tile"] = "squash"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        # A vocabulary has every template once; how often each counts is kept in `templates`.
        self.vocabulary_ = Vocabulary().updated(
            normal=self.normal,
            anomalous=self.anomalous,
            templates=tuple(dict.fromkeys(self.templates)),
            object=self.object,
        )

    @property
    @override
    def weights(self) -> Mapping[str, float]:
        return {"prompt": 1.0}

    def _sentences(self) -> tuple[list[str], list[str]]:
        """All normal and all anomalous sentences."""
        name = object_phrase(self.object)
        if self.keep_underscores and self.object is not None:
            name = " ".join(self.object.split())

        def side(states: Sequence[str]) -> list[str]:
            return [fill(t, state_of(s, name), self.articles) for s in states for t in self.templates]

        return side(self.vocabulary_.normal), side(self.vocabulary_.anomalous)

    def _choices(self, backbone: Backbone) -> WinCLIPSpec:
        """What the scorer is to do."""
        return WinCLIPSpec(
            parts=self._parts(backbone),
            image_in_map=self.image_in_map,
            harmonic_over=self.harmonic_over,
            image_score=self.image_score,
            tile=self.non_square == "tile",
        )

    def _prototypes(self, backbone: Backbone) -> tuple[LinearHead, dict[str, Any]]:
        """Return the head between the two prototypes, and the words it was made of."""
        normal, anomalous = self._sentences()
        head = prototype_head(backbone, normal, anomalous, self.sentence_mean, self.temperature)
        prompt = {"normal": normal, "anomalous": anomalous}
        return head, {"vocabulary": self.vocabulary_.describe(), "prompt": prompt}

    @override
    def _fit(
        self, backbone: Backbone, inputs: FitInputs, checkpoint: Path | None, progress: Progress | None
    ) -> Fitted:
        head, words = self._prototypes(backbone)
        return Fitted(WinCLIPScorer(head, self._choices(backbone)), words)

    @override
    def _card(self, words: Mapping[str, Any]) -> str:
        prompts = words["prompt"]
        return (
            f"Zero-shot classification of the image and its windows between {len(prompts['normal'])} normal "
            f"and {len(prompts['anomalous'])} anomalous sentences, such as\n"
            f"“{prompts['normal'][0]}” / “{prompts['anomalous'][0]}”. Nothing was trained."
        )

    @override
    def _facts(self) -> dict[str, str]:
        score = {"image": "of the whole image", "map": "highest value of the map"}
        return {"Object": self.object or "unknown", "Score": score[self.image_score]}
