"""Shapes of the networks, checked when they are made; no torch.

Every number has a ceiling, so that a damaged or hostile file fails before anything of its size is made.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from zeroflaw.errors import WeightsError
from zeroflaw.parameters import STRICT, in_words

T = TypeVar("T")

Activation = Literal["gelu", "quick_gelu"]
Size = Annotated[int, Field(ge=1, le=8192)]  # the largest published CLIP is 1664 wide
Inner = Annotated[int, Field(ge=1, le=65_536)]  # width inside an MLP
Depth = Annotated[int, Field(ge=1, le=128)]  # number of blocks


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StackConfig:
    """Shape of a stack of transformer blocks."""

    width: Size
    layers: Depth
    heads: Size
    mlp_width: Inner

    def __post_init__(self) -> None:
        """Refuse heads that do not divide the width."""
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of its heads, got {self.width} and {self.heads}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StemConfig:
    """Shape of a stem (`zeroflaw.towers.stem`); the defaults are EfficientNet-Lite2 up to stride 16.

    Attributes:
        first: channels of the first convolution (3 x 3, stride 2).
        repeats, strides, channels, kernels, expansions: one number per stage of inverted residual blocks.
            The last four stages must end at strides 4, 8, 16 and 16.
        context: width of the learned space in which patches are compared.
    """

    first: Size = 32
    repeats: tuple[Annotated[int, Field(ge=1, le=64)], ...] = (1, 3, 3, 4, 4)
    strides: tuple[Size, ...] = (1, 2, 2, 2, 1)
    channels: tuple[Size, ...] = (16, 24, 48, 88, 120)
    kernels: tuple[Size, ...] = (3, 3, 5, 3, 5)
    expansions: tuple[Size, ...] = (1, 6, 6, 6, 6)
    context: Annotated[int, Field(ge=1, le=4096)] = 96

    def __post_init__(self) -> None:
        """Refuse stages that do not fit together."""
        stages = (self.repeats, self.strides, self.channels, self.kernels, self.expansions)
        if len(set(map(len, stages))) != 1 or not 4 <= len(self.repeats) <= 64:
            raise ValueError(
                "a stem must have as many repeats, strides, channels, kernels and expansions, 4 to 64"
            )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Features per patch that come from strides 4, 8, 16 and 16; the pooled ones count three times."""
        a, b, c, d = self.channels[-4:]
        return 3 * a, 3 * b, c, d


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VisionConfig(StackConfig):
    """Shape of an image tower.

    Attributes:
        image_size, patch_size: sides in pixels.
        activation: inside the blocks.
        ln_pre: whether tokens are normalised before the first block.
        patch_projection: patch tokens have a projection of their own, trained to agree with the text.
        stem: stands in place of the one convolution of the patch embedding.
    """

    image_size: Size
    patch_size: Size
    activation: Activation = "gelu"
    ln_pre: bool = True
    patch_projection: bool = False
    stem: StemConfig | None = None

    def __post_init__(self) -> None:
        """Refuse a patch that does not divide the image."""
        super().__post_init__()
        _check_patch(self.image_size, self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns) at the native image size."""
        side = self.image_size // self.patch_size
        return side, side


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TextConfig(StackConfig):
    """Shape of a text tower."""

    context_length: Size
    vocab_size: Annotated[int, Field(ge=1, le=1_000_000)]
    activation: Activation = "gelu"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CLIPConfig:
    """Shape of both towers; ``embed_dim`` is the width E of the space that they share."""

    embed_dim: Size
    vision: VisionConfig
    text: TextConfig

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.vision.patch_size


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MAEConfig:
    """Shape of a masked autoencoder.

    Attributes:
        image_size: side of the square image in pixels.
        patch_size: side of a patch in pixels.
        encoder: blocks that see the visible patches.
        decoder: blocks that see all places.
        norm_eps: added to variances by layer normalisation.
        qkv_bias: whether queries, keys and values had a bias in training; where not, it is zero.
        normalised_targets: the decoder was trained to say pixels minus the mean of their patch, divided by
            its deviation.
    """

    image_size: Inner
    patch_size: Inner
    encoder: StackConfig
    decoder: StackConfig
    norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    qkv_bias: bool = True
    normalised_targets: bool = False

    def __post_init__(self) -> None:
        """Refuse a patch that does not divide the image, and one that is all of it."""
        _check_patch(self.image_size, self.patch_size)
        if self.patches < 2:
            raise ValueError(f"image_size must be larger than patch_size, got {self.image_size} for both")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns)."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def patches(self) -> int:
        """Number of patches P."""
        return self.grid[0] * self.grid[1]


def _check_patch(image_size: int, patch_size: int) -> None:
    if image_size % patch_size:
        raise ValueError(f"image_size must be a multiple of patch_size, got {image_size} and {patch_size}")


def from_json(kind: type[T], text: str | bytes, where: str) -> T:
    """Make a record or configuration from JSON.

    Args:
        kind: its class.
        text: the JSON.
        where: what it is, for messages.

    Raises:
        WeightsError: it is no JSON, or a key is missing, unknown or wrong.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise in_words(error, kind, WeightsError, where) from None
