"""Scorers: what a detector learned, as one small object that turns features of images into log-odds.

A scorer says which features it asks for; its arrays and its specification are what is saved and loaded. Those
here are NumPy and work behind any engine that gives the features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import override

from zeroflaw.errors import DetectorError
from zeroflaw.parameters import Record
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.heads import Arrays, FNNHead, Head, LinearHead, read_head
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.scores import Doubles, expit, fuse, harmonic_map, harmonic_mean, make_windows

Size = tuple[int, int]  # height and width of an image in pixels
Named = Mapping[str, Doubles]
Side = Annotated[int, Field(ge=1, le=1024)]


@dataclass(frozen=True)
class Judgement:
    """What a scorer says about a batch of B images, as log-odds.

    Attributes:
        logits: of the final score, (B,).
        scores: the named parts of it, each (B,).
        maps: of the patches, one (rows, columns) an image, or None where none were asked for.
    """

    logits: Doubles
    scores: Named
    maps: Sequence[Doubles] | None = None

    def predictions(self, sizes: Sequence[Size]) -> list[Prediction]:
        """Make one prediction an image.

        Raises:
            DetectorError: a score or a map is not a finite number.
        """
        maps = [None] * len(sizes) if self.maps is None else list(self.maps)
        for values in [self.logits, *self.scores.values(), *(m for m in maps if m is not None)]:
            if not np.isfinite(values).all():
                raise DetectorError(
                    "the detector gives scores that are not finite numbers; fit it again, with a smaller "
                    "learning_rate or a larger temperature"
                )
        return [
            Prediction(
                source=f"image {row}",
                score=float(expit(self.logits[row])),
                logit=float(self.logits[row]),
                scores={name: float(expit(values[row])) for name, values in self.scores.items()},
                size=size,
                map=None if drawn is None else np.ascontiguousarray(expit(drawn), np.float32),
            )
            for row, (size, drawn) in enumerate(zip(sizes, maps, strict=True))
        ]


class Scorer(ABC):
    """What a detector learned. ``kind`` names the class in saved folders."""

    kind: ClassVar[str]
    whole_batch: ClassVar[bool] = False  # it judges an image by the batch it comes in

    @abstractmethod
    def request(self, maps: bool) -> FeatureRequest:
        """Return the features that `judge` must be given."""

    @abstractmethod
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> Judgement:
        """Judge the images of a batch by their features, which may hold more than was asked for."""

    @abstractmethod
    def spec(self) -> dict[str, object]:
        """Return what is no array, as JSON values."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what was learned, float32 or int64 arrays by name."""

    @classmethod
    @abstractmethod
    def read(cls, spec: Mapping[str, object], arrays: Arrays) -> Self:
        """Rebuild a scorer from what `spec` and `arrays` returned.

        Raises:
            DetectorError: something is missing, superfluous or does not fit together.
        """


class Parts(Record):
    """Where the scores of an image's parts come from.

    Attributes:
        source: aligned "patches" or token "windows".
        sizes: sides of the windows in patches.
        stride: step between windows in patches.
    """

    source: Literal["patches", "windows"]
    sizes: Annotated[tuple[Side, ...], Field(min_length=1)] = (2, 3)
    stride: Side = 1

    @property
    def request(self) -> FeatureRequest:
        """What must be asked of the image tower."""
        if self.source == "patches":
            return FeatureRequest(patches=True)
        return FeatureRequest(windows=tuple((size, self.stride) for size in self.sizes))

    def scales(self, features: ImageFeatures, head: Head, sign: float = 1.0) -> list[Doubles]:
        """Return ``sign`` times the log-odds of the patches, (B, P), once for each scale."""
        if self.source == "patches":
            assert features.patches is not None
            return [sign * head(features.patches)]
        return [
            harmonic_map(
                sign * head(features.windows[size, self.stride]),
                make_windows(features.grid, size, self.stride),
            )
            for size in self.sizes
        ]


