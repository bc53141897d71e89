"""Zero-shot classification with prompts alone: one pair of sentences, or the means of many.

Radford et al., ICML 2021. With the default words this is "CLIP" with two class prompts; with the
compositional ensemble of WinCLIP (Jeong et al., CVPR 2023, section 4.1) it is that paper's image-level prompt
ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from zeroflaw.detectors.base import Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.fusion import parse_fusion
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.detectors.text_head import EmbeddingDetector
from zeroflaw.parameters import parameters
from zeroflaw.runtime.stream import Progress
from zeroflaw.words import TEMPLATE_PHOTO, Articles, Vocabulary, sentences
from zeroflaw.words.phrases import Placeholder

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone


@parameters
class ClipPair(EmbeddingDetector):
    """Softmax between the mean normal and the mean anomalous sentence.

    Attributes:
        normal: state words for normal.
        anomalous: state words for anomalous.
        templates: sentences around the state; all states are put into all of them.
        articles: article before the object, see `zeroflaw.words.articles`.
        placeholder: what is written for an unknown object; "" is nothing.
        fusion: "prompt", "prompt_part" or weights for both.
    """

    name: ClassVar[str] = "clip"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "Radford et al., ICML 2021; WinCLIP, CVPR 2023, section 4.1"

    normal: tuple[str, ...] = ("normal",)
    anomalous: tuple[str, ...] = ("anomalous",)
    templates: tuple[str, ...] = (TEMPLATE_PHOTO,)
    articles: Articles = "agree"
    placeholder: Placeholder = "object"
    fusion: str = "prompt"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.vocabulary_ = Vocabulary().updated(
            normal=self.normal, anomalous=self.anomalous, templates=self.templates, object=self.object
        )
        _ = self.weights

    @property
    @override
    def weights(self) -> Mapping[str, float]:
        return parse_fusion(self.fusion, ("prompt", "prompt_part"), "prompt")

    @override
    def _fit(
        self, backbone: Backbone, inputs: FitInputs, checkpoint: Path | None, progress: Progress | None
    ) -> Fitted:
        from zeroflaw.detectors.heads import prototype_pair  # torch, which prediction does without

        normal, anomalous = sentences(self.vocabulary_, articles=self.articles, placeholder=self.placeholder)
        embeddings = backbone.embed_texts(normal), backbone.embed_texts(anomalous)
        head = prototype_pair(*embeddings, backbone.logit_scale)
        prompt = {"normal": normal, "anomalous": anomalous}
        words = {"vocabulary": self.vocabulary_.describe(), "prompt": prompt}
        return Fitted(self._scorer(backbone, {"prompt": head}), words)

    @override
    def _card(self, words: Mapping[str, Any]) -> str:
        prompts = words["prompt"]
        return (
            f"Zero-shot classification between {len(prompts['normal'])} normal and "
            f"{len(prompts['anomalous'])} anomalous sentences, such as\n"
            f"“{prompts['normal'][0]}” / “{prompts['anomalous'][0]}”. Nothing was trained."
        )
