"""Random word data augmentation: a small network trained on text embeddings, applied to image embeddings.

Masato Tamura, "Random Word Data Augmentation with CLIP for Zero-Shot Anomaly Detection", BMVC 2023. Every
prompt of the training set holds a word for normal or for anomalous and several random words; the two prompts
of a pair share their random words. What the public text leaves open is a parameter here; docs/rwda.md says
which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from typing_extensions import override

from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.detectors.text_head import TextTrained
from zeroflaw.errors import UsageError
from zeroflaw.parameters import parameters
from zeroflaw.words import Kind, Position, RandomWords, training_prompts

if TYPE_CHECKING:
    from torch import Tensor

    from zeroflaw.towers.backbone import Backbone


@parameters
class RWDA(TextTrained):
    """The random-word detector: unknown object by default, known object with ``object``.

    State words, template and articles are those of the two-prompt score too; head, training and fusion are in
    `TextTrained`.

    Attributes:
        n_pairs: number of prompt pairs N_p; the paper finds 10,000 best.
        random_kind: what random words are made of: letters, tokens, dictionary or digits. The paper says
            "randomly generated" and not how.
        random_count: random words per prompt, a number or a range; the paper says "several".
        random_length: letters per word, a number or a range; not in the paper.
        dictionary: the words of the kind "dictionary"; None means the bundled list.
        position: where the random words stand; not in the paper.
        trailing_object: write "object" after the random words of an unknown object.
    """

    name: ClassVar[str] = "rwda"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "Tamura, BMVC 2023, arXiv 2308.11119"

    n_pairs: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    random_kind: Kind = "letters"
    random_count: int | tuple[int, int] = 3
    random_length: int | tuple[int, int] = (3, 8)
    dictionary: tuple[str, ...] | None = None
    position: Position = "middle"
    trailing_object: bool = False

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.random_words_ = RandomWords(
            kind=self.random_kind,
            count=self.random_count,
            length=self.random_length,
            dictionary=self.dictionary,
        )
        if self.trailing_object and self.object is not None:
            raise UsageError(
                f"trailing_object is for an unknown object, got the object '{self.object}' too; give only one"
            )

    @override
    def _training_texts(
        self, backbone: Backbone, inputs: FitInputs
    ) -> tuple[Tensor, Tensor, dict[str, Any], Mapping[str, Tensor]]:
        pieces = backbone.tokenizer.vocabulary if self.random_kind == "tokens" else ()
        words = self.random_words_.draw(self.n_pairs, self.seed, pieces=pieces)
        prompts = training_prompts(
            words,
            states=(self.vocabulary_.normal, self.vocabulary_.anomalous),
            object=self.vocabulary_.object,
            template=self.template,
            position=self.position,
            articles=self.articles,
            trailing_object=self.trailing_object,
        )
        found = backbone.embed_texts(prompts[0] + prompts[1], progress=inputs.stage("text embeddings"))
        normal, anomalous = found.split(self.n_pairs)
        used = {
            "random_words": self.random_words_.describe(),
            "pairs": words,
            "example": {"normal": prompts[0][0], "anomalous": prompts[1][0]},
        }
        return normal, anomalous, used, {}
