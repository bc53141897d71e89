"""A loaded masked autoencoder, ready to reconstruct, and a record of where it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.files import LOCAL, local_folder
from zeroflaw.runtime.preprocess import Pixels
from zeroflaw.towers.backbone import Loaded, exact, pick_device, pick_dtype
from zeroflaw.towers.mae import MAE, hidden_counts, normalise_patches, patchify
from zeroflaw.towers.weights import load_bundle

Over = Literal["hidden", "all"]

_CHUNK = 16  # maskings that go through the network together; more cost memory and bring no time
_WANTED = (
    "config.json, preprocessor_config.json and model.safetensors of a Hugging Face ViTMAEForPreTraining "
    "(facebook/vit-mae-base, say)"
)


@dataclass
class Autoencoder(Loaded):
    """Reconstructs images from some of their patches. Frozen, without gradients.

    Attributes:
        model: the network, on ``device`` in ``dtype``; errors are always float32.
    """

    model: MAE

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
        with exact():
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


def folder_of(name: str) -> Path:
    """Return the folder that a backbone's name means.

    Raises:
        UsageError: it is not ``local-dir:FOLDER``; no masked autoencoder has another name.
    """
    folder = local_folder(name)
    if folder is None:
        raise UsageError(
            f"masked-autoencoder weights with a decoder are needed, and '{name}' is no name of such; give a "
            f"folder with {_WANTED}: --backbone {LOCAL}FOLDER"
        )
    return folder


def load_autoencoder(name: str, *, device: str = "auto", dtype: str = "float32") -> Autoencoder:
    """Load a masked autoencoder.

    Args:
        name: ``local-dir:FOLDER``, in our format or in Hugging Face's layout of ``ViTMAEForPreTraining``.
        device: "auto", "cpu", "cuda" or "mps".
        dtype: "float32" or "bfloat16".

    Raises:
        UsageError: the name, device or number type cannot be had.
        WeightsError: the folder is missing, damaged, or holds something else; the message says what.
    """
    place, kind = pick_device(device), pick_dtype(dtype)  # before anything large is read
    folder_of(name)
    bundle = load_bundle(name, MAE)
    if not isinstance(bundle.model, MAE):
        raise WeightsError(f"masked-autoencoder weights are needed, but {name} holds a CLIP; give {_WANTED}")
    model = bundle.model.to(device=place, dtype=kind)
    return Autoencoder(bundle.record, bundle.preprocess, place, kind, model)
