"""Scorers that compare patches with patches: of good photos, or of the other photos of a folder.

*Memory* (after PatchCore, Roth et al., CVPR 2022): a patch is as anomalous as the nearest patch of the good
photos is far. *Mutual* (after MuSc, Li et al., ICLR 2024): it is as anomalous as it is far from the nearest
patches of the photos it is like most. Both look at patch features at several input sizes, and both can be
fused with a score of words. Shapes: B images, P patches, C features of a patch, N remembered patches.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import override

from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.parameters import Record
from zeroflaw.runtime.features import FeatureRequest, Floats, ImageFeatures
from zeroflaw.runtime.heads import Arrays
from zeroflaw.runtime.processors import each, processor_count
from zeroflaw.runtime.scorer import Judgement, Scorer, Size, TextScorer
from zeroflaw.runtime.scores import Doubles, upsample

NEAR = 1e-6  # smallest distance: an exact copy still has finite log-odds
TWIN = 1e-5  # distance of the same patch of a photo and its copy, at most
SPREAD = 0.15  # of the logarithm of distances among good photos of one product: one unit of log-odds
LEAST = 64  # patches of a photo that are compared at a time
FEWEST = 4  # photos that can be compared with one another

PatchSize = Annotated[int, Field(ge=1, le=4096)]


class PatchSpec(Record):
    """How distances of patches become scores.

    Attributes:
        sizes: input sizes in pixels at which patches are compared.
        top: patches whose mean distance is the image's.
        scale: usual distance at each size, by which distances are divided before they are added.
        centre: logarithm of the usual highest distance of a good photo.
        words_weight: of the words' log-odds beside the distances' (0: no words).
        words_centre: usual log-odds of the words on good photos.
        share: of the partners, the nearest, whose mean distance counts (mutual scoring).
        degrees: sides of the neighbourhoods whose mean feature stands for a patch, each a score of its own
            (MuSc's aggregation degrees).
    """

    sizes: Annotated[tuple[PatchSize, ...], Field(min_length=1)]
    top: Annotated[int, Field(ge=1, le=1000)] = 5
    scale: tuple[Annotated[float, Field(gt=0)], ...] = ()
    centre: float = 0.0
    words_weight: Annotated[float, Field(ge=0, le=100)] = 0.3
    words_centre: float = 0.0
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    degrees: Annotated[tuple[Annotated[int, Field(ge=1, le=15)], ...], Field(min_length=1)] = (1,)


@dataclass(frozen=True)
class PatchScorer(Scorer):
    """What both scorers share: from distances to scores and maps.

    Named scores: that of the distances, and ``words`` where there are words.

    Attributes:
        choices: see `PatchSpec`.
        words: the scorer of words beside it, or None.
        inside: 1 for the patches of the finest grid that are looked at, (P,); empty for all of them.
    """

    own_name: ClassVar[str]

    choices: PatchSpec
    words: TextScorer | None = None
    inside: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @override
    def request(self, maps: bool) -> FeatureRequest:
        asked = FeatureRequest(patch_sizes=self.choices.sizes, image=False)
        return asked if self.words is None else asked | self.words.request(False)

    @abstractmethod
    def distances(self, features: ImageFeatures) -> dict[int, Doubles]:
        """Return the distance of every patch, (B, P) by input size."""

    @override
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> Judgement:
        return self.judge_distances(self.distances(features), features, sizes, maps=maps)

    def judge_distances(
        self, distances: Mapping[int, Doubles], features: ImageFeatures, sizes: Sequence[Size], *, maps: bool
    ) -> Judgement:
        """Judge images whose distances are known, (B, P) by input size."""
        combined = self.combined(distances)
        found = (np.log(top_mean(combined, self.choices.top)) - self.choices.centre) / SPREAD
        scores = {self.own_name: found}
        logits = found
        if self.words is not None:
            said = self.words.judge(features, sizes, maps=False).logits - self.choices.words_centre
            scores["words"] = said
            logits = found + self.choices.words_weight * said
        drawn = None
        if maps:
            side = math.isqrt(combined.shape[1])
            drawn = list(((np.log(combined) - self.choices.centre) / SPREAD).reshape(-1, side, side))
        return Judgement(logits, scores, drawn)

    def combined(self, found: Mapping[int, Doubles]) -> Doubles:
        """Return distances (B, P) on the finest grid: sums over input sizes, each divided by its scale."""
        finest = max(math.isqrt(distance.shape[1]) for distance in found.values())
        total = np.zeros((len(next(iter(found.values()))), finest * finest))
        for size, scale in zip(self.choices.sizes, self.choices.scale, strict=True):
            side = math.isqrt(found[size].shape[1])
            for row, picture in enumerate(found[size].reshape(-1, side, side)):
                total[row] += upsample(picture / scale, (finest, finest)).ravel()
        total = np.maximum(total, NEAR)
        if len(self.inside):
            total[:, self.inside == 0] = NEAR
        return total

    def with_choices(self, **changed: object) -> Self:
        """Return the same scorer with some of its choices changed."""
        return replace(self, choices=self.choices.model_copy(update=changed))


def top_mean(values: Doubles, top: int) -> Doubles:
    """Return the mean of the ``top`` largest values of each row, (B,)."""
    top = min(top, values.shape[1])
    return np.asarray(np.partition(values, -top, axis=1)[:, -top:].mean(1))


@dataclass(frozen=True)
class MemoryScorer(PatchScorer):
    """Distance to the nearest remembered patch of good photos.

    Attributes:
        memories: features of good photos, (N, C) by input size, of length one.
        owners: the photo that each row came from, (N,) by input size; copies of a photo are its own.
    """

    kind: ClassVar[str] = "memory"
    own_name: ClassVar[str] = "memory"

    memories: Mapping[int, Floats] = field(default_factory=dict)
    owners: Mapping[int, npt.NDArray[np.int64]] = field(default_factory=dict)

    @property
    def photos(self) -> int:
        """How many good photos something is remembered of."""
        return max(len(np.unique(owner)) for owner in self.owners.values())

    @override
    def distances(self, features: ImageFeatures) -> dict[int, Doubles]:
        return self._distances(features, [None] * len(features))

    def leave_one_out(self, features: ImageFeatures, photos: Sequence[int]) -> dict[int, Doubles]:
        """Return distances of the good photos themselves, each from what the others left in the memory."""
        return self._distances(features, photos)

    def _distances(self, features: ImageFeatures, photos: Sequence[int | None]) -> dict[int, Doubles]:
        """Return distances from what the memory holds of others than a photo, of each its own or None."""
        return {size: self._at(size, features.patch_features[size], photos) for size in self.choices.sizes}

    def _at(self, size: int, images: Floats, photos: Sequence[int | None]) -> Doubles:
        memory, owners = self.memories[size], self.owners[size]
        parts = -(-processor_count() // max(1, len(photos)))  # of a photo, so that no processor waits
        share = max(LEAST, -(-images.shape[1] // parts))
        jobs = [
            (image[start : start + share], photo)
            for image, photo in zip(images, photos, strict=True)
            for start in range(0, len(image), share)
        ]

        def near(job: tuple[Floats, int | None]) -> Doubles:
            return nearest(job[0], memory, None if job[1] is None else owners == job[1])

        return np.concatenate(each(near, jobs)).reshape(images.shape[:2])

    @override
    def spec(self) -> dict[str, object]:
        words = None if self.words is None else self.words.spec()
        return {"choices": self.choices.model_dump(mode="json"), "words": words}

    @override
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        heads = {} if self.words is None else self.words.arrays()
        return {
            **{f"words.{name}": value for name, value in heads.items()},
            **{f"memory.{size}": memory for size, memory in self.memories.items()},
            **{f"owner.{size}": owner for size, owner in self.owners.items()},
            **region_arrays(self.inside),
        }

    @classmethod
    @override
    def read(cls, spec: Mapping[str, object], arrays: Arrays) -> Self:
        choices, words = read_spec(spec, arrays)
        memories, owners = {}, {}
        for size in choices.sizes:
            memory, owner = arrays.get(f"memory.{size}"), arrays.get(f"owner.{size}")
            fits = memory is not None and owner is not None and memory.ndim == 2 and owner.ndim == 1
            if not fits or memory.dtype != np.float32 or owner.dtype != np.int64 or len(memory) != len(owner):  # type: ignore[union-attr,arg-type]
                raise DetectorError(
                    f"head.safetensors does not hold the memory of patches at {size} pixels that config.json "
                    "describes; save the detector again"
                )
            memories[size] = memory.astype(np.float32)  # type: ignore[union-attr]
            owners[size] = owner.astype(np.int64)  # type: ignore[union-attr]
        return cls(choices, words, read_region(arrays), memories, owners)


def read_spec(spec: Mapping[str, object], arrays: Arrays) -> tuple[PatchSpec, TextScorer | None]:
    """Read what every scorer of patches has: its choices, and its scorer of words.

    Raises:
        DetectorError: something is missing or wrong.
    """
    said, words = spec.get("choices"), spec.get("words")
    if not isinstance(said, dict) or not isinstance(words, dict | None):
        raise DetectorError("'scorer' in config.json lacks 'choices' or 'words'; save the detector again")
    choices = PatchSpec.read(said, "'scorer' in config.json", DetectorError)
    if len(choices.scale) != len(choices.sizes):
        raise DetectorError("'scorer' in config.json must hold one 'scale' a size; save the detector again")
    heads = {k.removeprefix("words."): v for k, v in arrays.items() if k.startswith("words.")}
    return choices, None if words is None else TextScorer.read(words, heads)


def region_arrays(inside: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.generic]]:
    """Return the region of interest as it is saved: nothing where all is looked at."""
    return {"inside": inside} if len(inside) else {}


def read_region(arrays: Arrays) -> npt.NDArray[np.int64]:
    """Read what `region_arrays` returned.

    Raises:
        DetectorError: it is no square grid of zeros and ones, or marks nothing.
    """
    inside = arrays.get("inside", np.zeros(0, np.int64))
    square = inside.ndim == 1 and math.isqrt(len(inside)) ** 2 == len(inside)
    known = set(np.unique(inside).tolist()) <= {0, 1}
    if inside.dtype != np.int64 or not square or not known or (len(inside) and not inside.any()):
        raise DetectorError("'inside' in head.safetensors is no region of interest; save the detector again")
    return inside.astype(np.int64)


def nearest(queries: Floats, memory: Floats, hidden: npt.NDArray[np.bool_] | None = None) -> Doubles:
    """Return ``1 - cos`` from the nearest row of a memory (N, C) for each query (P, C), all of length one.

    Rows that are ``hidden`` (N,) do not count; where none does, the distance is 1.
    """
    if not len(memory) or (hidden is not None and hidden.all()):
        return np.ones(len(queries))
    best = np.full(len(queries), -1.0, np.float32)
    for start in range(0, len(memory), 8192):
        alike = queries @ memory[start : start + 8192].T
        if hidden is not None:
            alike[:, hidden[start : start + 8192]] = -1
        np.maximum(best, alike.max(1), out=best)
    return np.maximum(1 - best.astype(np.float64), NEAR)


def coreset(
    rows: Floats, count: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> npt.NDArray[np.int64]:
    """Choose ``count`` rows that leave no other far away: greedy k-centre (PatchCore, section 3.2).

    As there, distances are taken in a random projection, to 64 numbers, and of at most 100,000 rows, drawn.

    Args:
        rows: features (N, C).
        count: rows to keep.
        seed: of projection, sample and first row.
        progress: called with rows chosen and rows in all, or None.

    Returns:
        Row numbers, rising.
    """
    if len(rows) <= count:
        return np.arange(len(rows))
    random = np.random.default_rng(seed)
    sample = np.sort(random.choice(len(rows), min(len(rows), 100_000), replace=False))
    projection = random.standard_normal((rows.shape[1], 64)).astype(np.float32) / 8
    points = rows[sample] @ projection
    lengths = np.square(points).sum(1)
    chosen = [int(random.integers(len(points)))]
    far = np.full(len(points), np.inf, np.float32)
    while len(chosen) < count:
        last = points[chosen[-1]]
        np.minimum(far, lengths - 2 * (points @ last) + lengths[chosen[-1]], out=far)
        chosen.append(int(far.argmax()))
        if progress is not None and len(chosen) % 256 == 0:
            progress(len(chosen), count)
    if progress is not None:
        progress(count, count)
    return np.sort(sample[np.array(chosen)])


@dataclass(frozen=True)
class MutualScorer(PatchScorer):
    """Every photo of a folder against some of the others.

    Attributes:
        partners: patch features (n, P, C) by input size, of the photos that all are compared with.
        partner_numbers: place of each partner among the judged photos: none is its own partner, nor is its
            copy.
        numbers: places of the photos of the next batch among all; () are all photos.
    """

    kind: ClassVar[str] = "mutual"
    own_name: ClassVar[str] = "mutual"
    whole_batch: ClassVar[bool] = True

    most_partners: int = 40
    seed: int = 0
    partners: Mapping[int, Floats] = field(default_factory=dict)
    partner_numbers: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()

    def choose(self, count: int) -> list[int]:
        """Draw the partners among ``count`` photos by the seed, rising.

        Raises:
            UsageError: there are too few photos.
        """
        require_several(count)
        order = np.random.default_rng(self.seed).permutation(count)
        return sorted(int(number) for number in order[: self.most_partners])

    def among(self, partners: ImageFeatures, numbers: Sequence[int]) -> MutualScorer:
        """Return the scorer that compares with these photos, whose places among all are ``numbers``."""
        features = {size: partners.patch_features[size] for size in self.choices.sizes}
        return replace(self, partners=features, partner_numbers=tuple(numbers))

    def centred(self, partners: ImageFeatures, found: Mapping[int, Doubles]) -> MutualScorer:
        """Return the scorer with scale and zero of the partners, whose distances are known."""
        ready = self.with_choices(scale=tuple(float(found[size].mean()) for size in self.choices.sizes))
        logs = np.log(top_mean(ready.combined(found), self.choices.top))
        words = 0.0
        if self.words is not None:
            sizes = [(1, 1)] * len(partners)
            words = float(np.median(self.words.judge(partners, sizes, maps=False).logits))
        return ready.with_choices(centre=float(np.median(logs)), words_centre=words)

    @override
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> Judgement:
        """Judge all photos at once, or, once partners are chosen, a batch of them."""
        if self.partners:
            return super().judge(features, sizes, maps=maps)
        numbers = self.choose(len(features))
        partners = features.rows(numbers)
        ready = self.among(partners, numbers)
        found = ready.distances(features)
        own = {size: distance[numbers] for size, distance in found.items()}
        return ready.centred(partners, own).judge_distances(found, features, sizes, maps=maps)

    @override
    def distances(self, features: ImageFeatures) -> dict[int, Doubles]:
        return self.distances_from(features, self.numbers or range(len(features)))

    def distances_from(self, features: ImageFeatures, numbers: Sequence[int]) -> dict[int, Doubles]:
        """Return mean distances from the nearest partners of photos with these places among all."""
        found = {}
        for size in self.choices.sizes:
            parts = []
            for degree in self.choices.degrees:
                known = smoothed(self.partners[size], degree)
                images = smoothed(features.patch_features[size], degree)
                one = functools.partial(self._one, known)
                parts.append(np.stack(each(one, list(zip(images, numbers, strict=True)))))
            found[size] = np.mean(parts, axis=0)
        return found

    def _one(self, known: Floats, photo: tuple[Floats, int]) -> Doubles:
        """Return the distances (P,) of a photo with its place among all, from partners (n, P, C)."""
        image, number = photo
        others = [
            row
            for row, partner in enumerate(self.partner_numbers)
            if partner != number and not _same(image, known[row])
        ]
        if not others:
            return np.full(len(image), NEAR)
        best = np.stack([(image @ known[row].T).max(1) for row in others], 1)  # (P, partners)
        distance = np.sort(1 - best.astype(np.float64), axis=1)
        kept = max(1, round(self.choices.share * len(others)))
        return np.asarray(np.maximum(distance[:, :kept].mean(1), NEAR))

    @override
    def spec(self) -> dict[str, object]:
        words = None if self.words is None else self.words.spec()
        more = {"most_partners": self.most_partners, "seed": self.seed}
        return {"choices": self.choices.model_dump(mode="json"), "words": words, **more}

    @override
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        heads = {} if self.words is None else self.words.arrays()
        return {**{f"words.{n}": value for n, value in heads.items()}, **region_arrays(self.inside)}

    @classmethod
    @override
    def read(cls, spec: Mapping[str, object], arrays: Arrays) -> Self:
        choices, words = read_spec(spec, arrays)
        most, seed = spec.get("most_partners"), spec.get("seed")
        if not isinstance(most, int) or not isinstance(seed, int):
            raise DetectorError(
                "'scorer' in config.json must hold 'most_partners' and 'seed'; save the detector again"
            )
        return cls(choices, words, read_region(arrays), most_partners=most, seed=seed)


def _same(one: Floats, other: Floats) -> bool:
    """Whether patch features (P, C) are those of one photo, which may lie in a folder twice."""
    return bool(((one * other).sum(-1) > 1 - TWIN).all())


def require_several(count: int) -> None:
    """Refuse to compare photos with one another where there are too few.

    Raises:
        UsageError: with the number that would do.
    """
    if count < FEWEST:
        raise UsageError(
            f"photos are compared with one another from {FEWEST} on, got {count}; give more of the same "
            "product, or good photos to compare with"
        )


def smoothed(features: Floats, degree: int) -> Floats:
    """Return the means of neighbourhoods of ``degree`` x ``degree`` patches, (B, P, C), of length one."""
    if degree == 1:
        return features
    side, reach = math.isqrt(features.shape[1]), degree // 2
    square = features.reshape(len(features), side, side, -1)
    padded = np.pad(square, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    total = sum(padded[:, y : y + side, x : x + side] for y in range(degree) for x in range(degree))
    flat = np.asarray(total, np.float32).reshape(features.shape)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), np.float32(NEAR)))


def rescored(scores: Doubles, embeddings: Floats, neighbours: Sequence[int]) -> Doubles:
    """Smooth image scores (N,) over like images (MuSc, section 3.4), the mean over several counts of them.

    Args:
        scores: of the images.
        embeddings: of the whole images, (N, E), of length one.
        neighbours: how many of the most similar images, the image itself among them.
    """
    if not neighbours:
        return scores
    result = np.zeros_like(scores)
    for start in range(0, len(scores), 1024):
        alike = embeddings[start : start + 1024].astype(np.float64) @ embeddings.T
        for count in neighbours:
            near = np.argpartition(-alike, min(count, len(scores)) - 1, axis=1)[:, :count]
            weight = np.take_along_axis(alike, near, 1)
            smooth = (weight * scores[near]).sum(1) / weight.sum(1)
            result[start : start + 1024] += smooth / len(neighbours)
    return result
