"""The scorer of WinCLIP and WinCLIP+: prompts against the image and its windows, and good photos beside them.

Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023, sections 4.2 and
4.3. What the paper leaves open, and where its public implementations differ, is in `WinCLIPSpec`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from zeroflaw.errors import DetectorError
from zeroflaw.parameters import Record
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.heads import Arrays, LinearHead
from zeroflaw.runtime.scorer import Judgement, Named, Parts, Scorer, Size, read_heads
from zeroflaw.runtime.scores import Doubles, fuse, harmonic_map, harmonic_mean, logit, make_windows
from zeroflaw.runtime.tiles import Tiles

NEAR = 1e-12  # smallest distance: an exact copy of a reference still has finite log-odds
_AT_ONCE = 4096  # queries and references compared at a time; bounds the memory, however many there are
_HALF = {"prompt": 0.5, "reference": 0.5}

Side = Literal["anomalous", "normal"]
Spread = Literal["harmonic", "mean"]


class WinCLIPSpec(Record):
    """Choices of a `WinCLIPScorer`; see the parameters of `zeroflaw.detectors.winclip`.

    Attributes:
        token_layer: block, counted from 1, whose patch tokens are compared with those of good photos.
    """

    parts: Parts
    image_in_map: bool = True
    harmonic_over: Side = "anomalous"
    image_score: Literal["image", "map"] = "image"
    tile: bool = False
    reference_spread: Spread = "harmonic"
    map_fusion: Spread = "mean"
    token_layer: int = 0


@dataclass(frozen=True)
class WinCLIPScorer(Scorer):
    """Two prototypes and, where there are good photos, memories of what they look like.

    Named scores: ``prompt`` (the image between the prototypes), ``prompt_part`` (the highest value of the
    zero-shot map) and ``reference`` (that of the map of distances).

    Attributes:
        head: between the two prototypes.
        choices: everything else.
        memories: features of good photos, (N, C) by what they are features of: ``window_2`` ..., or
            ``patches``; and ``tokens``. None at all for zero-shot WinCLIP.
    """

    kind: ClassVar[str] = "winclip"

    head: LinearHead
    choices: WinCLIPSpec
    memories: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    @override
    def request(self, maps: bool) -> FeatureRequest:
        tile = FeatureRequest(tile=self.choices.tile)
        if self.memories:
            return memory_request(self.choices)
        if maps or self.choices.image_score == "map":
            return self.choices.parts.request | tile
        return tile

    @override
    def judge(self, features: ImageFeatures, sizes: Sequence[Size], *, maps: bool) -> Judgement:
        cut = [Tiles.of(size, tile=self.choices.tile) for size in sizes]
        rows = [0, *accumulate(len(tiles) for tiles in cut)]
        own = self.head(features.image)
        grids: dict[str, Doubles] = {}
        if maps or self.choices.image_score == "map":
            grids["prompt"] = self._zero_shot(features, own)
        if self.memories:
            grids["reference"] = self._distances(features)
        found = [
            self._one(tiles.mean(own[a:b]), {name: tiles.merge(grid[a:b]) for name, grid in grids.items()})
            for tiles, (a, b) in zip(cut, pairwise(rows), strict=True)
        ]
        logits = np.array([logits for logits, _, _ in found])
        names = found[0][1]
        scores = {name: np.array([scores[name] for _, scores, _ in found]) for name in names}
        drawn = [drawn for _, _, drawn in found if drawn is not None]
        return Judgement(logits, scores, drawn if maps else None)

    def _zero_shot(self, features: ImageFeatures, own: Doubles) -> Doubles:
        """Harmonic mean of image and windows of each size (section 4.2), or of image and patches."""
        # Normal windows dominate the mean of anomalous probabilities, anomalous ones that of normal ones.
        sign = 1.0 if self.choices.harmonic_over == "anomalous" else -1.0
        scales = self.choices.parts.scales(features, self.head, sign)
        if self.choices.image_in_map:
            scales.append(np.broadcast_to(sign * own[:, None], scales[0].shape))
        return (sign * harmonic_mean(scales)).reshape(-1, *features.grid)

    def _distances(self, features: ImageFeatures) -> Doubles:
        """Mean over the memories of how far every patch is from them, log-odds (T, rows, columns)."""
        parts = self.choices.parts
        maps = {}
        for name, queries in remembered(features, self.choices).items():
            found = distances(queries, self.memories[name])
            if name.startswith("window_"):
                windows = make_windows(features.grid, int(name.removeprefix("window_")), parts.stride)
                if self.choices.reference_spread == "harmonic":
                    maps[name] = harmonic_map(logit(found), windows)
                else:
                    maps[name] = logit(found @ windows.cover / windows.count)
            else:
                maps[name] = logit(found)
        return fuse(maps, dict.fromkeys(maps, 1 / len(maps))).reshape(-1, *features.grid)

    def _one(self, image: Doubles, grids: Named) -> tuple[Doubles, Named, Doubles | None]:
        """Decide on one image from its own log-odds () and its maps (rows, columns)."""
        scores = {"prompt": image}
        if self.memories:
            scores["reference"] = grids["reference"].max()
        whole = fuse(scores, _HALF) if self.memories else image
        if "prompt" not in grids:
            return whole, scores, None
        scores["prompt_part"] = grids["prompt"].max()
        drawn = grids["prompt"]
        if self.memories:
            harmonic = self.choices.map_fusion == "harmonic"
            drawn = harmonic_mean(list(grids.values())) if harmonic else fuse(grids, _HALF)
        return (drawn.max() if self.choices.image_score == "map" else whole), scores, drawn

    @override
    def spec(self) -> dict[str, object]:
        return self.choices.model_dump(mode="json")

    @override
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {
            **{f"prompt.{key}": value for key, value in self.head.arrays().items()},
            **{f"memory.{name}": memory for name, memory in self.memories.items()},
        }

    @classmethod
    @override
    def read(cls, spec: Mapping[str, object], arrays: Arrays) -> Self:
        choices = WinCLIPSpec.read(spec, "'scorer' in config.json", DetectorError)
        memories = {k.removeprefix("memory."): v for k, v in arrays.items() if k.startswith("memory.")}
        heads = read_heads({key: value for key, value in arrays.items() if not key.startswith("memory.")})
        head = heads.pop("prompt", None)
        flat = all(m.ndim == 2 and m.dtype == np.float32 and len(m) for m in memories.values())
        named = set(memories) in (set(), set(memory_names(choices)))
        if not isinstance(head, LinearHead) or heads or not flat or not named:
            raise DetectorError(
                "head.safetensors does not hold the prototypes and memories that config.json describes; save "
                "the detector again"
            )
        return cls(head, choices, {name: m.astype(np.float32) for name, m in memories.items()})


def memory_names(choices: WinCLIPSpec) -> list[str]:
    """Return the names of the memories: one for each window size, or the aligned patches; and the tokens."""
    parts = choices.parts
    windows = [f"window_{size}" for size in parts.sizes] if parts.source == "windows" else ["patches"]
    return [*windows, "tokens"]


def memory_request(choices: WinCLIPSpec) -> FeatureRequest:
    """Return what must be asked of images that are compared with good ones, or remembered."""
    return choices.parts.request | FeatureRequest(layers=(choices.token_layer,), tile=choices.tile)


def remembered(features: ImageFeatures, choices: WinCLIPSpec) -> dict[str, npt.NDArray[np.float32]]:
    """Return what is compared, by the name of its memory, (T, rows, C)."""
    parts = choices.parts
    found = {"tokens": features.layers[choices.token_layer]}
    if parts.source == "patches":
        assert features.patches is not None
        return {"patches": features.patches, **found}
    return {f"window_{size}": features.windows[size, parts.stride] for size in parts.sizes} | found


def distances(queries: npt.NDArray[np.floating], memory: npt.NDArray[np.floating]) -> Doubles:
    """Return ``min (1 - cos) / 2`` over the memory for every query, in [NEAR, 1 - NEAR] (section 4.3).

    In double precision: of near copies, single precision would only see its own rounding.

    Args:
        queries: features (T, Q, C), of any length.
        memory: features of good images, (N, C).

    Returns:
        Distances (T, Q).
    """
    rows = _unit(queries.reshape(-1, queries.shape[-1]))
    best = np.full(len(rows), -1.0)
    for start in range(0, len(memory), _AT_ONCE):
        known = _unit(memory[start : start + _AT_ONCE]).T
        for first in range(0, len(rows), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            best[part] = np.maximum(best[part], (rows[part] @ known).max(1))
    return np.clip((1 - best) / 2, NEAR, 1 - NEAR).reshape(queries.shape[:2])


def _unit(rows: npt.NDArray[np.floating]) -> Doubles:
    doubles = rows.astype(np.float64)
    return np.asarray(doubles / np.maximum(np.linalg.norm(doubles, axis=-1, keepdims=True), 1e-12))
