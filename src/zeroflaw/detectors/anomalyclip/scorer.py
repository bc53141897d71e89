"""The scorer of AnomalyCLIP: two learned prompts against an image and its local patch tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import logit
from typing_extensions import override

from zeroflaw.detectors.blur import blurred
from zeroflaw.errors import DetectorError
from zeroflaw.parameters import Record
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.heads import Arrays, LinearHead
from zeroflaw.runtime.scorer import Judgement, Scorer, Size, read_heads
from zeroflaw.runtime.scores import Doubles, expit

MapGrid = Literal["patches", "pixels"]
Sigma = Annotated[float, Field(ge=0, le=4096)]
NEAR = 1e-12  # a probability of 0 or 1 in a map still has finite log-odds


class LocalSpec(Record):
    """How a `LocalScorer` makes maps.

    Attributes:
        layers: blocks, counted from 1, whose local patch tokens are looked at.
        patch_size: side of a patch in pixels.
        sigma: standard deviation of the blur, in pixels of the network's input.
        map_grid: one value for each of the "patches", or of the "pixels" of the network's input.
    """

    layers: Annotated[tuple[int, ...], Field(min_length=1)]
    patch_size: Annotated[int, Field(ge=1)]
    sigma: Sigma
    map_grid: MapGrid


@dataclass(frozen=True)
class LocalScorer(Scorer):
    """The softmax between two prompts: of the image, and in maps of every patch of a local path.

    The one named score is ``prompt``. A map is the mean of the layers' probabilities, blurred.

    Attributes:
        head: from the embedding of the normal prompt to that of the anomalous one, over the temperature.
        choices: everything else.
    """

    kind: ClassVar[str] = "anomalyclip"

    head: LinearHead
    choices: LocalSpec

    @override
    def request(self, maps: bool) -> FeatureRequest:
        return FeatureRequest(layers=self.choices.layers if maps else ())

    @override
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> Judgement:
        logits = self.head(features.image)
        return Judgement(logits, {"prompt": logits}, list(self._maps(features)) if maps else None)

    def _maps(self, features: ImageFeatures) -> Doubles:
        layers = [expit(self.head(features.layers[block])) for block in self.choices.layers]
        mean = np.mean(layers, axis=0).reshape(-1, *features.grid)
        pixels = self.choices.map_grid == "pixels"
        smooth = blurred(mean, self.choices.patch_size, self.choices.sigma, pixels=pixels)
        return np.asarray(logit(np.clip(smooth, NEAR, 1 - NEAR)))

    @override
    def spec(self) -> dict[str, object]:
        return self.choices.model_dump(mode="json")

    @override
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {f"prompt.{key}": value for key, value in self.head.arrays().items()}

    @classmethod
    @override
    def read(cls, spec: Mapping[str, object], arrays: Arrays) -> Self:
        choices = LocalSpec.read(spec, "'scorer' in config.json", DetectorError)
        heads = read_heads(arrays)
        head = heads.pop("prompt", None)
        if not isinstance(head, LinearHead) or heads:
            raise DetectorError("head.safetensors does not hold one pair of prompts; save the detector again")
        return cls(head, choices)
