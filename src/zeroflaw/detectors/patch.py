"""What detectors that compare patches with patches have in common: input sizes, and words beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import override

from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.detectors.opening import open_tower
from zeroflaw.detectors.presets import open_fitted
from zeroflaw.errors import UsageError
from zeroflaw.parameters import parameters
from zeroflaw.runtime.memory import PatchScorer, PatchSpec
from zeroflaw.runtime.regions import patch_mask, region_of_interest
from zeroflaw.runtime.scorer import Size, TextScorer
from zeroflaw.runtime.tower import ImageTower, check_sizes, default_sizes

BATCH = 4  # photos embedded at a time while a detector is made
P = TypeVar("P", bound=PatchScorer)
Share = Annotated[float, Field(gt=0, lt=1)]


@parameters
class PatchDetector(BackboneDetector[P]):
    """Base of detectors that compare patches with patches.

    Attributes:
        object: name of the product for the words, or None where it is unknown.
        words: preset of the detector whose score of words is fused with the distances.
        words_weight: of the words' log-odds beside the distances' in units of their usual spread; 0 is none.
        sizes: input sizes in pixels at which patches are compared; () is the backbone's own and 1.6 times
            that.
        top: patches whose mean distance is the image's.
        roi: the part of every photo that is looked at: corners of a polygon, "x,y x,y x,y", or a picture that
            is not black there (`zeroflaw.runtime.regions.region_of_interest`); "" is all of it.
        ignore: the part that is not looked at, in the same manner.
    """

    object: str | None = None
    words: str = "rwda"
    words_weight: Annotated[float, Field(ge=0, le=100)] = 0.2
    sizes: tuple[Annotated[int, Field(ge=16, le=4096)], ...] = ()
    top: Annotated[int, Field(ge=1, le=1000)] = 5
    roi: str = ""
    ignore: str = ""

    @override
    def _check_tile(self) -> None:
        super()._check_tile()
        if self.roi or self.ignore:
            raise UsageError("roi and ignore mark parts of whole photos; leave them out, or tile")

    @override
    def _load_backbone(self) -> ImageTower:
        return self._load_tower()  # no text is embedded, unless words are to be fitted

    @override
    def _load_tower(self) -> ImageTower:
        return open_tower(self.backbone, self.engine, self.device, self.dtype)

    @override
    def _check_backbone(self, backbone: ImageTower) -> None:
        check_sizes(backbone, self._sizes(backbone))

    def _sizes(self, backbone: ImageTower) -> tuple[int, ...]:
        return tuple(sorted(set(self.sizes or default_sizes(backbone))))

    def _inside(self, backbone: ImageTower, size: Size) -> npt.NDArray[np.int64]:
        """Return which patches of the finest grid are looked at; ``size`` is that of a photo in pixels."""
        if not self.roi and not self.ignore:
            return np.zeros(0, np.int64)
        wanted = region_of_interest(self.roi, size) if self.roi else np.ones(size, bool)
        if self.ignore:
            wanted &= ~region_of_interest(self.ignore, size)
        if not wanted.any():
            raise UsageError("roi and ignore leave nothing of the photos; mark other parts")
        side = self._side(backbone)
        return patch_mask(wanted, (side, side)).astype(np.int64).ravel()

    def _side(self, backbone: ImageTower) -> int:
        """Patches along a side of the finest grid."""
        return max(self._sizes(backbone)) // backbone.patch_size

    def _spec(self, backbone: ImageTower) -> PatchSpec:
        sizes = self._sizes(backbone)
        return PatchSpec(
            sizes=sizes, top=self.top, words_weight=self.words_weight, scale=tuple(1.0 for _ in sizes)
        )

    @override
    def _fits(self, scorer: P, backbone: ImageTower) -> bool:
        found = {"scale", "centre", "words_centre"}  # by the fit
        said, chosen = (spec.model_dump(exclude=found) for spec in (scorer.choices, self._spec(backbone)))
        heads = {} if scorer.words is None else scorer.words.heads
        widths = all(head.width == backbone.embed_dim for head in heads.values())
        return widths and said == chosen and len(scorer.inside) in (0, self._side(backbone) ** 2)

    def _word_scorer(self, inputs: FitInputs) -> tuple[TextScorer | None, Mapping[str, Any]]:
        """Return the scorer of words, and the words that it was made of."""
        if not self.words_weight:
            return None, {}
        place = ("backbone", "device", "dtype", "engine")
        chosen: dict[str, Any] = {name: getattr(self, name) for name in place}
        if self.object is not None:
            chosen["object"] = self.object
        fitted = open_fitted(self.words, chosen, progress=inputs.progress)
        if not isinstance(fitted, BackboneDetector) or not isinstance(fitted.scorer_, TextScorer):
            raise UsageError(
                f"words must be a detector that scores embeddings by words, such as rwda or clip-ensemble, "
                f"got '{self.words}'"
            )
        return fitted.scorer_, fitted.words_
