"""A masked autoencoder, top to bottom in the order of the data, and which patches it may see.

The encoder sees the visible patches of an image only; the decoder gets them back with a learned token in
place of each hidden one, and says what the pixels of every patch are. Shapes in comments: N maskings, P
patches, V visible ones, C encoder width, D decoder width, S side of the image, p side of a patch.

Written here rather than taken from `transformers`: it is two stacks of one block, what is wanted of it (many
maskings of one image whose patches are embedded once) is not what `transformers` offers, and a detector
should not need a dependency larger than the project. The tests hold it against ``ViTMAEForPreTraining``.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, section 3.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from zeroflaw.errors import UsageError
from zeroflaw.towers.configs import MAEConfig, StackConfig
from zeroflaw.towers.model import Block

Drawing = Literal["random", "balanced"]


class Encoder(nn.Module):
    """Visible patches to tokens."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        width = config.encoder.width
        self.patch_embedding = nn.Conv2d(3, width, config.patch_size, config.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + config.patches, width))
        self.blocks = _blocks(config.encoder, config.norm_eps)
        self.norm = nn.LayerNorm(width, config.norm_eps)

    def tokens(self, images: Tensor) -> Tensor:
        """Embed all patches and add their places: (N, 3, S, S) -> (N, P, C)."""
        embedded: Tensor = self.patch_embedding(images)
        return embedded.flatten(2).transpose(1, 2) + self.positions[:, 1:]

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Encode the patches ``visible`` (N, V) of tokens (N, P, C), behind a class token: (N, 1 + V, C)."""
        seen = tokens.gather(1, _spread(visible, tokens.shape[-1]))  # (N, V, C)
        first = (self.class_token + self.positions[:, :1]).expand(len(seen), -1, -1)
        return self.norm(self.blocks(torch.cat([first, seen], 1)))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Tokens of visible patches to the pixels of all patches."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        width = config.decoder.width
        self.embed = nn.Linear(config.encoder.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + config.patches, width))
        self.blocks = _blocks(config.decoder, config.norm_eps)
        self.norm = nn.LayerNorm(width, config.norm_eps)
        self.predict = nn.Linear(width, 3 * config.patch_size**2)

    def forward(self, encoded: Tensor, visible: Tensor) -> Tensor:
        """Reconstruct from encoded (N, 1 + V, C), whose patches are ``visible`` (N, V): (N, P, p * p * 3)."""
        x = self.embed(encoded)  # (N, 1 + V, D)
        places = self.positions.shape[1] - 1
        hidden = self.mask_token.expand(len(x), places, -1)  # (N, P, D)
        patches = hidden.scatter(1, _spread(visible, x.shape[-1]), x[:, 1:])
        x = torch.cat([x[:, :1], patches], 1) + self.positions
        return self.predict(self.norm(self.blocks(x)))[:, 1:]  # type: ignore[no-any-return]


class MAE(nn.Module):
    """Encoder and decoder."""

    kind: ClassVar = "zeroflaw-autoencoder"  # what a weights folder calls it
    config_type: ClassVar = MAEConfig

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


def _blocks(stack: StackConfig, eps: float) -> nn.Sequential:
    return nn.Sequential(*(Block(stack, eps=eps) for _ in range(stack.layers)))


def _spread(index: Tensor, width: int) -> Tensor:
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


def visible_count(patches: int, ratio: float) -> int:
    """Return how many of so many patches stay visible; rounded down, as in the training of autoencoders.

    Raises:
        UsageError: none or all would.
    """
    count = int(patches * (1 - ratio))
    if not 0 < count < patches:
        raise UsageError(
            f"mask_ratio must leave some of {patches} patches visible and hide some, got {ratio}, which "
            f"leaves {count}; 0.75 is what autoencoders are trained with"
        )
    return count


def draw_visible(count: int, patches: int, ratio: float, *, seed: int, drawing: Drawing = "random") -> Tensor:
    """Draw maskings; the result says which patches stay visible, in rising order.

    Args:
        count: number of maskings N.
        patches: number of patches P.
        ratio: share of patches that are hidden.
        seed: of a generator of its own.
        drawing: "random" draws every masking anew, as the training of autoencoders does. "balanced" cuts
            each random order of the patches into as many maskings as it holds, so that no patch is visible a
            second time before every other was (up to a remainder): fewer maskings hide every patch.

    Returns:
        int64 (N, V).

    Raises:
        UsageError: no or all patches would be visible.
    """
    visible = visible_count(patches, ratio)
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    while len(found) < count:
        order = torch.randperm(patches, generator=generator)
        whole = patches // visible if drawing == "balanced" else 1
        found += order[: whole * visible].view(whole, visible)
    return torch.stack(found[:count]).sort(dim=1).values


def hidden_counts(visible: Tensor, patches: int) -> Tensor:
    """Count in how many of the maskings (N, V) each patch is hidden: int64 (P,).

    Raises:
        UsageError: one never is; nothing could be said of it.
    """
    counts = len(visible) - torch.bincount(visible.flatten(), minlength=patches)
    never = int((counts == 0).sum())
    if never:
        raise UsageError(
            f"every patch must be hidden at least once, but {never} of {patches} never are in {len(visible)} "
            "masks; use more masks, mask_drawing='balanced' or error='all'"
        )
    return counts
