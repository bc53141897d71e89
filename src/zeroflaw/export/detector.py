"""A whole detector as one ONNX graph: pixels in, log-odds, named scores and map out, for any language.

What the graph does is what `zeroflaw.runtime` does in NumPy, in single precision.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.detectors.opening import shared_backbone
from zeroflaw.errors import OutputError, UsageError, needing
from zeroflaw.export.tower import graph
from zeroflaw.files import whole_folder
from zeroflaw.runtime.heads import FNNHead, Head
from zeroflaw.runtime.memory import NEAR, SPREAD, MemoryScorer
from zeroflaw.runtime.onnx_engine import open_onnx
from zeroflaw.runtime.scorer import Parts, TextScorer
from zeroflaw.runtime.scores import Windows, make_windows
from zeroflaw.runtime.stream import Progress
from zeroflaw.runtime.tower import test_pictures
from zeroflaw.towers.backbone import Backbone
from zeroflaw.towers.model import VisionTower
from zeroflaw.towers.patches import from_stem, patch_features
from zeroflaw.towers.stem import Stem

MODEL = "detector.onnx"
WITH_RESIZE = "detector-with-resize.onnx"
RECORD = "detector.json"
TOLERANCE = 1e-3  # log-odds; of float32 sums over thousands of numbers
CUBIC = -0.5  # Pillow's bicubic


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
        finest = max(math.isqrt(part.shape[1]) for part in seen.compared.values())
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

    @property
    def inputs(self) -> dict[str, int]:
        """Names of the inputs, and the side in pixels of each."""
        others = [size for size in self.sizes if size != self.native]
        return {"pixels": self.native, **{f"pixels_{size}": size for size in others}}

    def forward(self, *pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Judge photos, uint8 (B, S, S, 3) for each of `inputs`.

        Returns log-odds (B,), named scores (B, N), and the map (B, rows, columns) in [0, 1].
        """
        logits, scores, drawn = self.judge(self._see(dict(zip(self.inputs.values(), pixels, strict=True))))
        side = math.isqrt(drawn.shape[1])
        named = torch.stack([scores[name] for name in self.judge.names], 1)
        return logits, named.sigmoid(), drawn.sigmoid().reshape(-1, side, side)

    def _see(self, pixels: Mapping[int, Tensor]) -> Seen:
        x = self._normalised(pixels[self.native])
        embedding = self.vision.patch_embedding
        others = [size for size in self.sizes if size != self.native]
        compared = {size: patch_features(self.vision, self._normalised(pixels[size])) for size in others}
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


