"""Zero-shot classification with prompts alone: one pair of sentences, or the means of many.

Radford et al., ICML 2021. With the default words this is "CLIP" with two class prompts; with the
compositional ensemble of WinCLIP (Jeong et al., CVPR 2023, section 4.1) it is that paper's image-level prompt
ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.embedding import EmbeddingDetector
from zeroflaw.detectors.fusion import parse_fusion
from zeroflaw.detectors.heads import empty_linear, prototype_pair
from zeroflaw.runtime.stream import Progress
from zeroflaw.words import TEMPLATE_PHOTO, Articles, UnknownObject, Vocabulary, sentences

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone


@dataclass(kw_only=True, eq=False)
class ClipPair(EmbeddingDetector):
    """Softmax between the mean normal and the mean anomalous sentence.

    Attributes:
        normal: state words for normal.
        anomalous: state words for anomalous.
        templates: sentences around the state; all states are put into all of them.
        articles: article before the object, see `zeroflaw.words.articles`.
        unknown: what is written for an unknown object.
        fusion: "prompt", "prompt_part" or weights for both.
    """

    name: ClassVar[str] = "clip"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "Radford et al., ICML 2021; WinCLIP, CVPR 2023, section 4.1"

    normal: tuple[str, ...] = ("normal",)
    anomalous: tuple[str, ...] = ("anomalous",)
    templates: tuple[str, ...] = (TEMPLATE_PHOTO,)
    articles: Articles = "agree"
    unknown: UnknownObject = "object"
    fusion: str = "prompt"

    def validate(self) -> None:
        """Check every parameter.

        Raises:
            UsageError: a parameter is out of range.
            WordsError: a word is refused.
        """
        super().validate()
        self._vocabulary()
        _ = self.weights

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of the named scores in the final one; they sum to one."""
        return parse_fusion(self.fusion, ("prompt", "prompt_part"), "prompt")

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary().updated(
            normal=self.normal, anomalous=self.anomalous, templates=self.templates, object=self.object
        )

    def _fit_heads(
        self, backbone: Backbone, checkpoint: Path | None, progress: Progress | None
    ) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        vocabulary = self._vocabulary()
        normal, anomalous = sentences(vocabulary, articles=self.articles, unknown=self.unknown)
        embeddings = backbone.embed_texts(normal), backbone.embed_texts(anomalous)
        head = prototype_pair(*embeddings, backbone.logit_scale)
        words = {"vocabulary": vocabulary.describe(), "prompt": {"normal": normal, "anomalous": anomalous}}
        return {"prompt": head}, words

    def _empty_heads(self, width: int) -> dict[str, nn.Module]:
        return {"prompt": empty_linear(width)}

    def _card(self) -> str:
        assert self.words_ is not None
        prompts = self.words_["prompt"]
        return (
            f"Zero-shot classification between {len(prompts['normal'])} normal and "
            f"{len(prompts['anomalous'])} anomalous sentences, such as\n"
            f"“{prompts['normal'][0]}” / “{prompts['anomalous'][0]}”. Nothing was trained."
        )
