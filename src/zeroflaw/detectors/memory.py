"""Good photos as a memory: what is unlike all of them is anomalous, beside what the words say.

After PatchCore (Roth et al., CVPR 2022) with the features of the detector's own backbone, at two input sizes.
The good photos also set the threshold: each is judged by what the others left in the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import override

from zeroflaw.corruptions import corrupt, parse_corruption
from zeroflaw.detectors.base import Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs, Step, digest
from zeroflaw.detectors.patch import BATCH, PatchDetector, Share
from zeroflaw.detectors.tiled import TiledPhoto
from zeroflaw.parameters import parameters
from zeroflaw.runtime.calibration import FEWEST, Calibration, from_good
from zeroflaw.runtime.drift import describe_photos, facts_of
from zeroflaw.runtime.features import Floats, ImageFeatures
from zeroflaw.runtime.memory import SPREAD, MemoryScorer, coreset, top_mean
from zeroflaw.runtime.scorer import Scorer, Size
from zeroflaw.runtime.scores import Doubles
from zeroflaw.runtime.stream import Array, batches
from zeroflaw.runtime.tower import ImageTower, embed, sized

Photo = Array | TiledPhoto
MOST_TILES = 200  # that are remembered, of all good photos together
ODD = 6.0  # robust standard deviations above the others at which a good photo looks like no good one
COPIED = 0.15  # of the usual distance of two good photos: nearer ones show the same
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
class Memory(PatchDetector[MemoryScorer]):
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
        outliers_: places of good photos that look like no good one.
        twins_: places of good photos that show the same as another, or nearly, and of those: one counts.
    """

    name: ClassVar[str] = "memory"
    needs: ClassVar[Needs] = Needs(words=True, reference_images=True)
    source: ClassVar[str] = "after PatchCore (Roth et al., CVPR 2022)"
    scorer_class: ClassVar[type[Scorer]] = MemoryScorer
    tiles_references: ClassVar[bool] = True

    rows: Annotated[int, Field(ge=16, le=200_000)] = 20_000
    copies: tuple[Copy, ...] = ()
    shifts: tuple[str, ...] = ()
    false_alarms: Share = 0.05

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.outliers_: list[int] = []
        self.twins_: dict[int, int] = {}
        for name in self.shift_names:
            parse_corruption(name)

    @property
    def shift_names(self) -> tuple[str, ...]:
        """Shifts by name, "default" spelt out."""
        return tuple(dict.fromkeys(n for s in self.shifts for n in (SHIFTS if s == "default" else (s,))))

    @override
    def _fit(self, backbone: ImageTower, inputs: FitInputs) -> Fitted[MemoryScorer]:
        self.notes_, self.outliers_, self.twins_ = [], [], {}
        words, said = self._word_scorer(inputs)
        given: Sequence[Photo] = inputs.tiled or inputs.reference
        empty = MemoryScorer(self._spec(backbone), words, self._inside(backbone, _size(given[0])))
        places: dict[str, int] = {}  # of the first of equal photos, by what tells it from others
        for place, photo in enumerate(given):
            key = photo.sha256 if isinstance(photo, TiledPhoto) else digest(photo)
            if (first := places.setdefault(key, place)) != place:
                self.twins_[place] = first
        photos = {key: given[place] for key, place in places.items()}
        pictures = self._embedded(backbone, empty, photos, inputs.stage("good photos"))
        if not inputs.tiled:
            same = near_copies(pictures.features.patch_features[min(empty.choices.sizes)][pictures.clean])
            kept = same == np.arange(len(same))
            numbers = list(places.values())
            self.twins_ |= {numbers[place]: numbers[same[place]] for place in np.flatnonzero(~kept).tolist()}
            photos = {key: photo for (key, photo), keep in zip(photos.items(), kept, strict=True) if keep}
            pictures = pictures.of(kept)
        scorer = self._remember(empty, pictures, inputs.stage("memory"))
        scorer, logits, peaks = self._centred(scorer, pictures)
        if len(photos) < FEWEST:
            return Fitted(scorer, said)
        if inputs.tiled:
            highest = self._judge_tiled(backbone, scorer, photos, inputs.stage("thresholds"))
            condition = np.array([shown for _, shown in highest])
            logits, peaks = np.array(list(highest.values())).T
        else:
            condition = pictures.conditions[pictures.judged]
        firsts = [places[key] for key in photos]
        self.outliers_ = [firsts[number] for number in odd_ones(logits[condition == "clean"])]
        tiled = [photo for photo in photos.values() if isinstance(photo, TiledPhoto)]
        whole = [photo for photo in photos.values() if not isinstance(photo, TiledPhoto)]
        facts = {
            "photos": facts_of([one.size for one in tiled], [one.photo for one in tiled])
            if tiled
            else describe_photos(whole)
        }
        calibration = self._threshold(logits, peaks, condition).model_copy(update=facts)
        return Fitted(scorer, said, calibration=calibration)

    def _embedded(
        self, backbone: ImageTower, empty: MemoryScorer, photos: Mapping[str, Photo], step: Step
    ) -> Pictures:
        parts: list[ImageFeatures] = []
        owners: list[int] = []
        conditions: list[str] = []
        for batch in batches(self._pictures(photos, max(1, MOST_TILES // len(photos))), BATCH):
            parts.append(embed(backbone, [picture for _, picture, _ in batch], empty.request(False)))
            owners += [number for number, _, _ in batch]
            conditions += [condition for _, _, condition in batch]
            step(owners[-1] + 1, len(photos))
        return Pictures(ImageFeatures.join(parts), np.array(owners), np.array(conditions))

    def _pictures(
        self, photos: Mapping[str, Photo], most: int | None = None
    ) -> Iterator[tuple[int, Array, str]]:
        """Yield the photos and their copies: number of the photo, pixels, and the condition that is shown.

        The condition "" is only remembered. Noise differs from photo to photo, by what they are named. Of a
        photo in tiles, its tiles, at most ``most``, drawn by the seed.
        """
        random = np.random.default_rng(self.seed)
        for number, (key, photo) in enumerate(photos.items()):
            if not isinstance(photo, TiledPhoto):
                yield from ((number, *shown) for shown in self._copies(photo, key))
                continue
            count = len(photo.tiling)
            drawn = set(range(count) if most is None else random.permutation(count)[:most].tolist())
            for place, tile in enumerate(photo.tiles()):
                if place in drawn:
                    yield from ((number, *shown) for shown in self._copies(tile, f"{key} {place}"))

    def _copies(self, photo: Array, key: str) -> Iterator[tuple[Array, str]]:
        """Yield a picture and its copies, each with its condition."""
        yield photo, "clean"
        copies = [photo[:, ::-1]] if "mirrored" in self.copies else []
        if "turned" in self.copies:
            copies += [np.rot90(photo, turns) for turns in (1, 2, 3)]
        if "brightened" in self.copies:
            copies += [_brighter(photo, factor) for factor in (0.9, 1.1)]
        yield from ((np.ascontiguousarray(copy), "") for copy in copies)
        for name in self.shift_names:
            kind, severity = parse_corruption(name)
            yield corrupt(photo, kind, severity, key=key), name

    def _judge_tiled(
        self, backbone: ImageTower, scorer: MemoryScorer, photos: Mapping[str, Photo], step: Step
    ) -> dict[tuple[int, str], tuple[float, float]]:
        """Judge every tile of the good photos by what the other photos left in the memory.

        Returns:
            By photo and condition: highest log-odds of a tile, and of a place of a map.
        """
        best: dict[tuple[int, str], tuple[float, float]] = {}
        shown = (one for one in self._pictures(photos) if one[2])
        for batch in batches(shown, BATCH):
            tiles = [tile for _, tile, _ in batch]
            features = embed(backbone, tiles, scorer.request(False))
            distances = scorer.leave_one_out(features, [number for number, _, _ in batch])
            said = scorer.judge_distances(distances, features, list(map(sized, tiles)), maps=True)
            assert said.maps is not None
            for (number, _, condition), logit, drawn in zip(batch, said.logits, said.maps, strict=True):
                before = best.get((number, condition), (-np.inf, -np.inf))
                best[number, condition] = max(before[0], float(logit)), max(before[1], float(drawn.max()))
            step(batch[-1][0] + 1, len(photos))
        return best

    def _remember(
        self,
        empty: MemoryScorer,
        pictures: Pictures,
        progress: Step,
    ) -> MemoryScorer:
        memories, kept = {}, {}
        for size, features in pictures.features.patch_features.items():  # (pictures, P, C)
            flat = features.reshape(-1, features.shape[-1])
            chosen = coreset(flat, self.rows, self.seed, progress)
            memories[size] = np.ascontiguousarray(flat[chosen])
            kept[size] = np.repeat(pictures.owners, features.shape[1])[chosen].astype(np.int64)
        return replace(empty, memories=memories, owners=kept)

    def _centred(
        self,
        scorer: MemoryScorer,
        pictures: Pictures,
    ) -> tuple[MemoryScorer, Doubles, Doubles]:
        """Set scale and zero by the good photos themselves, each judged by what the others left.

        Returns:
            The scorer, and log-odds and peaks of the maps of all that was judged.
        """
        features = pictures.features.rows(np.flatnonzero(pictures.judged).tolist())
        photos, clean = pictures.owners[pictures.judged].tolist(), pictures.clean[pictures.judged]
        if len(set(photos)) > 1:
            found = scorer.leave_one_out(features, photos)
        else:  # a single photo has nothing to be compared with
            found = {size: np.full(f.shape[:2], USUAL) for size, f in features.patch_features.items()}
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
        return scorer, logits, (peaks - centre) / SPREAD

    def _threshold(self, logits: Doubles, peaks: Doubles, conditions: npt.NDArray[np.str_]) -> Calibration:
        """Return the highest of the thresholds that the conditions ask for, each from the same photos."""
        each = [conditions == condition for condition in dict.fromkeys(conditions.tolist())]
        found = [(from_good(logits[shown].tolist(), self.false_alarms), shown) for shown in each]
        (rule, threshold, promised), hardest = max(found, key=lambda one: one[0][1])
        return Calibration(
            detector="",
            rule=rule,
            threshold=threshold,
            good=tuple(np.sort(logits[hardest]).tolist()),
            false_alarms=self.false_alarms,
            promise=promised,
            left_out=True,
            map_threshold=max(from_good(peaks[shown].tolist(), self.false_alarms)[1] for shown in each),
            shifts=self.shift_names,
        )

    @override
    def _fits(self, scorer: MemoryScorer, backbone: ImageTower) -> bool:
        width = backbone.patch_width
        widths = all(memory.shape[1] == width for memory in scorer.memories.values())
        return widths and super()._fits(scorer, backbone)


@dataclass(frozen=True)
class Pictures:
    """Good photos and their copies, embedded.

    Attributes:
        features: of B pictures.
        owners: place of the photo that each shows, (B,).
        conditions: what each shows of it, (B,); "" is only remembered.
    """

    features: ImageFeatures
    owners: npt.NDArray[np.int64]
    conditions: npt.NDArray[np.str_]

    @property
    def judged(self) -> npt.NDArray[np.bool_]:
        """Which are judged, too, (B,)."""
        return np.not_equal(self.conditions, "")

    @property
    def clean(self) -> npt.NDArray[np.bool_]:
        """Which are the photos themselves, (B,)."""
        return np.equal(self.conditions, "clean")

    def of(self, kept: npt.NDArray[np.bool_]) -> Pictures:
        """Return the pictures of some of the photos; of all, nothing is copied."""
        if kept.all():
            return self
        rows = np.flatnonzero(kept[self.owners])
        return Pictures(self.features.rows(rows.tolist()), self.owners[rows], self.conditions[rows])


def odd_ones(logits: Doubles) -> list[int]:
    """Return the places of good photos that lie far above the others, as flawed ones among them would."""
    middle = float(np.median(logits))
    spread = float(np.median(np.abs(logits - middle))) / 0.6745  # of a normal distribution
    return np.flatnonzero(logits > middle + ODD * max(spread, 0.3)).tolist()


def near_copies(patches: Floats) -> npt.NDArray[np.int64]:
    """Return the place of the first photo that shows the same, for each of patches (B, P, C): mostly its own.

    Saved again, scaled, a little brighter, or taken twice in the same moment: such photos would be each
    other's nearest in the memory, and say of good parts that they are more alike than they are. Of 137 kinds
    of good things, re-saved copies are at most .15 times as far apart as photos of two parts usually are, and
    brighter ones .25; other photos are nearer than that of 3 kinds: frames of one moment, overlapping crops.
    """
    count = len(patches)
    flat = patches.reshape(count, -1)
    first = np.arange(count)
    if count < 3:  # of two photos nobody knows how far apart parts usually are
        return first
    apart = 1 - (flat @ flat.T) / patches.shape[1]
    usual = np.median(apart[~np.eye(count, dtype=bool)].reshape(count, -1), axis=1)
    near = apart < COPIED * usual[:, None]
    near |= near.T
    for place in range(1, count):
        if len(same := np.flatnonzero(near[place, :place])):
            first[place] = first[same[0]]
    return first


def _size(photo: Photo) -> Size:
    return photo.size if isinstance(photo, TiledPhoto) else sized(photo)


def _brighter(photo: Array, factor: float) -> Array:
    return np.asarray(np.clip(photo.astype(np.float32) * factor, 0, 255), np.uint8)
