"""A graph with linear layers in 8 bits, kept only where it says of photos what the exact one says.

Weights of the tower's linear layers are rounded per output channel, activations as they come ("dynamic"): no
range is fixed beforehand, so photos are needed to compare, not to calibrate. Convolutions, attention, heads
and memories stay in single precision. Measured on real photographs of the bundled model (docs/export.md),
rounding the convolutions moves the highest value of a map to another patch in every third picture, and ranges
that are fixed beforehand do so in every tenth.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from zeroflaw.errors import OutputError, UsageError, needing
from zeroflaw.export.tower import halved, quiet, singled
from zeroflaw.runtime.onnx_engine import open_onnx

FEWEST = 20  # photos: with fewer, one in twenty cannot be told
PEAKS = 0.95  # least share of photos whose highest patch is the same one
MAPS = 0.05  # largest mean difference of maps, which are from 0 to 1
RANKS = 0.99  # least rank correlation of log-odds
ALIKE = 1e-3  # log-odds that are nearer to one another have no order
ROUNDED = ("MatMul",)  # by a weight

_JUDGE = "module.judge."  # begins the names of what a detector learned (`zeroflaw.export.graphs`)
_LAST = ("module.vision.projection", "module.vision.patch_projection")  # give embeddings

Inputs = Mapping[str, npt.NDArray[Any]]  # photos, resized, uint8 (B, S, S, 3) by the name of the input


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two graphs say the same of photos.

    Attributes:
        photos: how many.
        same_peak: share of the photos whose highest patch is the same one.
        maps: mean difference of all values of the maps.
        ranks: rank correlation (Spearman) of the log-odds.
        logit: largest difference of the log-odds.
    """

    photos: int
    same_peak: float
    maps: float
    ranks: float
    logit: float

    @property
    def is_enough(self) -> bool:
        """Whether one graph may stand for the other."""
        return self.same_peak >= PEAKS and self.maps <= MAPS and self.ranks >= RANKS

    def __str__(self) -> str:
        return (
            f"the highest patch is the same in {self.same_peak:.1%} of {self.photos} photos, maps differ by "
            f"{self.maps:.4f} on average, log-odds by at most {self.logit:.2f}, and their ranks agree to "
            f"{self.ranks:.4f}"
        )


def require_enough(count: int) -> None:
    """Refuse to compare on too few photos.

    Raises:
        UsageError: with how many are wanted.
    """
    if count < FEWEST:
        raise UsageError(f"8 bits are compared on at least {FEWEST} photos, got {count}; give more")


def of_tower(graph: Any) -> list[Any]:
    """Return the nodes that multiply by a weight of the image tower: neither of a head nor of a memory."""
    weights = {weight.name for weight in graph.initializer if not weight.name.startswith(_JUDGE)}
    judged: set[str] = set()  # values that come of embeddings
    found = []
    for node in graph.node:
        if judged.intersection(node.input):
            judged.update(node.output)
            continue
        if len(node.input) > 1 and node.input[1] in weights:
            found.append(node)
            if node.input[1] in _LAST:
                judged.update(node.output)
    return found


def in_int8(data: bytes) -> bytes:
    """Return a graph with its linear layers in 8 bits."""
    with needing("writing ONNX files"):
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    model = singled(onnx.load_from_string(data))
    linear = [node.name for node in of_tower(model.graph) if node.op_type in ROUNDED]
    with tempfile.TemporaryDirectory() as folder, quiet(""):
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(model, path, nodes_to_quantize=linear, weight_type=QuantType.QInt8, per_channel=True)
        return halved(onnx.load(path))


def compare(one: bytes, other: bytes, batches: Iterable[Inputs]) -> Agreement:
    """Run two graphs of a detector on the same photos.

    Raises:
        UsageError: there are too few photos, or all have the same log-odds.
    """
    graphs = [open_onnx(data, "float32", None) for data in (one, other)]
    logits: list[list[npt.NDArray[Any]]] = [[], []]
    same, differences = 0, []
    for inputs in batches:
        maps = []
        for graph, found in zip(graphs, logits, strict=True):
            logit, drawn = graph(inputs, ("logit", "map"))
            found.append(logit)
            maps.append(drawn.reshape(len(drawn), -1))
        same += int((maps[0].argmax(1) == maps[1].argmax(1)).sum())
        differences += list(np.abs(maps[0] - maps[1]).mean(1))
    count = len(differences)
    require_enough(count)
    first, second = (np.concatenate(found) for found in logits)
    ranks = [rankdata(side) for side in (first, second)]
    if np.ptp(first) < ALIKE or np.ptp(second) < ALIKE:
        raise UsageError("all photos to compare 8 bits on have the same score; give others")
    return Agreement(
        count,
        same / count,
        float(np.mean(differences)),
        float(np.corrcoef(ranks)[0, 1]),
        float(np.abs(first - second).max()),
    )


def checked_int8(data: bytes, batches: Iterable[Inputs]) -> tuple[bytes, Agreement]:
    """Return a graph in 8 bits, and how far it says of photos what ``data`` says.

    Raises:
        OutputError: that is not enough.
        UsageError: there are too few photos, or all have the same log-odds.
    """
    small = in_int8(data)
    found = compare(data, small, batches)
    if not found.is_enough:
        raise OutputError(
            f"in 8 bits the detector does not say the same: {found}, where at least {PEAKS:.0%}, at "
            f"most {MAPS} and at least {RANKS} are wanted; nothing was written, export without --int8"
        )
    return small, found
