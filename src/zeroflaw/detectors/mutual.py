"""The photos of a folder compared with one another: no words, no good photos, no labels.

After MuSc (Li et al., ICLR 2024). A place that most photos show alike is normal; what is far from its nearest
counterparts in the other photos is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from zeroflaw.detectors.base import Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.detectors.patch import BATCH, PatchDetector, Share
from zeroflaw.errors import ImageError
from zeroflaw.images import read_image
from zeroflaw.parameters import parameters
from zeroflaw.runtime.calibration import Calibration, from_majority
from zeroflaw.runtime.features import FeatureRequest, Floats, ImageFeatures
from zeroflaw.runtime.memory import FEWEST, MutualScorer, PatchSpec, require_several, rescored
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.scorer import Scorer, Size
from zeroflaw.runtime.scores import expit
from zeroflaw.runtime.stream import OnError, batches, named, read_ahead
from zeroflaw.runtime.tower import ImageTower, embed, sized


@parameters
class Mutual(PatchDetector[MutualScorer]):
    """Every photo of a folder is compared with some of the others: most of them should be good.

    Scores are those of one set of photos. At least four of one product are needed.

    Attributes:
        partners: photos that all are compared with, drawn by the seed.
        share: of the partners, the nearest, whose mean distance counts (paper: 0.3).
        degrees: sides of neighbourhoods whose mean feature stands for a patch (paper: 1, 3, 5).
        neighbours: like images over which image scores are smoothed (paper: 1, 2, 3); none by default.
    """

    name: ClassVar[str] = "mutual"
    needs: ClassVar[Needs] = Needs(words=False, whole_batch=True)
    source: ClassVar[str] = "after MuSc (Li et al., ICLR 2024)"
    scorer_class: ClassVar[type[Scorer]] = MutualScorer

    words_weight: Annotated[float, Field(ge=0, le=100)] = 0.0
    partners: Annotated[int, Field(ge=FEWEST, le=1000)] = 30
    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    degrees: tuple[Annotated[int, Field(ge=1, le=15)], ...] = (1,)
    neighbours: tuple[Annotated[int, Field(ge=1, le=100)], ...] = ()
    false_alarms: Share = 0.05

    @override
    def _fit(self, backbone: ImageTower, inputs: FitInputs) -> Fitted[MutualScorer]:
        """Nothing is learned but what the words need; photos are compared when they are judged."""
        words, said = self._word_scorer(inputs)
        scorer = MutualScorer(self._spec(backbone), words, most_partners=self.partners, seed=self.seed)
        return Fitted(scorer, said)

    @override
    def _spec(self, backbone: ImageTower) -> PatchSpec:
        update = {"share": self.share, "degrees": self.degrees}
        return super()._spec(backbone).model_copy(update=update)

    @override
    def _fits(self, scorer: MutualScorer, backbone: ImageTower) -> bool:
        drawn = (scorer.most_partners, scorer.seed) == (self.partners, self.seed)
        return drawn and super()._fits(scorer, backbone)

    @property
    @override
    def threshold_rule(self) -> str:
        return super().threshold_rule or "robust"

    @override
    def request(self, maps: bool) -> FeatureRequest:
        asked = super().request(maps)
        return asked | FeatureRequest() if self.neighbours else asked  # like images by their embeddings

    @override
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> list[Prediction]:
        numbers = self.scorer_.choose(len(features))
        scorer, calibration = self._among(features.rows(numbers), numbers, sizes[numbers[0]])
        found = scorer.judge(features, sizes, maps=maps).predictions(sizes)
        return [calibration.judged(one) for one in self._smoothed(found, features.image)]

    @override
    def _predict_all(
        self, images: Iterable[Any], maps: bool, batch_size: int, on_error: OnError | None
    ) -> Iterator[Prediction]:
        """Look at the partners first, then at all photos one batch after the other, in constant memory."""
        listed = list(images)
        if not listed:
            return
        scorer, calibration = self._among(*self._partners(listed))
        held: list[Prediction] = []
        wholes: list[Floats] = []
        ahead = read_ahead(listed, on_error, self._preparing(maps), white=self.white)
        for batch in batches(ahead, batch_size):
            numbers, pixels = tuple(one.number for one in batch), [one.image for one in batch]
            sizes = [sized(picture) for picture in pixels]
            features = embed(self.backbone_, pixels, self.request(maps))
            judged = replace(scorer, numbers=numbers).judge(features, sizes, maps=maps)
            found = named(judged.predictions(sizes), batch)
            if self.neighbours:
                held += found
                wholes.append(features.image)
            else:
                yield from map(calibration.judged, found)
        if held:
            yield from map(calibration.judged, self._smoothed(held, np.concatenate(wholes)))

    def _smoothed(self, found: Sequence[Prediction], wholes: Floats) -> Sequence[Prediction]:
        """Smooth scores over like images, whose embeddings are (N, E), where that is wanted."""
        if not self.neighbours:
            return found
        values = rescored(np.array([one.logit for one in found]), wholes, self.neighbours).tolist()
        pairs = zip(found, values, strict=True)
        return [replace(one, logit=value, score=float(expit(value))) for one, value in pairs]

    def _partners(self, listed: Sequence[Any]) -> tuple[ImageFeatures, list[int], Size]:
        """Draw the partners among photos that can be read: features, places, and the size of the first."""
        sizes: dict[int, Size] = {}
        parts = []
        for batch in batches(islice(self._readable(listed), self.partners), BATCH):
            request = self.scorer_.request(False)
            parts.append(embed(self.backbone_, [picture for _, picture in batch], request))
            sizes |= {number: sized(picture) for number, picture in batch}
        require_several(len(sizes))
        rising = np.argsort(list(sizes)).tolist()
        return ImageFeatures.join(parts).rows(rising), sorted(sizes), sizes[min(sizes)]

    def _readable(self, listed: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield places and pictures of the photos that can be read, drawn by the seed."""
        prepare = self._preparing(False)
        for number in np.random.default_rng(self.seed).permutation(len(listed)).tolist():
            try:
                yield number, prepare(read_image(listed[number], white=self.white))
            except ImageError:  # it is reported when its turn comes
                continue

    def _among(
        self, partners: ImageFeatures, numbers: Sequence[int], size: Size
    ) -> tuple[MutualScorer, Calibration]:
        """Take zero and threshold from the partners, whose places among all are ``numbers``, rising.

        ``size`` is that of the first of them in pixels.
        """
        ready = replace(self.scorer_, inside=self._inside(self.backbone_, size)).among(partners, numbers)
        distances = ready.distances_from(partners, numbers)
        ready = ready.centred(partners, distances)
        own = ready.judge_distances(distances, partners, [(1, 1)] * len(partners), maps=True)
        assert own.maps is not None
        peaks = [float(drawn.max()) for drawn in own.maps]
        return ready, self.calibration_ or Calibration(
            detector="",
            rule="robust",
            threshold=from_majority(own.logits.tolist(), self.false_alarms),
            good=(),
            judged_photos=len(partners),
            false_alarms=self.false_alarms,
            map_threshold=from_majority(peaks, self.false_alarms),
        )
