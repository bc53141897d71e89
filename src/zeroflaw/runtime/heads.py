"""Heads: embeddings in, anomaly log-odds out; what a detector learned from words, in NumPy.

The paper's head is a 4-layer feed-forward network (RWDA, BMVC 2023); prompts make linear ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeroflaw.errors import DetectorError
from zeroflaw.runtime.scores import Doubles

Arrays = Mapping[str, npt.NDArray[np.generic]]
EPSILON = 1e-5  # of the variance in layer normalisation, as torch has it


def rounded(values: npt.NDArray[np.floating]) -> Doubles:
    """Return values as a saved detector will hold them, so that it judges the same when it is loaded."""
    return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class LinearHead:
    """One direction in the embedding space: ``logit = x . weight + bias``; weight (E,), bias ()."""

    weight: Doubles
    bias: Doubles

    @property
    def width(self) -> int:
        """Width E of the embeddings it takes."""
        return len(self.weight)

    def __call__(self, x: npt.NDArray[np.floating]) -> Doubles:
        """Score embeddings (..., E): logits (...)."""
        return np.asarray(x.astype(np.float64) @ self.weight + self.bias)

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return its arrays by name, for a saved detector."""
        return {"weight": self.weight.astype(np.float32), "bias": self.bias.astype(np.float32)}


@dataclass(frozen=True)
class Layer:
    """A linear layer, weight (out, in) and bias (out,), perhaps normalised with gain and shift (out,)."""

    weight: Doubles
    bias: Doubles
    gain: Doubles | None = None
    shift: Doubles | None = None

    def __call__(self, x: Doubles) -> Doubles:
        """Map rows (N, in) to (N, out)."""
        y = x @ self.weight.T + self.bias
        if self.gain is None or self.shift is None:
            return np.asarray(y)
        centred = y - y.mean(1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(1, keepdims=True) + EPSILON)
        return np.asarray(centred / scale * self.gain + self.shift)


@dataclass(frozen=True)
class FNNHead:
    """Linear layers with ReLU between them, one logit out (RWDA, section 3)."""

    layers: Sequence[Layer]

    @property
    def width(self) -> int:
        """Width E of the embeddings it takes."""
        return int(self.layers[0].weight.shape[1])

    def __call__(self, x: npt.NDArray[np.floating]) -> Doubles:
        """Score embeddings (..., E): logits (...)."""
        *inner, last = self.layers
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        for layer in inner:
            rows = np.maximum(layer(rows), 0)
        return last(rows).reshape(x.shape[:-1])

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return its arrays by name, for a saved detector."""
        parts = ("weight", "bias", "gain", "shift")
        named = {f"{n}.{p}": getattr(layer, p) for n, layer in enumerate(self.layers) for p in parts}
        return {name: value.astype(np.float32) for name, value in named.items() if value is not None}


Head = LinearHead | FNNHead


def read_head(arrays: Arrays) -> Head:
    """Make a head from what ``arrays()`` returned.

    Raises:
        DetectorError: an array is missing, superfluous or of another shape.
    """
    doubles = {name: value.astype(np.float64) for name, value in arrays.items()}
    if set(doubles) == {"weight", "bias"} and doubles["weight"].ndim == 1 and doubles["bias"].ndim == 0:
        return LinearHead(doubles["weight"], doubles["bias"])
    layers: list[Layer] = []
    while f"{len(layers)}.weight" in doubles:
        number = len(layers)
        taken = {p: doubles.pop(f"{number}.{p}", None) for p in ("weight", "bias", "gain", "shift")}
        layers.append(_layer(number, taken, layers[-1].weight.shape[0] if layers else None))
    if doubles or not layers or len(layers[-1].weight) != 1 or layers[-1].gain is not None:
        raise DetectorError(
            f"head.safetensors does not hold a network with one output: {', '.join(sorted(arrays)[:5])}; "
            "save the detector again"
        )
    return FNNHead(layers)


def _layer(number: int, taken: Mapping[str, Doubles | None], width: int | None) -> Layer:
    weight, bias, gain, shift = (taken[part] for part in ("weight", "bias", "gain", "shift"))
    if weight is not None and bias is not None and weight.ndim == 2 and width in (None, weight.shape[1]):
        vectors = [bias] if gain is None and shift is None else [bias, gain, shift]
        if all(v is not None and v.shape == (len(weight),) for v in vectors):
            return Layer(weight, bias, gain, shift)
    shapes = {part: None if value is None else value.shape for part, value in taken.items()}
    raise DetectorError(
        f"layer {number} of the network in head.safetensors has parts that do not fit together ({shapes}); "
        "save the detector again"
    )
