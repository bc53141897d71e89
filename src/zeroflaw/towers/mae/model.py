"""A masked autoencoder, top to bottom in the order of the data.

The encoder sees the visible patches of an image only; the decoder gets them back with a learned token in
place of each hidden one, and says what the pixels of every patch are. Shapes in comments: N maskings, P
patches, V visible ones, C encoder width, D decoder width, H heads, S side of the image, p side of a patch.

Written here rather than taken from `transformers`: it is two stacks of one block, what is wanted of it (many
maskings of one image whose patches are embedded once) is not what `transformers` offers, and a detector
should not need a dependency larger than the project. The tests hold it against ``ViTMAEForPreTraining``.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Shape of a stack of transformer blocks."""

    width: int
    layers: int
    heads: int
    mlp_width: int


@dataclass(frozen=True, kw_only=True)
class MAEConfig:
    """Shape of a masked autoencoder.

    Attributes:
        image_size: side of the square image in pixels.
        patch_size: side of a patch in pixels.
        encoder: blocks that see the visible patches.
        decoder: blocks that see all places.
        norm_eps: added to variances by layer normalisation.
        qkv_bias: whether queries, keys and values have a bias.
        normalised_targets: the decoder was trained to say pixels minus the mean of their patch, divided by
            its deviation.
    """

    image_size: int
    patch_size: int
    encoder: StackConfig
    decoder: StackConfig
    norm_eps: float = 1e-12
    qkv_bias: bool = True
    normalised_targets: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns)."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def patches(self) -> int:
        """Number of patches P."""
        return self.grid[0] * self.grid[1]


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Let every token of x (N, T, C) look at all of them."""
        q, k, v = (self._by_head(project(x)) for project in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v)  # (N, H, T, C / H)
        return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, stack: StackConfig, config: MAEConfig) -> None:
        super().__init__()
        width = stack.width
        self.ln_1 = nn.LayerNorm(width, eps=config.norm_eps)
        self.attn = Attention(width, stack.heads, config.qkv_bias)
        self.ln_2 = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, stack.mlp_width), nn.GELU(), nn.Linear(stack.mlp_width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on x (N, T, C)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Visible patches to tokens."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        stack = config.encoder
        self.patch_embedding = nn.Conv2d(3, stack.width, config.patch_size, config.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, stack.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + config.patches, stack.width))
        self.blocks = nn.Sequential(*(Block(stack, config) for _ in range(stack.layers)))
        self.norm = nn.LayerNorm(stack.width, eps=config.norm_eps)

    def tokens(self, images: Tensor) -> Tensor:
        """Embed all patches and add their places: (N, 3, S, S) -> (N, P, C)."""
        embedded: Tensor = self.patch_embedding(images)
        return embedded.flatten(2).transpose(1, 2) + self.positions[:, 1:]

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Encode the patches ``visible`` (N, V) of tokens (N, P, C), behind a class token: (N, 1 + V, C)."""
        seen = tokens.gather(1, spread(visible, tokens.shape[-1]))  # (N, V, C)
        first = (self.class_token + self.positions[:, :1]).expand(len(seen), -1, -1)
        return self.norm(self.blocks(torch.cat([first, seen], 1)))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Tokens of visible patches to the pixels of all patches."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        stack = config.decoder
        self.embed = nn.Linear(config.encoder.width, stack.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, stack.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + config.patches, stack.width))
        self.blocks = nn.Sequential(*(Block(stack, config) for _ in range(stack.layers)))
        self.norm = nn.LayerNorm(stack.width, eps=config.norm_eps)
        self.predict = nn.Linear(stack.width, 3 * config.patch_size**2)

    def forward(self, encoded: Tensor, visible: Tensor) -> Tensor:
        """Reconstruct from encoded (N, 1 + V, C), whose patches are ``visible`` (N, V): (N, P, p * p * 3)."""
        x = self.embed(encoded)  # (N, 1 + V, D)
        places = self.positions.shape[1] - 1
        hidden = self.mask_token.expand(len(x), places, -1)  # (N, P, D)
        patches = hidden.scatter(1, spread(visible, x.shape[-1]), x[:, 1:])
        x = torch.cat([x[:, :1], patches], 1) + self.positions
        return self.predict(self.norm(self.blocks(x)))[:, 1:]  # type: ignore[no-any-return]


class MAE(nn.Module):
    """Encoder and decoder."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Say what all patches look like, from some of them.

        Args:
            tokens: embedded patches (`Encoder.tokens`), (N, P, C); (1, P, C) stands for N equal ones.
            visible: the patches that may be seen, (N, V), each at most once.

        Returns:
            (N, P, p * p * 3): rows of a patch, its columns, colours, in the order of `patchify`.
        """
        encoded = self.encoder(tokens.expand(len(visible), -1, -1), visible)
        return self.decoder(encoded, visible)  # type: ignore[no-any-return]


def spread(index: Tensor, width: int) -> Tensor:
    """Repeat places (N, V) for all numbers of a token: (N, V, width)."""
    return index[..., None].expand(-1, -1, width)


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images (N, 3, S, S) into patches (N, P, p * p * 3): rows of a patch, its columns, colours."""
    cut: Tensor = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))
    # (N, 3, rows, p, columns, p) -> (N, rows, columns, p, p, 3) -> (N, P, p * p * 3)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def normalise_patches(patches: Tensor) -> Tensor:
    """Subtract the mean of each patch (N, P, p * p * 3) and divide by its deviation.

    As in training (section 4.1 of the source): the variance is that of a sample, and 1e-6 is added to it.
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()
