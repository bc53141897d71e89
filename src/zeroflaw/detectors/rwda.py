"""Random word data augmentation: a small network trained on text embeddings, applied to image embeddings.

Masato Tamura, "Random Word Data Augmentation with CLIP for Zero-Shot Anomaly Detection", BMVC 2023. Every
prompt of the training set holds a word for normal or for anomalous and several random words; the two prompts
of a pair share their random words. What the public text leaves open is a parameter here; docs/rwda.md says
which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from zeroflaw.detectors.contract import Needs, Progress
from zeroflaw.detectors.embedding import EmbeddingDetector
from zeroflaw.detectors.fusion import parse_fusion
from zeroflaw.detectors.heads import (
    FNN,
    HeadName,
    LinearHead,
    Normalization,
    empty_linear,
    lda,
    logistic_regression,
    mean_difference,
    prototype_pair,
    train_fnn,
)
from zeroflaw.detectors.ranges import check_range
from zeroflaw.errors import UsageError
from zeroflaw.words import (
    TEMPLATE_PHOTO,
    Articles,
    Kind,
    Position,
    RandomWords,
    UnknownObject,
    Vocabulary,
    sentences,
    training_prompts,
)

if TYPE_CHECKING:
    from zeroflaw.clip.backbone import Backbone

LARGEST_WIDTH = 65_536
MOST_LAYERS = 16


@dataclass(kw_only=True, eq=False)
class RWDA(EmbeddingDetector):
    """The random-word detector: unknown object by default, known object with ``object``.

    Named scores: ``prompt`` (two-class prompt score), the head's own (``fnn`` or the control's name), and
    both again with ``_part`` for the most anomalous part of the image.

    Attributes:
        normal: state words for normal; pairs take them in turn.
        anomalous: state words for anomalous.
        template: the sentence around state and words.
        n_pairs: number of prompt pairs N_p; the paper finds 10,000 best.
        random_kind: what random words are made of: letters, tokens, dictionary or digits. The paper says
            "randomly
            generated" and not how.
        random_count: random words per prompt, a number or a range; the paper says "several".
        random_length: letters per word, a number or a range; not in the paper.
        dictionary: the words of the kind "dictionary"; None means the bundled list.
        position: where the random words stand; not in the paper.
        articles: article before the object, see `zeroflaw.words.articles`.
        trailing_object: write "object" after the random words of an unknown object.
        unknown: what the two-class prompt says for an unknown object.
        head: "fnn" (the paper's) or a control: "mean-difference", "logistic", "lda".
        hidden: widths between the FNN's layers; three make the paper's four layers.
        normalization: none, layer or batch, between the FNN's layers.
        dropout: share of hidden units dropped while training.
        epochs, batch_size, learning_rate: of Adam; not in the paper.
        weight_decay: of Adam; not in the paper. Text is so easy to tell apart that without it the logits of
            images,
            which lie off the text's manifold, all run to one side.
        noise: Gaussian noise on text embeddings while training.
        label_smoothing: moves the training targets towards one half.
        temperature: divides the head's logits, so that probabilities are not all 0 or 1.
        fusion: weights of the scores: "A", "B" (two readings of the paper) or as in "prompt=0.3,fnn=0.7".
    """

    name: ClassVar[str] = "rwda"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "Tamura, BMVC 2023, arXiv 2308.11119"

    normal: tuple[str, ...] = ("normal",)
    anomalous: tuple[str, ...] = ("anomalous",)
    template: str = TEMPLATE_PHOTO
    n_pairs: int = 10_000
    random_kind: Kind = "letters"
    random_count: int | tuple[int, int] = 3
    random_length: int | tuple[int, int] = (3, 8)
    dictionary: tuple[str, ...] | None = None
    position: Position = "middle"
    articles: Articles = "agree"
    trailing_object: bool = False
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

    def validate(self) -> None:
        """Check every parameter.

        Raises:
            UsageError: a parameter is out of range, or two contradict each other.
            WordsError: a word is refused.
        """
        super().validate()
        self._vocabulary()
        self._random_words()
        if self.trailing_object and self.object is not None:
            raise UsageError(
                f"trailing_object is for an unknown object, got the object '{self.object}' too; give only one"
            )
        check_range("n_pairs", self.n_pairs, 1, 10_000_000, whole=True)
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

    def _random_words(self) -> RandomWords:
        return RandomWords(
            kind=self.random_kind,
            count=self.random_count,
            length=self.random_length,
            dictionary=self.dictionary,
        )

    def _fit_heads(
        self, backbone: Backbone, checkpoint: Path | None, progress: Progress | None
    ) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        vocabulary, random_words = self._vocabulary(), self._random_words()
        pair = sentences(vocabulary, articles=self.articles, unknown=self.unknown)
        words = random_words.draw(self.n_pairs, self.seed, pieces=backbone.tokenizer)
        prompts = training_prompts(
            words,
            states=(vocabulary.normal, vocabulary.anomalous),
            object=vocabulary.object,
            template=self.template,
            position=self.position,
            articles=self.articles,
            trailing_object=self.trailing_object,
        )
        embed = _stage(progress, "text embeddings")
        normal, anomalous = backbone.embed_texts(prompts[0] + prompts[1], progress=embed).split(self.n_pairs)
        two_class = backbone.embed_texts(pair[0]), backbone.embed_texts(pair[1])
        heads: dict[str, nn.Module] = {
            "prompt": prototype_pair(*two_class, backbone.logit_scale),
            self.head: self._train(normal, anomalous, backbone.logit_scale, progress),
        }
        used = {
            "vocabulary": vocabulary.describe(),
            "prompt": {"normal": pair[0], "anomalous": pair[1]},
            "random_words": random_words.describe(),
            "pairs": words,
            "example": {"normal": prompts[0][0], "anomalous": prompts[1][0]},
        }
        return heads, used

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
            progress=_stage(progress, "network"),
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

    def _card(self) -> str:
        assert self.words_ is not None
        example = self.words_["example"]
        return (
            f"Trained on {self.n_pairs:,} pairs of prompts with random words, such as\n"
            f"“{example['normal']}” / “{example['anomalous']}”; head: {self.head}."
        )


def _stage(progress: Progress | None, name: str) -> Any:
    return None if progress is None else lambda done, total: progress(name, done, total)
