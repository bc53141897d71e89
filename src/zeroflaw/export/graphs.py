"""What a detector computes, as torch modules that can be traced: what `zeroflaw.runtime` does in NumPy.

In single precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroflaw.runtime.heads import FNNHead, Head
from zeroflaw.runtime.memory import NEAR, SPREAD, MemoryScorer
from zeroflaw.runtime.scorer import Parts, TextScorer
from zeroflaw.runtime.scores import Windows, make_windows
from zeroflaw.towers.backbone import Backbone
from zeroflaw.towers.model import VisionTower
from zeroflaw.towers.patches import from_stem, patch_features
from zeroflaw.towers.stem import Stem


@dataclass
class Seen:
    """What the tower says about a batch: image (B, E), patches (B, P, E), windows, compared patches."""

    image: Tensor
    patches: Tensor
    windows: dict[int, Tensor]
    compared: dict[int, Tensor]


class LinearGraph(nn.Module):
    """`zeroflaw.runtime.heads.LinearHead` or `FNNHead`."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        if isinstance(head, FNNHead):
            layers = [(layer.weight, layer.bias, layer.gain, layer.shift) for layer in head.layers]
        else:
            layers = [(head.weight[None], head.bias[None], None, None)]
        self.steps = nn.ModuleList()
        for number, (weight, bias, gain, shift) in enumerate(layers):
            if number:
                self.steps.append(nn.ReLU())
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight.data, linear.bias.data = _tensor(weight), _tensor(bias)
            self.steps.append(linear)
            if gain is not None and shift is not None:
                norm = nn.LayerNorm(len(gain))
                norm.weight.data, norm.bias.data = _tensor(gain), _tensor(shift)
                self.steps.append(norm)

    def forward(self, x: Tensor) -> Tensor:
        """Score embeddings (..., E): log-odds (...)."""
        for step in self.steps:
            x = step(x)
        return x[..., 0]


class TextGraph(nn.Module):
    """`zeroflaw.runtime.scorer.TextScorer`."""

    def __init__(self, scorer: TextScorer, grid: tuple[int, int]) -> None:
        super().__init__()
        self.scorer, self.grid = scorer, grid
        self.heads = nn.ModuleDict({name: LinearGraph(head) for name, head in scorer.heads.items()})
        self.names = [*scorer.heads, *(f"{name}_part" for name in scorer.heads)]
        sets = windows_of(scorer.parts, grid)
        with np.errstate(divide="ignore"):  # logarithms: minus infinity where a window does not hold a patch
            covers = {str(size): _frozen(np.log(windows.cover)) for size, windows in sets.items()}
        self.covers = nn.ParameterDict(covers)
        self.counts = nn.ParameterDict({str(s): _frozen(np.log(w.count)) for s, w in sets.items()})

    def forward(self, seen: Seen) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return log-odds (B,), named ones, and those of the patches (B, P)."""
        scores: dict[str, Tensor] = {}
        parts: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            scores[name] = head(seen.image)
            parts[name] = harmonic(self._scales(seen, head))
            scores[f"{name}_part"] = parts[name].amax(1)
        logits = fused(scores, self.scorer.weights)
        weights: dict[str, float] = {}
        for name, weight in self.scorer.weights.items():
            base = name.removesuffix("_part")
            weights[base] = weights.get(base, 0.0) + weight
        drawn = fused(parts, weights)
        if self.scorer.image_in_map:
            scales = 1 if self.scorer.parts.source == "patches" else len(self.scorer.parts.sizes)
            drawn = harmonic([logits[:, None].expand_as(drawn), *[drawn] * scales])
        return logits, scores, drawn

    def _scales(self, seen: Seen, head: nn.Module) -> list[Tensor]:
        if self.scorer.parts.source == "patches":
            return [head(seen.patches)]
        found = []
        for size in self.scorer.parts.sizes:
            slow = -head(seen.windows[size])[:, :, None] + self.covers[str(size)]  # (B, W, P)
            found.append(self.counts[str(size)] - torch.logsumexp(slow, 1))
        return found


class MemoryGraph(nn.Module):
    """`zeroflaw.runtime.memory.MemoryScorer`."""

    def __init__(self, scorer: MemoryScorer, grid: tuple[int, int]) -> None:
        super().__init__()
        self.scorer = scorer
        self.words = None if scorer.words is None else TextGraph(scorer.words, grid)
        self.names = ["memory", *["words"] * (scorer.words is not None)]
        self.memories = nn.ParameterDict(
            {str(size): _frozen(memory.T) for size, memory in scorer.memories.items()}
        )
        self.inside = _frozen(scorer.inside) if len(scorer.inside) else None

    def forward(self, seen: Seen) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return log-odds (B,), named ones, and those of the patches (B, P)."""
        choices = self.scorer.choices
        finest = max(math.isqrt(seen.compared[size].shape[1]) for size in choices.sizes)
        total = torch.zeros(1)
        for size, scale in zip(choices.sizes, choices.scale, strict=True):
            near = (seen.compared[size] @ self.memories[str(size)]).amax(-1)
            distance = (1 - near).clamp_min(NEAR) / scale
            side = math.isqrt(distance.shape[1])
            picture = F.interpolate(distance.reshape(-1, 1, side, side), (finest, finest), mode="bilinear")
            total = total + picture.flatten(1)
        total = total.clamp_min(NEAR)
        if self.inside is not None:
            total = torch.where(self.inside == 0, NEAR, total)
        top = total.topk(min(choices.top, total.shape[1]), dim=1).values.mean(1)
        logits = (top.log() - choices.centre) / SPREAD
        scores = {"memory": logits}
        if self.words is not None:
            scores["words"] = self.words(seen)[0] - choices.words_centre
            logits = logits + choices.words_weight * scores["words"]
        return logits, scores, (total.log() - choices.centre) / SPREAD


