"""WinCLIP+: what a few photos of good products look like, beside the words.

Jeong et al., CVPR 2023, section 4.3: features of the good photos are kept, and a part of an image is as
anomalous as the nearest of them is far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from zeroflaw.detectors.association import Spread, distances, spread_distances
from zeroflaw.detectors.base import Request, sized, take_tensors
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.folder import LARGEST_HEAD
from zeroflaw.detectors.fusion import fuse
from zeroflaw.detectors.given import Given
from zeroflaw.detectors.winclip import Judgement, WinCLIP
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.runtime.stream import Array, Progress, batches
from zeroflaw.towers.model import ImageFeatures
from zeroflaw.towers.windows import harmonic_mean, make_windows

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

_BATCH = 8  # references embedded at a time
_HALF = {"prompt": 0.5, "reference": 0.5}


@dataclass(kw_only=True, eq=False)
class WinCLIPPlus(WinCLIP):
    """Few-shot WinCLIP+: the zero-shot detector and the distance from a few photos of good products.

    Memories hold the embeddings of all windows of the reference photos, one memory for each window size (or
    of all aligned patches where ``map_from`` says so), and the patch tokens of the last block but one.

    Attributes:
        image_score: "image" for the mean of the image's own score and the highest value of the reference map
            (the paper's), "map" for the highest value of the fused map.
        reference_spread: how distances of windows come back to the patches: by the "harmonic" mean of the
            windows that hold each patch, as zero-shot scores do, or by the plain "mean".
        map_fusion: how the zero-shot map and the reference map become one: their "mean" (the paper's; it
            orders patches as their sum does) or their "harmonic" mean.
    """

    name: ClassVar[str] = "winclip-plus"
    needs: ClassVar[Needs] = Needs(words=True, reference_images=True)
    source: ClassVar[str] = "WinCLIP+ (Jeong et al., CVPR 2023, section 4.3)"

    reference_spread: Spread = "harmonic"
    map_fusion: Literal["mean", "harmonic"] = "mean"

    memories_: dict[str, Tensor] | None = field(init=False, default=None, repr=False)
    tiles_: Tensor | None = field(init=False, default=None, repr=False)

    def _check_backbone(self, backbone: Backbone) -> None:
        """Refuse a backbone without these windows, or without a block before the last."""
        super()._check_backbone(backbone)
        if backbone.model.config.vision.layers < 2:
            raise UsageError(
                f"'{self.name}' compares patch tokens of the last block but one, but the image tower of "
                f"'{self.backbone}' has a single block; use another backbone"
            )

    def _fit(
        self, backbone: Backbone, given: Given, checkpoint: Path | None, progress: Progress | None
    ) -> dict[str, Any]:
        tiles = torch.tensor([len(self._tiles(sized(image))) for image in given.reference])
        self._check_room(backbone, tiles)
        memories = self._remembered(backbone, given.reference, progress)
        words = super()._fit(backbone, given, checkpoint, progress)
        self.memories_, self.tiles_ = memories, tiles
        return words

    def _check_room(self, backbone: Backbone, tiles: Tensor) -> None:
        """Refuse more references than a detector's folder may hold, before they are embedded."""
        each = 4 * sum(rows * width for rows, width in self._shapes(backbone).values())  # bytes, float32
        room = LARGEST_HEAD - 2**20  # a little for everything else
        needed = int(tiles.sum()) * each
        if needed > room:
            raise UsageError(
                f"'{self.name}' would keep {needed / 2**20:,.0f} MiB of {len(tiles):,} reference images, and "
                f"{room / 2**20:,.0f} MiB is the most; give it {len(tiles) * room // needed:,} or fewer"
            )

    def _shapes(self, backbone: Backbone) -> dict[str, tuple[int, int]]:
        """Rows and width of each memory for one picture."""
        patches = backbone.grid[0] * backbone.grid[1]
        parts = {
            name: (len(make_windows(backbone.grid, size, self.window_stride).index), backbone.embed_dim)
            for name, size in self._windows(backbone).items()
        } or {"patches": (patches, backbone.embed_dim)}
        return {**parts, "tokens": (patches, backbone.model.config.vision.width)}

    def _windows(self, backbone: Backbone) -> dict[str, int]:
        """Names of the memories of windows with their sizes; none where aligned patches take their place."""
        if backbone.has_aligned_patches and self.map_from != "windows":
            return {}
        return {f"window_{size}": size for size in self.window_sizes}

    def request(self, maps: bool) -> Request:
        """Return what `predict_features` must be given; the reference map is always needed."""
        self._require_fit()
        return self._asked(self.backbone_)

    def _asked(self, backbone: Backbone) -> Request:
        windows = tuple((size, self.window_stride) for size in self._windows(backbone).values())
        return Request(windows, patches=not windows, layers=(_last_but_one(backbone),))

    def _remembered(
        self, backbone: Backbone, images: Sequence[Array], progress: Progress | None
    ) -> dict[str, Tensor]:
        """Embed the references: one list (N, width) of features for each memory."""
        request, parts, done = self._asked(backbone), [], 0
        for batch in batches(images, _BATCH):
            parts.append(self._parts(backbone, self._embedded(backbone, batch, request), request))
            done += len(batch)
            if progress is not None:
                progress("reference images", done, len(images))
        return {name: torch.cat([part[name] for part in parts]).flatten(0, 1) for name in parts[0]}

    def _parts(self, backbone: Backbone, features: ImageFeatures, request: Request) -> dict[str, Tensor]:
        """Return what is compared, by the name of its memory, (T, rows, width)."""
        parts = {
            name: features.windows[request.windows.index((size, self.window_stride))]
            for name, size in self._windows(backbone).items()
        }
        if not parts:
            assert features.patches is not None
            parts["patches"] = features.patches
        return {**parts, "tokens": features.layers[_last_but_one(backbone)]}

    def _grids(
        self, features: ImageFeatures, request: Request, image: Tensor, zero_shot: bool
    ) -> dict[str, Tensor]:
        """Maps of all tiles by name, log-odds (T, rows, columns); the zero-shot one only if it is wanted."""
        grids = super()._grids(features, request, image, zero_shot)
        return {**grids, "reference": self._reference_map(features, request)}

    def _reference_map(self, features: ImageFeatures, request: Request) -> Tensor:
        """Mean over the memories of how far every patch is from them, log-odds (T, rows, columns)."""
        assert self.memories_ is not None
        windows = self._windows(self.backbone_)
        maps = {}
        for name, queries in self._parts(self.backbone_, features, request).items():
            found = distances(queries, self.memories_[name])
            if name in windows:
                held = make_windows(features.grid, windows[name], self.window_stride)
                maps[name] = spread_distances(found, held, self.reference_spread)
            else:
                maps[name] = torch.logit(found)
        return fuse(maps, dict.fromkeys(maps, 1 / len(maps))).reshape(-1, *features.grid)

    def _judge(self, image: Tensor, grids: Mapping[str, Tensor]) -> Judgement:
        """Decide on one image from its own log-odds () and its maps (rows, columns)."""
        scores = {"prompt": image, "reference": grids["reference"].amax()}
        whole = fuse(scores, _HALF)
        if "prompt" not in grids:
            return Judgement(whole, scores, None)
        drawn = harmonic_mean(list(grids.values())) if self.map_fusion == "harmonic" else fuse(grids, _HALF)
        scores["prompt_part"] = grids["prompt"].amax()
        return Judgement(drawn.amax() if self.image_score == "map" else whole, scores, drawn)

    def _state(self) -> dict[str, Tensor]:
        assert self.memories_ is not None
        assert self.tiles_ is not None
        memories = {f"memory.{name}": memory for name, memory in self.memories_.items()}
        return {**super()._state(), **memories, "memory.tiles": self.tiles_}

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        mine = {name: tensor for name, tensor in tensors.items() if name.startswith("memory.")}
        super()._restore({name: tensor for name, tensor in tensors.items() if name not in mine})
        images = (self.seen_ or {}).get("reference", {}).get("images")
        tiles = mine.get("memory.tiles")
        if tiles is None or tiles.dtype != torch.int64 or list(tiles.shape) != [images]:
            raise DetectorError(
                f"'memory.tiles' in head.safetensors must say how many tiles each of the {images} reference "
                "images has; save the detector again"
            )
        pictures = int(tiles.sum())
        wanted = {
            f"memory.{name}": (pictures * rows, width)
            for name, (rows, width) in self._shapes(self.backbone_).items()
        }
        memories = take_tensors(mine, {**wanted, "memory.tiles": (images,)}, whole={"memory.tiles"})
        self.tiles_ = memories.pop("memory.tiles")
        self.memories_ = {name.removeprefix("memory."): memory for name, memory in memories.items()}

    def _card(self) -> str:
        assert self.memories_ is not None
        assert self.tiles_ is not None
        kept = ", ".join(f"{len(memory):,} of `{name}`" for name, memory in self.memories_.items())
        return (
            f"{super()._card()}\nBeside the words, every part is compared with {len(self.tiles_)} photos of "
            f"good products, of which features are kept: {kept}."
        )

    def _facts(self) -> dict[str, str]:
        score = {
            "image": "mean of the whole image's score and the highest value of the reference map",
            "map": "highest value of the fused map",
        }
        return {**super()._facts(), "Score": score[self.image_score]}


def _last_but_one(backbone: Backbone) -> int:
    """The block, counted from 1, whose patch tokens are remembered."""
    return backbone.model.config.vision.layers - 1
