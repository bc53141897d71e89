"""A convolutional patch embedding which tells every patch how it relates to the rest of its image.

A small image tower cannot learn from little data what objects look like. It can learn what "unlike its
surroundings" means, if it is shown that. So the stem is two parts: `Stem.features`, the first stages of an
ImageNet classifier, frozen; and `Stem.embed`, which adds to the features of each patch their deviation from
the image's median patch and the distances to the patches that are most like it, relative to the image.

Shapes in comments: B images, P patches, K stem features, Y and X pixels, R and S rows and columns of patches.

Sources: EfficientNet-Lite (Google, 2020), after Tan and Le, "EfficientNet", ICML 2019, table 1, for the
stages; distances to the nearest patches after Roth et al., "Towards Total Recall in Industrial Anomaly
Detection", CVPR 2022, section 3.3, here within one image and without averaging over neighbours, which hides
small defects.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroflaw.towers.configs import StemConfig

STRIDE = 16  # pixels per patch
TOP = (1, 4, 16)  # how many most similar patches are averaged
COMMON = 32  # that many say how common a patch is
_TINY = 1e-4  # of a squared distance; below it, patches are the same
_FAR = 50.0  # squared distance of others that a patch does not have


class SameConv(nn.Conv2d):
    """A convolution, padded as TensorFlow's "SAME" pads inputs whose sides are multiples of the stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)
        total = kernel - stride
        self.pads = [total // 2, total - total // 2] * 2
        if total % 2 == 0:
            self.padding, self.pads = (total // 2, total // 2), []

    def forward(self, x: Tensor) -> Tensor:
        """Convolve maps (B, inputs, Y, X)."""
        return super().forward(F.pad(x, self.pads) if self.pads else x)


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow; batch norm is folded into the convolutions."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = SameConv(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv(wide, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, Y, X) to (B, outputs, Y / stride, X / stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y  # type: ignore[no-any-return]


class Stem(nn.Module):
    """Images to patch tokens; stands in place of a vision transformer's one convolution."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: StemConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.first = SameConv(3, config.first, 3, 2)
        self.stages = nn.ModuleList(_stages(config))
        count = sum(config.sizes)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        self.reduction = nn.Linear(count, config.context)
        self.out = nn.Linear(2 * count + config.context + self._statistics, width)

    @property
    def _statistics(self) -> int:
        # Of four fixed spaces, with three symmetries each; of the learned one; one deviation.
        return 4 * (len(TOP) + 2 + 3) + (len(TOP) + 2) + 1

    def features(self, images: Tensor) -> Tensor:
        """Run the frozen convolutions on normalised images (B, 3, Y, X): (B, K, Y // 16, X // 16).

        As in `ConvPatches`, a rest of less than one patch at the right and bottom border is not looked at.
        """
        rows, columns = images.shape[-2] // STRIDE, images.shape[-1] // STRIDE
        return self.convolve(images[..., : rows * STRIDE, : columns * STRIDE])

    def convolve(self, inside: Tensor) -> Tensor:
        """Run the frozen convolutions on images (B, 3, Y, X) whose sides are multiples of `STRIDE`."""
        # Channels last is a quarter faster on processors and leaves the values as they are.
        x, maps = F.relu6(self.first(inside.contiguous(memory_format=torch.channels_last))), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        fine, middle, *coarse = maps[-4:]
        return torch.cat([*_pooled(fine, 4), *_pooled(middle, 2), *coarse], 1)

    def embed(self, features: Tensor) -> Tensor:
        """Turn features (B, K, R, S) into patch tokens (B, P, width), P = R * S, row by row."""
        grid = (features.shape[-2], features.shape[-1])
        x = features.flatten(2).transpose(1, 2)  # (B, P, K)
        x = ((x - self.mean) / self.std).clamp(-6, 6)
        deviation = x - _median(x)
        reduced = self.reduction(deviation)  # (B, P, context)
        statistics = torch.cat([self.distances(x, reduced, grid), _length(deviation)], -1)
        centred = statistics - _median(statistics)
        parts = torch.cat([x, deviation, reduced, 4 * centred], -1)
        # Distances are single precision whatever the rest is.
        return self.out(parts.to(self.out.weight.dtype))  # type: ignore[no-any-return]

    def distances(self, x: Tensor, reduced: Tensor, grid: tuple[int, int]) -> Tensor:
        """Compare every patch with the others of its image: logarithms of distances, (B, P, statistics - 1).

        Args:
            x: standardised features, (B, P, K).
            reduced: learned features, (B, P, context).
            grid: patches (rows, columns).
        """
        near = _near(grid).to(x.device)
        found = [_nearest(_squares(F.normalize(reduced, dim=-1, eps=_TINY)), near)]
        for group in torch.split(x, list(self.config.sizes), -1):
            squares = _squares(group * group.shape[-1] ** -0.5)
            found += [_nearest(squares, near), _mirrored(squares, grid)]
        return 0.5 * torch.cat(found, -1).clamp_min(_TINY).log()

    def forward(self, images: Tensor) -> Tensor:
        """Turn normalised images (B, 3, Y, X) into patch tokens (B, P, width)."""
        return self.embed(self.features(images))


def _stages(config: StemConfig) -> list[nn.Sequential]:
    stages, inputs = [], config.first
    shapes = zip(
        config.repeats, config.strides, config.channels, config.kernels, config.expansions, strict=True
    )
    for repeats, stride, outputs, kernel, expansion in shapes:
        blocks = []
        for number in range(repeats):
            blocks.append(InvertedResidual(inputs, outputs, kernel, 1 if number else stride, expansion))
            inputs = outputs
        stages.append(nn.Sequential(*blocks))
    return stages


def _pooled(x: Tensor, size: int) -> list[Tensor]:
    return [F.avg_pool2d(x, size), F.max_pool2d(x, size), -F.max_pool2d(-x, size)]


def _squares(x: Tensor) -> Tensor:
    """Squared Euclidean distances between all patches (B, P, K): (B, P, P)."""
    # Short distances, which are what matters, need single precision.
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        lengths = x.square().sum(-1)
        return torch.baddbmm(lengths[:, :, None] + lengths[:, None], x, x.transpose(1, 2), alpha=-2)


def _nearest(squares: Tensor, near: Tensor) -> Tensor:
    """Average the shortest distances of each patch to patches that do not touch it: (B, P, len(TOP) + 2)."""
    far = squares.masked_fill(near, _FAR)
    top = far.topk(min(COMMON, far.shape[-1]), dim=-1, largest=False).values
    means = [top[..., :k].mean(-1) for k in (*TOP, COMMON)]
    return torch.stack([*means, squares.mean(-1)], -1)


def _mirrored(squares: Tensor, grid: tuple[int, int]) -> Tensor:
    """Compare with the patch left-right, up-down and half a turn away, give or take one: (B, P, 3)."""
    index = _mirror_index(grid).to(squares.device)  # (3, P, 9)
    found = [squares.gather(2, places.expand(squares.shape[0], -1, -1)).amin(-1) for places in index]
    return torch.stack(found, -1)


def _median(x: Tensor) -> Tensor:
    """Lower median over the patches, (B, 1, C); by sorting, which can be exported."""
    return x.sort(1).values[:, None, (x.shape[1] - 1) // 2]


def _length(deviation: Tensor) -> Tensor:
    return deviation.square().mean(-1, keepdim=True).sqrt()


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # what is cached must serve training too
def _near(grid: tuple[int, int]) -> Tensor:
    """True where two patches are one or touch, (P, P)."""
    places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1]))  # (P, 2)
    return (places[:, None] - places[None]).abs().amax(-1) <= 1


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _mirror_index(grid: tuple[int, int]) -> Tensor:
    """Patches around the mirrored place of every patch, (3, P, 9); beyond the border, those on it."""
    last = torch.tensor(grid) - 1
    places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1]))[:, None]  # (P, 1, 2)
    around = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))  # (9, 2)
    found = []
    for flip in ((0, 1), (1, 0), (1, 1)):
        turned = torch.where(torch.tensor(flip, dtype=torch.bool), last - places, places)
        moved = torch.minimum((turned + around).clamp_min(0), last)
        found.append(moved[..., 0] * grid[1] + moved[..., 1])
    return torch.stack(found)
