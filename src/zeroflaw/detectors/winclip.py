"""WinCLIP: hand-written prompts against the image and its windows, without any training.

Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023: the compositional
prompt ensemble (section 4.1), windows of several sizes and their harmonic mean (section 4.2). The paper
leaves details open, and its public implementations differ; each such detail is a parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from zeroflaw.detectors.base import Request, predictions, sized
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.embedding import EmbeddingDetector, MapSource
from zeroflaw.detectors.heads import empty_linear
from zeroflaw.detectors.ranges import check_range
from zeroflaw.detectors.sentence_means import SentenceMean, prototype_head
from zeroflaw.detectors.tiles import Tiles
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.stream import Array, Progress, batches
from zeroflaw.towers.model import ImageFeatures
from zeroflaw.towers.windows import harmonic_map, harmonic_mean, make_windows
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


class Judgement(NamedTuple):
    """What is said of one image, as log-odds: the final score (), named scores (), the map where wanted."""

    logit: Tensor
    scores: dict[str, Tensor]
    map: Tensor | None


@dataclass(kw_only=True, eq=False)
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
        non_square: "squash" to the network's square, or "tile" with squares, see `zeroflaw.detectors.tiles`.
    """

    name: ClassVar[str] = "winclip"
    needs: ClassVar[Needs] = Needs(words=True)
    source: ClassVar[str] = "WinCLIP (Jeong et al., CVPR 2023)"

    normal: tuple[str, ...] = ENSEMBLE_NORMAL
    anomalous: tuple[str, ...] = ENSEMBLE_ANOMALOUS
    templates: tuple[str, ...] = ENSEMBLE_TEMPLATES
    articles: Articles = "literal"
    keep_underscores: bool = False
    temperature: float = 0.07
    sentence_mean: SentenceMean = "normalised"
    map_from: MapSource = "windows"
    harmonic_over: Literal["anomalous", "normal"] = "anomalous"
    image_score: Literal["image", "map"] = "image"
    non_square: Literal["squash", "tile"] = "squash"

    def validate(self) -> None:
        """Check every parameter.

        Raises:
            UsageError: a parameter is of the wrong kind or out of range.
            WordsError: a word is refused.
        """
        super().validate()
        check_range("temperature", self.temperature, 1e-3, 100)
        self._vocabulary()

    @property
    def weights(self) -> Mapping[str, float]:
        """The one named score."""
        return {"prompt": 1.0}

    def _vocabulary(self) -> Vocabulary:
        # A vocabulary has every template once; how often each counts is kept in `templates`.
        return Vocabulary().updated(
            normal=self.normal,
            anomalous=self.anomalous,
            templates=tuple(dict.fromkeys(self.templates)),
            object=self.object,
        )

    def _sentences(self) -> tuple[list[str], list[str]]:
        """All normal and all anomalous sentences."""
        words, name = self._vocabulary(), object_phrase(self.object)
        if self.keep_underscores and self.object is not None:
            name = " ".join(self.object.split())

        def side(states: Sequence[str]) -> list[str]:
            return [fill(t, state_of(s, name), self.articles) for s in states for t in self.templates]

        return side(words.normal), side(words.anomalous)

    def _fit_heads(
        self, backbone: Backbone, checkpoint: Path | None, progress: Progress | None
    ) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        normal, anomalous = self._sentences()
        head = prototype_head(backbone, normal, anomalous, self.sentence_mean, self.temperature)
        words = {
            "vocabulary": self._vocabulary().describe(),
            "prompt": {"normal": normal, "anomalous": anomalous},
        }
        return {"prompt": head}, words

    def _empty_heads(self, width: int) -> dict[str, nn.Module]:
        return {"prompt": empty_linear(width)}

    @property
    def share_key(self) -> tuple[str, ...]:
        """What detectors have in common when they can share features: tiles are other pictures."""
        return (*super().share_key, *(["tiles"] if self.non_square == "tile" else []))

    def request(self, maps: bool) -> Request:
        """Return what `predict_features` must be given."""
        return super().request(maps or self.image_score == "map")

    def embed(self, images: list[Array], request: Request) -> ImageFeatures:
        """Embed pictures, or all their tiles one after the other, as ``request`` says."""
        self._require_fit()
        return self._embedded(self.backbone_, images, request)

    def _embedded(self, backbone: Backbone, images: Sequence[Array], request: Request) -> ImageFeatures:
        tiles = [tile for image in images for tile in self._tiles(sized(image)).cut(image)]
        asked: dict[str, Any] = {
            "windows": request.windows,
            "patches": request.patches,
            "layers": request.layers,
        }
        # No more at a time than the caller found good for his memory.
        return ImageFeatures.join([backbone.embed_images(p, **asked) for p in batches(tiles, len(images))])

    def _tiles(self, size: tuple[int, int]) -> Tiles:
        return Tiles.over(size) if self.non_square == "tile" else Tiles.whole(size)

    @torch.inference_mode()
    def predict_features(
        self, features: ImageFeatures, request: Request, sizes: list[tuple[int, int]], *, maps: bool
    ) -> list[Prediction]:
        """Judge images whose features are known, with as many rows for each as it has tiles; see
        `BackboneDetector.predict_features`.
        """
        cut = [self._tiles(size) for size in sizes]
        counts = [len(tiles) for tiles in cut]
        image = self._logits(features.image)
        grids = self._grids(features, request, image, maps or self.image_score == "map")
        parts = {name: grid.split(counts) for name, grid in grids.items()}
        judged = [
            self._judge(tiles.mean(own), {name: tiles.merge(part[row]) for name, part in parts.items()})
            for row, (tiles, own) in enumerate(zip(cut, image.split(counts), strict=True))
        ]
        logits = self._finite(torch.stack([found.logit for found in judged]))
        named = {name: torch.stack([found.scores[name] for found in judged]) for name in judged[0].scores}
        found = predictions(logits, named, sizes)
        return [_with_map(p, j.map) for p, j in zip(found, judged, strict=True)] if maps else found

    def _logits(self, embeddings: Tensor) -> Tensor:
        """Log-odds (...) of embeddings (..., E) between the two prototypes."""
        assert self.heads_ is not None
        logits: Tensor = self.heads_["prompt"](embeddings.float().cpu())
        return self._finite(logits.double())

    def _grids(
        self, features: ImageFeatures, request: Request, image: Tensor, zero_shot: bool
    ) -> dict[str, Tensor]:
        """Maps of all tiles by name, log-odds (T, rows, columns); the zero-shot one only if it is wanted."""
        return {"prompt": self._zero_shot(features, request, image)} if zero_shot else {}

    def _zero_shot(self, features: ImageFeatures, request: Request, image: Tensor) -> Tensor:
        """Harmonic mean of image, windows of each size (section 4.2); with patches, of image and patches."""
        sign = 1.0 if self.harmonic_over == "anomalous" else -1.0
        if self._parts_are_patches():
            assert features.patches is not None
            scales = [sign * self._logits(features.patches)]
        else:
            scales = [
                harmonic_map(
                    sign * self._logits(features.windows[request.windows.index((size, self.window_stride))]),
                    make_windows(features.grid, size, self.window_stride),
                )
                for size in self.window_sizes
            ]
        if self.image_in_map:
            scales.append(sign * image[:, None].expand_as(scales[0]))
        return (sign * harmonic_mean(scales)).reshape(-1, *features.grid)

    def _judge(self, image: Tensor, grids: Mapping[str, Tensor]) -> Judgement:
        """Decide on one image from its own log-odds () and its maps (rows, columns)."""
        if "prompt" not in grids:
            return Judgement(image, {"prompt": image}, None)
        part = grids["prompt"].amax()
        logit = image if self.image_score == "image" else part
        return Judgement(logit, {"prompt": image, "prompt_part": part}, grids["prompt"])

    def _card(self) -> str:
        assert self.words_ is not None
        prompts = self.words_["prompt"]
        return (
            f"Zero-shot classification of the image and its windows between {len(prompts['normal'])} normal "
            f"and {len(prompts['anomalous'])} anomalous sentences, such as\n"
            f"“{prompts['normal'][0]}” / “{prompts['anomalous'][0]}”. Nothing was trained."
        )

    def _facts(self) -> dict[str, str]:
        score = {"image": "of the whole image", "map": "highest value of the map"}
        return {"Object": self.object or "unknown", "Score": score[self.image_score]}


def _with_map(prediction: Prediction, logits: Tensor | None) -> Prediction:
    assert logits is not None
    return dataclasses.replace(prediction, map=torch.sigmoid(logits).float().contiguous().numpy())