class TextSpec(Record):
    """What a `TextScorer` is beside its heads; see there."""

    weights: Annotated[dict[str, Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
    parts: Parts
    image_in_map: bool


@dataclass(frozen=True)
class TextScorer(Scorer):
    """Heads over embeddings: images, token windows and aligned patches all live in the text's space.

    Named scores: each head's own, and with ``_part`` that of the most anomalous part of the image.

    Attributes:
        heads: by name of their score.
        weights: of the named scores in the final one; they sum to one.
        parts: where the parts' scores come from.
        image_in_map: include the image's own score in the harmonic mean that makes the map (WinCLIP, section
            4.2).
    """

    kind: ClassVar[str] = "text"

    heads: Mapping[str, Head]
    weights: Mapping[str, float]
    parts: Parts
    image_in_map: bool = True

    @override
    def request(self, maps: bool) -> FeatureRequest:
        if maps or any(name.endswith("_part") for name in self.weights):
            return self.parts.request
        return FeatureRequest()

    @override
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> Judgement:
        scores: dict[str, Doubles] = {}
        part_maps: dict[str, Doubles] = {}
        for name, head in self.heads.items():
            scores[name] = head(features.image)
            if maps or f"{name}_part" in self.weights:
                part_maps[name] = harmonic_mean(self.parts.scales(features, head))
                scores[f"{name}_part"] = part_maps[name].max(1)
        logits = fuse(scores, self.weights)
        drawn = self._map(part_maps, logits).reshape(-1, *features.grid) if maps else None
        return Judgement(logits, scores, None if drawn is None else list(drawn))

    def _map(self, part_maps: Named, image: Doubles) -> Doubles:
        """Log-odds of the patches, (B, P); every base score weighs as much as in the image score."""
        weights: dict[str, float] = {}
        for name, weight in self.weights.items():
            base = name.removesuffix("_part")
            weights[base] = weights.get(base, 0.0) + weight
        parts = fuse(part_maps, weights)
        if not self.image_in_map:
            return parts
        # WinCLIP: harmonic mean of image, 2 x 2 and 3 x 3 maps; the parts count once for each scale.
        scales = 1 if self.parts.source == "patches" else len(self.parts.sizes)
        return harmonic_mean([np.broadcast_to(image[:, None], parts.shape), *[parts] * scales])

    @override
    def spec(self) -> dict[str, object]:
        return {
            "weights": dict(self.weights),
            "parts": self.parts.model_dump(mode="json"),
            "image_in_map": self.image_in_map,
        }

    @override
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {f"{n}.{key}": value for n, head in self.heads.items() for key, value in head.arrays().items()}

    @classmethod
    @override
    def read(cls, spec: Mapping[str, object], arrays: Arrays) -> Self:
        known = TextSpec.read(spec, "'scorer' in config.json", DetectorError)
        heads = read_heads(arrays)
        missing = {name.removesuffix("_part") for name in known.weights} - set(heads)
        if missing:
            raise DetectorError(
                f"head.safetensors has no head '{min(missing)}', which config.json weighs; save the detector "
                "again"
            )
        order = dict.fromkeys([*(name.removesuffix("_part") for name in known.weights), *sorted(heads)])
        return cls({name: heads[name] for name in order}, known.weights, known.parts, known.image_in_map)


def read_heads(arrays: Arrays) -> dict[str, Head]:
    """Make heads from arrays whose names begin with the head's.

    Raises:
        DetectorError: see `read_head`; or the heads take embeddings of different widths.
    """
    grouped: dict[str, dict[str, npt.NDArray[np.generic]]] = {}
    for key, value in arrays.items():
        name, _, part = key.partition(".")
        grouped.setdefault(name, {})[part] = value
    heads = {name: read_head(mine) for name, mine in grouped.items()}
    if len({head.width for head in heads.values()}) > 1:
        raise DetectorError("the heads in head.safetensors differ in width; save the detector again")
    return heads


__all__ = [
    "FNNHead",
    "Judgement",
    "LinearHead",
    "Parts",
    "Scorer",
    "Size",
    "TextScorer",
    "read_heads",
]
