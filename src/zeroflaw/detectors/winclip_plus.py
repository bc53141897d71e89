"""WinCLIP+: what a few photos of good products look like, beside the words.

Jeong et al., CVPR 2023, section 4.3: features of the good photos are kept, and a part of an image is as
anomalous as the nearest of them is far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from typing_extensions import override

from zeroflaw.detectors.base import Fitted
from zeroflaw.detectors.contract import Needs
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.detectors.winclip import WinCLIP
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.parameters import parameters
from zeroflaw.runtime.features import Floats
from zeroflaw.runtime.folder import LARGEST_HEAD
from zeroflaw.runtime.scorer import Scorer
from zeroflaw.runtime.scores import make_windows
from zeroflaw.runtime.stream import Array, Progress, batches
from zeroflaw.runtime.tiles import Tiles
from zeroflaw.runtime.tower import embed, sized
from zeroflaw.runtime.winclip import Spread, WinCLIPScorer, WinCLIPSpec, memory_request, remembered

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

_BATCH = 8  # references embedded at a time


@parameters
class WinCLIPPlus(WinCLIP):
    """Few-shot WinCLIP+: the zero-shot detector and the distance from a few photos of good products.

    Memories hold the embeddings of all windows of the reference photos, one memory for each window size (or
    of all aligned patches where ``map_from`` says so), and the patch tokens of one block.

    Attributes:
        image_score: "image" for the mean of the image's own score and the highest value of the reference map
            (the paper's), "map" for the highest value of the fused map.
        reference_spread: how distances of windows come back to the patches: by the "harmonic" mean of the
            windows that hold each patch, as zero-shot scores do, or by the plain "mean".
        map_fusion: how the zero-shot map and the reference map become one: their "mean" (the paper's; it
            orders patches as their sum does) or their "harmonic" mean.
        token_block: block whose patch tokens are remembered: the "last-but-one" (the paper's) or the "last",
            as two public versions do.
    """

    name: ClassVar[str] = "winclip-plus"
    needs: ClassVar[Needs] = Needs(words=True, reference_images=True)
    source: ClassVar[str] = "WinCLIP+ (Jeong et al., CVPR 2023, section 4.3)"

    reference_spread: Spread = "harmonic"
    map_fusion: Literal["mean", "harmonic"] = "mean"
    token_block: Literal["last-but-one", "last"] = "last-but-one"

    @override
    def _check_backbone(self, backbone: Backbone) -> None:
        super()._check_backbone(backbone)
        if self._token_layer(backbone) < 1:
            raise UsageError(
                f"{self.name} compares patch tokens of the last block but one, but the image tower of "
                f"'{self.backbone}' has a single block; use another backbone"
            )

    def _token_layer(self, backbone: Backbone) -> int:
        return backbone.layers - (self.token_block == "last-but-one")

    @override
    def _choices(self, backbone: Backbone) -> WinCLIPSpec:
        more = {
            "reference_spread": self.reference_spread,
            "map_fusion": self.map_fusion,
            "token_layer": self._token_layer(backbone),
        }
        return super()._choices(backbone).model_copy(update=more)

    @override
    def _fit(
        self, backbone: Backbone, inputs: FitInputs, checkpoint: Path | None, progress: Progress | None
    ) -> Fitted:
        choices = self._choices(backbone)
        self._check_room(backbone, inputs.reference)
        memories = self._remember(backbone, inputs.reference, progress)
        head, words = self._prototypes(backbone)
        return Fitted(WinCLIPScorer(head, choices, memories), words)

    def _check_room(self, backbone: Backbone, references: Sequence[Array]) -> None:
        """Refuse more references than a detector's folder may hold, before they are embedded."""
        tile = self.non_square == "tile"
        pictures = sum(len(Tiles.of(sized(image), tile=tile)) for image in references)
        each = 4 * sum(rows * width for rows, width in self._shapes(backbone).values())  # bytes, float32
        room = LARGEST_HEAD - 2**20  # a little for everything else
        if pictures * each > room:
            raise UsageError(
                f"{self.name} would keep {pictures * each / 2**20:,.0f} MiB of {len(references):,} reference "
                f"images, and {room / 2**20:,.0f} MiB is the most; give it "
                f"{len(references) * room // (pictures * each):,} or fewer"
            )

    def _shapes(self, backbone: Backbone) -> dict[str, tuple[int, int]]:
        """Rows and width of each memory for one picture."""
        patches, parts = backbone.grid[0] * backbone.grid[1], self._parts(backbone)
        shapes = {"tokens": (patches, backbone.width)}
        if parts.source == "patches":
            return {"patches": (patches, backbone.embed_dim), **shapes}
        for size in parts.sizes:
            windows = len(make_windows(backbone.grid, size, parts.stride).index)
            shapes[f"window_{size}"] = windows, backbone.embed_dim
        return shapes

    def _remember(
        self, backbone: Backbone, images: Sequence[Array], progress: Progress | None
    ) -> dict[str, Floats]:
        """Embed the references: one list (N, width) of features for each memory."""
        choices, done = self._choices(backbone), 0
        found: dict[str, list[Floats]] = {}
        for batch in batches(images, _BATCH):
            features = embed(backbone, batch, memory_request(choices))
            for name, part in remembered(features, choices).items():
                found.setdefault(name, []).append(part.reshape(-1, part.shape[-1]))
            done += len(batch)
            if progress is not None:
                progress("reference images", done, len(images))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    @override
    def _check_scorer(self, scorer: Scorer, backbone: Backbone) -> None:
        super()._check_scorer(scorer, backbone)
        assert isinstance(scorer, WinCLIPScorer)
        shapes, memories = self._shapes(backbone), scorer.memories
        rows = {len(memory) / shapes.get(name, (1, 0))[0] for name, memory in memories.items()}
        widths = {name: memory.shape[1] for name, memory in memories.items()}
        if widths != {n: width for n, (_, width) in shapes.items()} or len(rows) != 1 or rows.pop() % 1:
            raise DetectorError(
                "the memories in head.safetensors are not those of whole reference images; save the detector "
                "again"
            )

    @override
    def _card(self, words: Mapping[str, Any]) -> str:
        scorer, count = self.scorer_, self.seen_.reference.images if self.seen_.reference else 0
        assert isinstance(scorer, WinCLIPScorer)
        kept = ", ".join(f"{len(memory):,} of `{name}`" for name, memory in scorer.memories.items())
        return (
            f"{super()._card(words)}\nBeside the words, every part is compared with {count} photos of good "
            f"products, of which features are kept: {kept}."
        )

    @override
    def _facts(self) -> dict[str, str]:
        score = {
            "image": "mean of the whole image's score and the highest value of the reference map",
            "map": "highest value of the fused map",
        }
        return {**super()._facts(), "Score": score[self.image_score]}
