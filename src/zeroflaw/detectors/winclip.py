"""WinCLIP: hand-written prompts against the image and its windows, without any training; WinCLIP+: what a few
photos of good products look like, beside the words.

Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023: the compositional
prompt ensemble (section 4.1), windows of several sizes and their harmonic mean (section 4.2), features of
good photos, from whose nearest a part of an image is as anomalous as it is far (section 4.3). The paper
leaves details open, and its public implementations differ; each such detail is a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from zeroflaw.detectors.base import Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.heads import linear, prototype_pair
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.detectors.text_head import EmbeddingDetector, MapSource
from zeroflaw.errors import UsageError
from zeroflaw.parameters import parameters
from zeroflaw.runtime.features import Floats
from zeroflaw.runtime.folder import LARGEST_HEAD
from zeroflaw.runtime.heads import LinearHead
from zeroflaw.runtime.scorer import Scorer
from zeroflaw.runtime.scores import make_windows
from zeroflaw.runtime.stream import Array, batches
from zeroflaw.runtime.tiles import Tiles
from zeroflaw.runtime.tower import embed, sized
from zeroflaw.runtime.winclip import Spread, WinCLIPScorer, WinCLIPSpec, memory_request, remembered
from zeroflaw.words import (
    ENSEMBLE_ANOMALOUS,
    ENSEMBLE_NORMAL,
    ENSEMBLE_TEMPLATES,
    Articles,
    fill,
    object_phrase,
)
from zeroflaw.words.states import state_of

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

_BATCH = 8  # references embedded at a time

SentenceMean = Literal["normalised", "raw", "unnormalised"]


def prototype_head(
    backbone: Backbone,
    normal: Sequence[str],
    anomalous: Sequence[str],
    mean: SentenceMean,
    temperature: float,
) -> LinearHead:
    """Make the head whose logit is ``f . (t_a - t_n) / temperature`` (WinCLIP, section 4.1).

    Args:
        backbone: its text tower embeds the sentences.
        normal: sentences whose mean is t_n; one that is there twice counts twice.
        anomalous: sentences whose mean is t_a.
        mean: "normalised": each sentence normalised, mean, normalised; "raw": mean of raw features,
            normalised; "unnormalised": mean of raw features, so that the two sides differ in length too.
        temperature: what the cosines are divided by.
    """
    n, a = (backbone.embed_texts(side, normalise=mean == "normalised") for side in (normal, anomalous))
    if mean == "unnormalised":
        return linear((a.mean(0) - n.mean(0)) / temperature)
    return prototype_pair(n, a, 1 / temperature)


@parameters
class WinCLIP(EmbeddingDetector[WinCLIPScorer]):
    """Zero-shot WinCLIP: the defaults are the paper's, as far as they are known.

    Attributes:
        templates: sentences around the state; all states are put into all of them. One that is listed twice
            counts twice.
        keep_underscores: leave underscores in the object's name, as most public versions do.
        temperature: of the softmax between the two prototypes. Public code has 0.07 and 0.01; the paper's is
            not known. It cannot change the order of zero-shot image scores, but that of maps and means.
        sentence_mean: how sentences become a prototype, see `prototype_head`: "normalised" (as CLIP's own
            prompt ensembles are), "raw" or "unnormalised". The paper's is not known.
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

    @property
    @override
    def _templates(self) -> tuple[str, ...]:
        # A vocabulary has every template once; how often each counts is kept in `templates`.
        return tuple(dict.fromkeys(self.templates))

    def _choices(self, backbone: Backbone) -> WinCLIPSpec:
        """What the scorer is to do."""
        return WinCLIPSpec(
            parts=self._parts(backbone),
            image_in_map=self.image_in_map,
            harmonic_over=self.harmonic_over,
            image_score=self.image_score,
            tile=self.non_square == "tile",
        )

    @override
    def _fits(self, scorer: WinCLIPScorer, backbone: Backbone) -> bool:
        return scorer.head.width == backbone.embed_dim

    @override
    def _fit(self, backbone: Backbone, inputs: FitInputs) -> Fitted[WinCLIPScorer]:
        name = object_phrase(self.object)
        if self.keep_underscores and self.object is not None:
            name = " ".join(self.object.split())

        def side(states: Sequence[str]) -> list[str]:
            return [fill(t, state_of(s, name), self.articles) for s in states for t in self.templates]

        normal, anomalous = side(self.vocabulary_.normal), side(self.vocabulary_.anomalous)
        head = prototype_head(backbone, normal, anomalous, self.sentence_mean, self.temperature)
        prompt = {"normal": normal, "anomalous": anomalous}
        words = {"vocabulary": self.vocabulary_.describe(), "prompt": prompt}
        return Fitted(WinCLIPScorer(head, self._choices(backbone)), words)