class DetectorGraph(nn.Module):
    """Pixels to log-odds, named scores and map: a tower, and the scorer behind it."""

    def __init__(self, backbone: Backbone, scorer: TextScorer | MemoryScorer) -> None:
        super().__init__()
        self.vision: VisionTower = backbone.model.vision
        preprocess = backbone.preprocess
        self.mean = _frozen(np.array(preprocess.mean).reshape(3, 1, 1))
        self.std = _frozen(np.array(preprocess.std).reshape(3, 1, 1))
        self.native = preprocess.image_size
        self.grid = backbone.grid
        kind = TextGraph if isinstance(scorer, TextScorer) else MemoryGraph
        self.judge = kind(scorer, self.grid)  # type: ignore[arg-type]
        words = scorer if isinstance(scorer, TextScorer) else scorer.words
        self.windows = {} if words is None else windows_of(words.parts, self.grid)
        self.sizes = scorer.choices.sizes if isinstance(scorer, MemoryScorer) else ()
        self.sees_native = words is not None or self.native in self.sizes

    @property
    def inputs(self) -> dict[str, int]:
        """Names of the inputs, and the side in pixels of each."""
        others = [size for size in self.sizes if size != self.native]
        native = {"pixels": self.native} if self.sees_native else {}
        return native | {f"pixels_{size}": size for size in others}

    def forward(self, *pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Judge photos, uint8 (B, S, S, 3) for each of `inputs`.

        Returns log-odds (B,), named scores (B, N), and the map (B, rows, columns) in [0, 1].
        """
        logits, scores, drawn = self.judge(self._see(dict(zip(self.inputs.values(), pixels, strict=True))))
        side = math.isqrt(drawn.shape[1])
        named = torch.stack([scores[name] for name in self.judge.names], 1)
        return logits, named.sigmoid(), drawn.sigmoid().reshape(-1, side, side)

    def _see(self, pixels: Mapping[int, Tensor]) -> Seen:
        embedding = self.vision.patch_embedding
        others = [size for size in self.sizes if size != self.native]
        compared = {size: patch_features(self.vision, self._normalised(pixels[size])) for size in others}
        if not self.sees_native:
            nothing = torch.zeros(0)
            return Seen(nothing, nothing, {}, compared)
        x = self._normalised(pixels[self.native])
        if isinstance(embedding, Stem):
            features = embedding.convolve(x)
            compared[self.native] = from_stem(features, embedding.config.sizes)
            tokens = embedding.embed(features)
        else:
            tokens = embedding(x)
            if self.native in self.sizes:
                compared[self.native] = patch_features(self.vision, x)
        tokens = tokens + self.vision.patch_positions(self.grid)
        image, patches, _ = self.vision.all_tokens(tokens, ())
        seen = {}
        for size, windows in self.windows.items():
            gathered = tokens[:, torch.from_numpy(windows.index)].flatten(0, 1)  # (B * W, T, C)
            found = self.vision.class_only(gathered)
            seen[size] = found.reshape(-1, len(windows.index), found.shape[-1])
        return Seen(image, patches, seen, compared)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std


def windows_of(parts: Parts, grid: tuple[int, int]) -> dict[int, Windows]:
    """Return the windows that parts are made of, by size; none where they are patches."""
    if parts.source == "patches":
        return {}
    return {size: make_windows(grid, size, parts.stride) for size in parts.sizes}


def harmonic(logits: Sequence[Tensor]) -> Tensor:
    """Return log-odds of the harmonic mean of probabilities, as `zeroflaw.runtime.scores.harmonic_mean`."""
    if len(logits) == 1:
        return logits[0]
    return math.log(len(logits)) - torch.logsumexp(-torch.stack(list(logits)), 0)


def fused(logits: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return log-odds of a weighted mean of probabilities, as `zeroflaw.runtime.scores.fuse`."""
    if len(weights) == 1:
        return logits[next(iter(weights))]
    stacked = torch.stack([logits[name] for name in weights])
    shares = torch.tensor(list(weights.values())).log().reshape(-1, *[1] * (stacked.ndim - 1))
    anomalous = torch.logsumexp(F.logsigmoid(stacked) + shares, 0)
    return anomalous - torch.logsumexp(F.logsigmoid(-stacked) + shares, 0)


def _tensor(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _frozen(values: npt.NDArray[Any]) -> nn.Parameter:
    return nn.Parameter(_tensor(np.asarray(values)), requires_grad=False)
