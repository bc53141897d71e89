"""Good photos as a memory: what is unlike all of them is anomalous, beside what the words say.

After PatchCore (Roth et al., CVPR 2022) with the features of the detector's own backbone, at two input sizes.
The good photos also set the threshold: each is judged by what the others left in the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import override

from zeroflaw.corruptions import corrupt, parse_corruption
from zeroflaw.detectors.base import Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs, digest
from zeroflaw.detectors.patch import BATCH, PatchDetector, Share
from zeroflaw.errors import DetectorError
from zeroflaw.parameters import parameters
from zeroflaw.runtime.calibration import FEWEST, Calibration, from_good
from zeroflaw.runtime.drift import describe_photos
from zeroflaw.runtime.features import Floats, ImageFeatures
from zeroflaw.runtime.memory import (
    SPREAD,
    MemoryScorer,
    coreset,
    top_mean,
)
from zeroflaw.runtime.scorer import Scorer
from zeroflaw.runtime.scores import Doubles
from zeroflaw.runtime.stream import Array, Progress, batches, stage
from zeroflaw.runtime.tower import ImageTower, embed, sized

ODD = 6.0  # robust standard deviations above the others at which a good photo looks like no good one
USUAL = 0.15  # distance of a patch from the nearest one of another good photo, where there is no other
Copy = Literal["mirrored", "turned", "brightened"]
SHIFTS = (
    "brightness:2",
    "contrast:2",
    "defocus_blur:2",
    "gaussian_noise:2",
    "motion_blur:2",
    "jpeg:2",
    "warmer:2",
    "cooler:2",
    "moved:2",
)
"""Changes of light and camera whose copies `shifts="default"` puts into the memory."""


@parameters
class Memory(PatchDetector):
    """Nearest patches of good photos, fused with words; its good photos calibrate it.

    Named scores: ``memory`` and ``words``.

    Attributes:
        rows: most remembered patches at each input size; of more, a coreset is kept.
        copies: copies of the good photos that are remembered as well: "mirrored" (left-right), "turned" (by
            quarters, for parts that lie in any rotation), "brightened" (and darkened).
        shifts: changes of light and camera that are good as well, as ``NAME:SEVERITY`` of
            `zeroflaw.corruptions`; ``("default",)`` is a set of nine. A detector is proof against the kinds
            that it was shown and no others.
        false_alarms: share of good parts that the threshold may call anomalous.
    """

    name: ClassVar[str] = "memory"
    needs: ClassVar[Needs] = Needs(words=True, reference_images=True)
    source: ClassVar[str] = "after PatchCore (Roth et al., CVPR 2022)"
    scorer_class: ClassVar[type[Scorer]] = MemoryScorer

    rows: Annotated[int, Field(ge=16, le=200_000)] = 20_000
    copies: tuple[Copy, ...] = ()
    shifts: tuple[str, ...] = ()
    false_alarms: Share = 0.05

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.outliers_: list[int] = []
        for name in self.shift_names:
            parse_corruption(name)

    @property
    def shift_names(self) -> tuple[str, ...]:
        """Shifts by name, "default" spelt out."""
        return tuple(dict.fromkeys(n for s in self.shifts for n in (SHIFTS if s == "default" else (s,))))

    @override
    def _fit(
        self, backbone: ImageTower, inputs: FitInputs, checkpoint: Path | None, progress: Progress | None
    ) -> Fitted:
        self.notes_, self.outliers_ = [], []
        words, said = self._word_scorer(progress)
        inside = self._inside(backbone, sized(inputs.reference[0]))
        empty = MemoryScorer(self._spec(backbone), words, inside)
        rows: dict[int, list[Floats]] = {}
        owners: list[int] = []
        shown: list[ImageFeatures] = []  # features of the photos and their shifted copies
        photos: list[int] = []
        conditions: list[str] = []
        distinct: dict[str, Array] = {}
        places: list[int] = []  # of the distinct photos among those given
        for place, photo in enumerate(inputs.reference):
            if (key := digest(photo)) not in distinct:
                distinct[key] = photo
                places.append(place)
        if twice := len(inputs.reference) - len(distinct):
            self.notes_.append(f"{twice} of the good photos are the same as others and count once")
        pictures = (
            (number, picture, condition)
            for number, (key, photo) in enumerate(distinct.items())
            for picture, condition in self._pictures(photo, key)
        )
        for batch in batches(pictures, BATCH):
            features = embed(backbone, [picture for _, picture, _ in batch], empty.request(False))
            for size, part in features.patch_features.items():
                rows.setdefault(size, []).append(part)
            owners += [number for number, _, _ in batch]
            judged = [row for row, (_, _, condition) in enumerate(batch) if condition]
            if judged:
                shown.append(features.rows(judged))
                photos += [batch[row][0] for row in judged]
                conditions += [batch[row][2] for row in judged]
            if progress is not None:
                progress("good photos", owners[-1] + 1, len(distinct))
        scorer = self._remember(empty, rows, np.array(owners), progress)
        fitted = self._calibrated(scorer, ImageFeatures.join(shown), photos, conditions, said)
        self.outliers_ = [places[number] for number in self.outliers_]
        if fitted.calibration is None:
            return fitted
        facts = {"photos": describe_photos(distinct.values())}
        return replace(fitted, calibration=fitted.calibration.model_copy(update=facts))

    def _pictures(self, photo: Array, key: str) -> Iterator[tuple[Array, str]]:
        """Yield a photo and its copies, with the condition that each shows; "" is only remembered.

        ``key`` tells the photo's noise from that of others.
        """
        yield photo, "clean"
        if "mirrored" in self.copies:
            yield np.ascontiguousarray(photo[:, ::-1]), ""
        if "turned" in self.copies:
            yield from ((np.ascontiguousarray(np.rot90(photo, turns)), "") for turns in (1, 2, 3))
        if "brightened" in self.copies:
            yield from ((_brighter(photo, factor), "") for factor in (0.9, 1.1))
        for name in self.shift_names:
            kind, severity = parse_corruption(name)
            yield corrupt(photo, kind, severity, key=key), name

    def _remember(
        self,
        empty: MemoryScorer,
        rows: Mapping[int, Sequence[Floats]],
        owners: np.ndarray[tuple[int], np.dtype[np.int64]],
        progress: Progress | None,
    ) -> MemoryScorer:
        memories, kept = {}, {}
        for size, parts in rows.items():
            features = np.concatenate(parts)  # (pictures, P, C)
            flat = features.reshape(-1, features.shape[-1])
            chosen = coreset(flat, self.rows, self.seed, stage(progress, "memory"))
            memories[size] = np.ascontiguousarray(flat[chosen])
            kept[size] = np.repeat(owners, features.shape[1])[chosen].astype(np.int64)
        return replace(empty, memories=memories, owners=kept)

    def _calibrated(
        self,
        scorer: MemoryScorer,
        features: ImageFeatures,
        photos: Sequence[int],
        conditions: Sequence[str],
        words: Mapping[str, Any],
    ) -> Fitted:
        """Set scale and zero by the good photos themselves, each judged by what the others left."""
        if len(set(photos)) > 1:
            found = scorer.leave_one_out(features, photos)
        else:  # a single photo has nothing to be compared with
            found = {size: np.full(f.shape[:2], USUAL) for size, f in features.patch_features.items()}
        clean = np.array([condition == "clean" for condition in conditions])
        scale = tuple(float(found[size][clean].mean()) for size in scorer.choices.sizes)
        scorer = scorer.with_choices(scale=scale)
        combined = scorer.combined(found)
        logs, peaks = np.log(top_mean(combined, self.top)), np.log(combined.max(1))
        said = np.zeros(len(features))
        if scorer.words is not None:
            said = scorer.words.judge(features, [(1, 1)] * len(features), maps=False).logits
        centre, middle = float(logs[clean].mean()), float(said[clean].mean())
        scorer = scorer.with_choices(centre=centre, words_centre=middle)
        logits = (logs - centre) / SPREAD + self.words_weight * (said - middle)
        calibration = None
        if len(set(photos)) >= FEWEST:
            calibration = self._threshold(logits, (peaks - centre) / SPREAD, np.array(conditions))
            self.outliers_ = odd_ones(logits[clean])
        return Fitted(scorer, words, calibration=calibration)

    def _threshold(self, logits: Doubles, peaks: Doubles, conditions: npt.NDArray[np.str_]) -> Calibration:
        """Return the highest of the thresholds that the conditions ask for, each from the same photos."""
        found = {}
        for condition in dict.fromkeys(conditions.tolist()):
            shown = conditions == condition
            found[condition] = from_good(logits[shown].tolist(), self.false_alarms)
        hardest = max(found, key=lambda condition: found[condition][1])
        rule, threshold, promised = found[hardest]
        hot = max(
            from_good(peaks[conditions == condition].tolist(), self.false_alarms)[1] for condition in found
        )
        return Calibration(
            detector="",
            rule=rule,
            threshold=threshold,
            good=tuple(np.sort(logits[conditions == hardest]).tolist()),
            false_alarms=self.false_alarms,
            promise=promised,
            left_out=True,
            map_threshold=hot,
            shifts=self.shift_names,
        )

    @override
    def _check_scorer(self, scorer: Scorer, backbone: ImageTower) -> None:
        super()._check_scorer(scorer, backbone)
        assert isinstance(scorer, MemoryScorer)
        width = backbone.patch_width
        if any(memory.shape[1] != width for memory in scorer.memories.values()):
            raise DetectorError(
                f"the memory in head.safetensors is not of patches of '{self.backbone}', which have {width} "
                "numbers; save the detector again"
            )

    @override
    def _card(self, words: Mapping[str, Any]) -> str:
        count = 0 if self.seen_.reference is None else len(set(self.seen_.reference.sha256_of_pixels))
        scorer = self.scorer_
        assert isinstance(scorer, MemoryScorer)
        kept = ", ".join(f"{len(memory):,} at {size} px" for size, memory in scorer.memories.items())
        proof = f" It was shown these shifts: {', '.join(self.shift_names)}." if self.shift_names else ""
        return (
            f"A memory of {count} good photo{'s' * (count != 1)} (patches: {kept}): what is unlike all of "
            f"them is anomalous.{proof}"
        )

    @override
    def _facts(self) -> dict[str, str]:
        weight = f"words of `{self.words}` with weight {self.words_weight:g}" if self.words_weight else "none"
        return {"Object": self.object or "unknown", "Words": weight}


def odd_ones(logits: Doubles) -> list[int]:
    """Return the places of good photos that lie far above the others, as flawed ones among them would."""
    middle = float(np.median(logits))
    spread = float(np.median(np.abs(logits - middle))) / 0.6745  # of a normal distribution
    return np.flatnonzero(logits > middle + ODD * max(spread, 0.3)).tolist()


def _brighter(photo: Array, factor: float) -> Array:
    return np.asarray(np.clip(photo.astype(np.float32) * factor, 0, 255), np.uint8)