@parameters
class WinCLIPPlus(WinCLIP):
    """Few-shot WinCLIP+: the zero-shot detector and the distance from a few photos of good products.

    Memories hold the embeddings of all windows of the reference photos, one memory for each window size (or
    of all aligned patches where ``map_from`` says so), and the patch tokens of one block.

    Attributes:
        image_score: "image" for the mean of the image's own score and the highest value of the reference map
            (the paper's), "map" for the highest value of the fused map.
        reference_spread: how distances of windows come back to the patches: by the "harmonic" mean of the
            windows that hold each patch, as zero-shot scores do, or by the plain "mean".
        map_fusion: how the zero-shot map and the reference map become one: their "mean" (the paper's; it
            orders patches as their sum does) or their "harmonic" mean.
        token_block: block whose patch tokens are remembered: the "last-but-one" (the paper's) or the "last",
            as two public versions do.
    """

    name: ClassVar[str] = "winclip-plus"
    needs: ClassVar[Needs] = Needs(words=True, reference_images=True)
    source: ClassVar[str] = "WinCLIP+ (Jeong et al., CVPR 2023, section 4.3)"

    reference_spread: Spread = "harmonic"
    map_fusion: Literal["mean", "harmonic"] = "mean"
    token_block: Literal["last-but-one", "last"] = "last-but-one"

    @override
    def _check_backbone(self, backbone: Backbone) -> None:
        super()._check_backbone(backbone)
        if self._token_layer(backbone) < 1:
            raise UsageError(
                f"{self.name} compares patch tokens of the last block but one, but the image tower of "
                f"'{self.backbone}' has a single block; use another backbone"
            )

    def _token_layer(self, backbone: Backbone) -> int:
        return backbone.layers - (self.token_block == "last-but-one")

    @override
    def _choices(self, backbone: Backbone) -> WinCLIPSpec:
        more = {
            "reference_spread": self.reference_spread,
            "map_fusion": self.map_fusion,
            "token_layer": self._token_layer(backbone),
        }
        return super()._choices(backbone).model_copy(update=more)

    @override
    def _fit(self, backbone: Backbone, inputs: FitInputs) -> Fitted[WinCLIPScorer]:
        choices, images, step = self._choices(backbone), inputs.reference, inputs.stage("reference images")
        self._check_room(backbone, images)
        found: dict[str, list[Floats]] = {}
        for number, batch in enumerate(batches(images, _BATCH)):
            features = embed(backbone, batch, memory_request(choices))
            for name, part in remembered(features, choices).items():
                found.setdefault(name, []).append(part.reshape(-1, part.shape[-1]))
            step(number * _BATCH + len(batch), len(images))
        memories = {name: np.concatenate(parts) for name, parts in found.items()}
        zero_shot = super()._fit(backbone, inputs)
        return Fitted(WinCLIPScorer(zero_shot.scorer.head, choices, memories), zero_shot.words)

    def _check_room(self, backbone: Backbone, references: Sequence[Array]) -> None:
        """Refuse more references than a detector's folder may hold, before they are embedded."""
        tile = self.non_square == "tile"
        pictures = sum(len(Tiles.of(sized(image), tile=tile)) for image in references)
        each = 4 * sum(rows * width for rows, width in self._shapes(backbone).values())  # bytes, float32
        room = LARGEST_HEAD - 2**20  # a little for everything else
        if pictures * each > room:
            raise UsageError(
                f"{self.name} would keep {pictures * each / 2**20:,.0f} MiB of {len(references):,} reference "
                f"images, and {room / 2**20:,.0f} MiB is the most; give it "
                f"{len(references) * room // (pictures * each):,} or fewer"
            )

    def _shapes(self, backbone: Backbone) -> dict[str, tuple[int, int]]:
        """Rows and width of each memory for one picture."""
        patches, parts = backbone.grid[0] * backbone.grid[1], self._parts(backbone)
        shapes = {"tokens": (patches, backbone.width)}
        if parts.source == "patches":
            return shapes | {"patches": (patches, backbone.embed_dim)}
        for size in parts.sizes:
            windows = len(make_windows(backbone.grid, size, parts.stride).index)
            shapes[f"window_{size}"] = windows, backbone.embed_dim
        return shapes

    @override
    def _fits(self, scorer: WinCLIPScorer, backbone: Backbone) -> bool:
        shapes, memories = self._shapes(backbone), scorer.memories
        if {n: m.shape[1] for n, m in memories.items()} != {n: width for n, (_, width) in shapes.items()}:
            return False
        pictures = {len(memory) / shapes[name][0] for name, memory in memories.items()}
        return super()._fits(scorer, backbone) and len(pictures) == 1 and pictures.pop() % 1 == 0
