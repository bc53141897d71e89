"""Zero-shot classification with prompts alone: one pair of sentences, or the means of many.

Radford et al., ICML 2021. With the default words this is "CLIP" with two class prompts; with the
compositional ensemble of WinCLIP (Jeong et al., CVPR 2023, section 4.1) it is that paper's image-level prompt
ensemble.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from zeroflaw.detectors.base import Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.detectors.text_head import PromptDetector
from zeroflaw.parameters import parameters
from zeroflaw.runtime.scorer import TextScorer
from zeroflaw.words import TEMPLATE_PHOTO

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone


@parameters
class ClipPair(PromptDetector):
    """Softmax between the mean normal and the mean anomalous sentence.

    Attributes:
        templates: sentences around the state; all states are put into all of them.
        fusion: "prompt", "prompt_part" or weights for both.
    """

    name: ClassVar[str] = "clip"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "Radford et al., ICML 2021; WinCLIP, CVPR 2023, section 4.1"

    templates: tuple[str, ...] = (TEMPLATE_PHOTO,)

    @property
    @override
    def _templates(self) -> tuple[str, ...]:
        return self.templates

    @override
    def _fit(self, backbone: Backbone, inputs: FitInputs) -> Fitted[TextScorer]:
        head, words = self._pair(backbone)
        return Fitted(self._scorer(backbone, {"prompt": head}), words)
