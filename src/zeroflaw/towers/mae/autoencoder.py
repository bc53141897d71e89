"""A loaded masked autoencoder, ready to reconstruct, and a record of where it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zeroflaw.runtime.preprocess import Pixels, Preprocess
from zeroflaw.towers.mae.masks import hidden_counts
from zeroflaw.towers.mae.model import MAE, normalise_patches, patchify

Over = Literal["hidden", "all"]

_CHUNK = 16  # maskings that go through the network together; more cost memory and bring no time


@dataclass
class Autoencoder:
    """Reconstructs images from some of their patches. Frozen, without gradients.

    Attributes:
        model: the network, on ``device`` in ``dtype``.
        preprocess: images to pixels.
        name: of the weights.
        source: where they come from.
        sha256: of the weights file.
        licence: of the weights, as their folder states it.
        revision: commit of the source, where it is known.
        device: where the network is.
        dtype: what it computes in; errors are always float32.
    """

    model: MAE
    preprocess: Preprocess
    name: str
    source: str
    sha256: str
    licence: str
    revision: str | None
    device: torch.device
    dtype: torch.dtype

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides a reconstruction: weights, shape of the network, preprocessing."""
        parts = [self.sha256, dataclasses.asdict(self.model.config), dataclasses.asdict(self.preprocess)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def patches(self) -> int:
        """Number of patches P of an image."""
        return self.model.config.patches

    @property
    def image_size(self) -> int:
        """Side S of a preprocessed image in pixels."""
        return self.model.config.image_size

    def errors(
        self, images: Sequence[Pixels], visible: Tensor, *, over: Over, normalised: bool | None = None
    ) -> Tensor:
        """Return the mean reconstruction error of every pixel over maskings.

        The error of a pixel is the squared difference between image and reconstruction, summed over colours,
        in the numbers that the decoder speaks: pixels as they were normalised for the encoder, or, with
        normalised targets, those normalised once more within each patch.

        Args:
            images: RGB images, uint8 (H, W, 3) of any sizes.
            visible: visible patches of each masking, (N, V); the same maskings serve all images, so that no
                answer depends on what else is in the batch.
            over: "hidden" takes the mean over the maskings that hide a pixel, "all" over all of them. What a
                decoder says about visible patches was never trained.
            normalised: whether targets are normalised within patches; None asks the weights.

        Returns:
            float32 (B, S, S) on the CPU.

        Raises:
            UsageError: a patch is never hidden and ``over`` is "hidden", or an image is no RGB image.
        """
        if normalised is None:
            normalised = self.model.config.normalised_targets
        weights = self._weights(visible, over)
        # One image at a time: its sums do not depend on its neighbours, to the last bit.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = [self._errors_of(image, visible, weights, normalised) for image in images]
        return torch.stack(found)

    def _weights(self, visible: Tensor, over: Over) -> Tensor:
        """Weight of each masking in the mean of each patch, (N, P); they sum to one over the maskings."""
        everywhere = torch.ones(len(visible), self.patches)
        if over == "all":
            return everywhere / len(visible)
        return everywhere.scatter(1, visible, 0.0) / hidden_counts(visible, self.patches)

    def _errors_of(self, image: Pixels, visible: Tensor, weights: Tensor, normalised: bool) -> Tensor:
        pixels = torch.from_numpy(self.preprocess([image])).to(self.device)
        target = patchify(pixels, self.model.config.patch_size)  # (1, P, p * p * 3), float32
        if normalised:
            target = normalise_patches(target)
        tokens = self.model.encoder.tokens(pixels.to(self.dtype))
        total = torch.zeros(self.patches, target.shape[-1] // 3, device=self.device)
        for part, share in zip(visible.split(_CHUNK), weights.split(_CHUNK), strict=True):
            drawn = self.model(tokens, part.to(self.device)).float()
            squared = (drawn - target).square().unflatten(-1, (-1, 3)).sum(-1)  # (N, P, p * p)
            total += (squared * share[..., None].to(self.device)).sum(0)
        return self._as_picture(total.cpu())

    def _as_picture(self, patches: Tensor) -> Tensor:
        """Lay values of patches (P, p * p) out as a picture (S, S)."""
        side = self.model.config.patch_size
        square: Tensor = patches.unflatten(1, (side, side)).unflatten(0, self.model.config.grid)
        return square.transpose(1, 2).flatten(2).flatten(0, 1)  # (rows, p, columns, p) -> (S, S)