def export_detector(
    detector: BackboneDetector[Any],
    folder: Path,
    *,
    with_resize: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a fitted detector as a folder that needs nothing of zeroflaw to be run.

    The folder holds ``detector.onnx`` (and ``detector-with-resize.onnx``), ``detector.json`` with what goes
    in and comes out and the threshold, a model card, and pictures with expected outputs for tests.

    Args:
        detector: of words (rwda, clip, shift-words, promptstyler) or of good photos (memory).
        folder: which appears whole or not at all, in place of an earlier one.
        with_resize: also write a graph that takes pictures of any size.
        progress: called with what is being done, steps done and steps in all.

    Raises:
        UsageError: this kind of detector cannot be a graph.
        OutputError: the graph does not give what the detector gives, or the folder cannot be written.
    """
    scorer = detector.scorer_
    if not isinstance(scorer, TextScorer | MemoryScorer):
        raise UsageError(
            f"a {detector.name} detector cannot be one graph: export writes those of words (rwda, clip, "
            "shift-words, promptstyler) and of good photos (memory)"
        )
    if detector.tile:
        raise UsageError(
            f"a graph judges whole pictures, and this detector judges tiles of {detector.tile} pixels, whose "
            "threshold would not hold; export one that was made without tile"
        )
    backbone = shared_backbone(detector.backbone, "cpu", "float32")
    module = DetectorGraph(backbone, scorer).eval()
    images = test_pictures()
    resized = {
        name: np.stack([replace(backbone.preprocess, image_size=size).resized(image) for image in images])
        for name, size in module.inputs.items()
    }
    if progress is not None:
        progress("graph", 0, 2)
    backbone.embed_images(images)  # fills the caches of index tensors, which tracing would fill otherwise
    batch = torch.export.Dim("batch")
    names = ["logit", "scores", "map"]
    example = {name: torch.from_numpy(part[:2]) for name, part in resized.items()}
    data = graph(module, example, {name: {0: batch} for name in example}, names)
    if progress is not None:
        progress("graph", 1, 2)
    expected = _expected(detector, images, module.judge.names)
    worst = _difference(data, resized, expected)
    if worst > TOLERANCE:
        raise OutputError(
            f"the graph differs from the detector by {worst:.1e} in log-odds or maps, and {TOLERANCE:.0e} is "
            "the most; nothing was written"
        )
    files = {MODEL: data}
    record: dict[str, Any] = {
        "schema": 1,
        "detector": detector.name,
        "backbone": {"name": backbone.name, "sha256": backbone.sha256, "licence": backbone.licence},
        "inputs": {
            name: {"type": "uint8", "shape": ["batch", size, size, 3], "channels": "RGB"}
            for name, size in module.inputs.items()
        },
        "resize": {
            "filter": f"Pillow {backbone.preprocess.interpolation}",
            "shape": backbone.preprocess.resize,
        },
        "outputs": {
            "logit": "log-odds of the score, (batch,)",
            "scores": {"shape": ["batch", len(module.judge.names)], "names": module.judge.names},
            "map": "anomaly of each patch from 0 to 1, (batch, rows, columns)",
        },
        "tolerance": {"measured": worst, "allowed": TOLERANCE},
        "preprocess": asdict(backbone.preprocess),
    }
    if with_resize:
        files[WITH_RESIZE] = with_resizing(data, module.inputs)
        large = images[0].repeat(4, 0).repeat(4, 1)
        found = _run(files[WITH_RESIZE], {"image": large[None]})
        record["with_resize"] = {
            "input": {
                "image": {"type": "uint8", "shape": ["batch", "height", "width", 3], "channels": "RGB"}
            },
            "differs_by": abs(float(found[0][0]) - next(iter(detector.predict([large]))).logit),
            "because": "the resizing inside the graph is not Pillow's to the last digit",
        }
    calibration = detector.calibration_
    if calibration is not None:
        record["threshold"] = {
            "logit": calibration.threshold,
            "map": calibration.map_threshold,
            "from": calibration.sentence(),
        }
    files |= _vectors(resized, expected, record)
    files["README.md"] = _card(detector, module, worst).encode()
    files[RECORD] = (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
    try:
        with whole_folder(folder) as fresh:
            for name, content in files.items():
                (fresh / name).write_bytes(content)
    except OSError as error:
        raise OutputError(
            f"the graph could not be written to {folder}: {error.strerror or error}; check its permissions"
        ) from error
    if progress is not None:
        progress("graph", 2, 2)


def with_resizing(data: bytes, inputs: Mapping[str, int]) -> bytes:
    """Put the resizing before a graph, so that it takes ``image``, uint8 (B, H, W, 3) of any size."""
    with needing("writing ONNX files"):
        import onnx
    helper, kinds = onnx.helper, onnx.TensorProto
    model = onnx.load_from_string(data)
    nodes = [
        helper.make_node("Transpose", ["image"], ["image_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["image_planes"], ["image_float"], to=kinds.FLOAT),
    ]
    limits = {"least": 0.0, "most": 255.0}
    model.graph.initializer.extend(helper.make_tensor(n, kinds.FLOAT, [], [v]) for n, v in limits.items())
    for name, size in inputs.items():
        model.graph.initializer.append(helper.make_tensor(f"{name}_size", kinds.INT64, [2], [size, size]))
        nodes += [
            helper.make_node(
                "Resize",
                ["image_float", "", "", f"{name}_size"],
                [f"{name}_resized"],
                mode="cubic",
                cubic_coeff_a=CUBIC,
                antialias=1,
                axes=[2, 3],
                coordinate_transformation_mode="half_pixel",
            ),
            helper.make_node("Round", [f"{name}_resized"], [f"{name}_rounded"]),
            helper.make_node("Clip", [f"{name}_rounded", "least", "most"], [f"{name}_clipped"]),
            helper.make_node("Cast", [f"{name}_clipped"], [f"{name}_bytes"], to=kinds.UINT8),
            helper.make_node("Transpose", [f"{name}_bytes"], [name], perm=[0, 2, 3, 1]),
        ]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    del model.graph.input[:]
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    model.graph.input.append(helper.make_tensor_value_info("image", kinds.UINT8, shape))
    return bytes(model.SerializeToString())


def _expected(
    detector: BackboneDetector[Any], images: Sequence[Any], names: Sequence[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return what the detector says: log-odds (N,), named scores (N, names), maps (N, rows, columns)."""
    found = list(detector.predict(images, maps=True))
    maps = [prediction.map for prediction in found]
    assert all(drawn is not None for drawn in maps)
    scores = [[prediction.scores[name] for name in names] for prediction in found]
    return np.array([p.logit for p in found]), np.array(scores), np.stack(maps)  # type: ignore[arg-type]


def _run(data: bytes, inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    return list(open_onnx(data, "float32", None)(inputs, ("logit", "scores", "map")))


def _difference(
    data: bytes, resized: Mapping[str, npt.NDArray[Any]], expected: Sequence[npt.NDArray[Any]]
) -> float:
    """Return the largest difference from what is expected, at one image and at all of them a batch."""
    worst = 0.0
    for count in (1, len(expected[0])):
        found = _run(data, {name: part[:count] for name, part in resized.items()})
        pairs = zip(expected, found, strict=True)
        worst = max(worst, *(float(np.abs(one[:count] - other).max()) for one, other in pairs))
    return worst


def _vectors(
    resized: Mapping[str, npt.NDArray[np.uint8]], expected: Sequence[npt.NDArray[Any]], record: dict[str, Any]
) -> dict[str, bytes]:
    """Return pictures and expected outputs as files that any language can read; ``record`` names them."""
    files = {f"vectors-{name}.bin": part.tobytes() for name, part in resized.items()}
    record["vectors"] = {
        "inputs": {
            name: {"file": f"vectors-{name}.bin", "shape": list(part.shape)} for name, part in resized.items()
        },
        "logit": expected[0].tolist(),
        "scores": expected[1].tolist(),
        "map": np.round(expected[2].astype(np.float64), 7).tolist(),
    }
    return files


def _card(detector: BackboneDetector[Any], module: DetectorGraph, worst: float) -> str:
    sizes = " and ".join(f"`{name}` ({size} x {size})" for name, size in module.inputs.items())
    return (
        f"{detector.card_}\n# As an ONNX graph\n\n`{MODEL}` takes {sizes}: uint8, RGB, (batch, height, "
        f"width, 3), resized as `{RECORD}` says. It gives `logit`, `scores` and `map`; on the test pictures "
        f"they differ from the detector's by at most {worst:.1e}. `{RECORD}` also holds the threshold, where "
        "there is one, and what the test pictures in `vectors-*.bin` must give.\n"
    )


def _tensor(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _frozen(values: npt.NDArray[Any]) -> nn.Parameter:
    return nn.Parameter(_tensor(np.asarray(values)), requires_grad=False)
