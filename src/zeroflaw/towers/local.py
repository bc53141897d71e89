"""The local path of an image tower: values that look at like values, beside the tower's own attention.

In the last blocks of the tower patches no longer speak for the place where they are. AnomalyCLIP (Zhou et
al., ICLR 2024, section 3.2, "DPAM") therefore runs a second path beside those blocks. The tower's own path is
unchanged; per block, with ``v`` from the block's own weights on the tower's own tokens ``x``:

- tower: ``x += out(softmax(q k^T / sqrt(D)) v)``, then the feed-forward network;
- local: ``y += out(softmax(v v^T / sqrt(D)) v)``, without the feed-forward network; ``y`` begins as ``x``.

Shapes as in `zeroflaw.towers.model`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from zeroflaw.errors import UsageError
from zeroflaw.towers.model import Block, Interpolation, TowerOutput, VisionTower, unit


@dataclass(frozen=True)
class LocalPath:
    """How to run it.

    Attributes:
        blocks: how many blocks, counted from the last one, have the local path.
        layers: blocks, counted from 1, whose local patch tokens to keep; none means the last block.
        class_norm: whether the class token goes through ``ln_post`` before its projection. The published
            code leaves it out, and the published prompts were learned so.
        interpolation: of position embeddings on another grid than the native one.
    """

    blocks: int
    layers: tuple[int, ...] = ()
    class_norm: bool = False
    interpolation: Interpolation = "bilinear"

    def check(self, name: str, depth: int) -> None:
        """Refuse a path that an image tower of ``depth`` blocks does not have.

        Raises:
            UsageError: with the numbers that would do; ``name`` is that of the weights.
        """
        if not 1 <= self.blocks <= depth:
            raise UsageError(
                f"the local path of {name} may have 1 to {depth} blocks, got {self.blocks}; set value_blocks"
            )
        first = depth - self.blocks + 1
        if any(not first <= layer <= depth for layer in self.layers):
            raise UsageError(
                f"the local path of {name} runs through the blocks {first} to {depth}, counted from 1, got "
                f"{list(self.layers)}; choose among these"
            )


def local_features(
    tower: VisionTower, images: Tensor, path: LocalPath, *, patches: bool = True
) -> TowerOutput:
    """Embed images (B, 3, Y, X), already resized and normalised.

    The class token comes from the tower's own path. Patch tokens come from the local path: ``ln_post`` and
    the tower's projection, or, in towers whose patch tokens have a projection of their own, that one, because
    it is what brings patches into the text's space.

    Returns:
        The image's embedding and, where ``patches`` are wanted, those of the patch tokens after each block of
        ``path.layers``; ``patches`` is the last of them.
    """
    x, local = tower.start(tower.tokens(images, path.interpolation)), None
    found = TowerOutput(image=x, grid=tower.grid(images))
    depth = len(tower.blocks)
    wanted = path.layers or (depth,)
    for number, block in enumerate(tower.blocks, 1):
        if patches and number > depth - path.blocks:
            local = (x if local is None else local) + _values_among_themselves(block, x)  # type: ignore[arg-type]
            if number in wanted:
                found.layers[number] = _embed_patches(tower, local)
        x = block(x)
    first = tower.ln_post(x[:, 0]) if path.class_norm else x[:, 0]
    found.image = unit(first @ tower.projection)
    found.patches = found.layers[max(wanted)] if patches else None
    return found


def _values_among_themselves(block: Block, x: Tensor) -> Tensor:
    """What a block's attention adds when values are queries and keys as well, (B, T, C)."""
    _, values = block.attn.keys_values(block.ln_1(x))
    return block.attn.out(block.attn.mix(values, values, values))  # type: ignore[no-any-return]


def _embed_patches(tower: VisionTower, local: Tensor) -> Tensor:
    projection = tower.projection if tower.patch_projection is None else tower.patch_projection
    return unit(tower.ln_post(local[:, 1:]) @ projection)
