"""Heads learned from text embeddings: linear ones, in closed form, and how the paper's network is trained.

The network itself is trained in `zeroflaw.detectors.network`, on torch. Embeddings are arrays (N, E), or
tensors on the CPU.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from zeroflaw.parameters import Rate, parameters
from zeroflaw.runtime.heads import FNNHead, Head, Layer, LinearHead, rounded
from zeroflaw.runtime.scores import Doubles, expit

HeadName = Literal["fnn", "mean-difference", "logistic", "lda"]
Share = Annotated[float, Field(ge=0, le=0.99)]
MEAN_LOGIT = 5.0


def linear(weight: Any, bias: Any = 0.0) -> LinearHead:
    """Return the head of a direction (E,) and a bias, rounded to float32 as it will be saved."""
    return LinearHead(rounded(doubles(weight)), rounded(doubles(bias)))


def prototype_pair(normal: Any, anomalous: Any, scale: float) -> LinearHead:
    """Zero-shot classification between the mean normal and the mean anomalous prompt.

    ``softmax([x.n, x.a] * scale)[a]`` is the logistic function of ``scale * x.(a - n)`` (CLIP; WinCLIP
    section 4.1). Sentence embeddings (N, E) are averaged and the means normalised.
    """
    n, a = (doubles(side).mean(0) for side in (normal, anomalous))
    return linear(scale * (a / np.linalg.norm(a) - n / np.linalg.norm(n)))


def mean_difference(normal: Any, anomalous: Any, scale: float) -> LinearHead:
    """Control: the difference of the class means, zero half-way between them."""
    n, a = (doubles(side).mean(0) for side in (normal, anomalous))
    return linear(scale * (a - n), -scale * (a - n) @ (a + n) / 2)


def lda(normal: Any, anomalous: Any, shrinkage: float = 1e-2) -> LinearHead:
    """Control: linear discriminant analysis, the within-class covariance shrunk towards a multiple of one.

    Its log-odds take the classes for Gaussian and run to hundreds, where probabilities are all 0 or 1. They
    are scaled so that the class means lie at plus and minus `MEAN_LOGIT`; the order of scores stays.
    """
    n, a = doubles(normal), doubles(anomalous)
    centred = np.concatenate([n - n.mean(0), a - a.mean(0)])
    covariance = centred.T @ centred / len(centred)
    spread = max(float(covariance.diagonal().mean()), 1e-12)
    shrunk = (1 - shrinkage) * covariance + shrinkage * spread * np.eye(len(covariance))
    weight = np.linalg.solve(shrunk, a.mean(0) - n.mean(0))
    weight = weight * MEAN_LOGIT / max(float(weight @ (a.mean(0) - n.mean(0)) / 2), 1e-12)
    return linear(weight, -weight @ (a.mean(0) + n.mean(0)) / 2)


def logistic_regression(normal: Any, anomalous: Any, penalty: float = 1.0, steps: int = 50) -> LinearHead:
    """Control: logistic regression by Newton's method on the summed loss plus ``penalty * |w|^2 / 2``."""
    x = np.concatenate([doubles(normal), doubles(anomalous)])
    x = np.concatenate([x, np.ones((len(x), 1))], 1)
    y = np.concatenate([np.zeros(len(normal)), np.ones(len(anomalous))])
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 1e-6  # the bias is all but free; a bare zero could leave the Hessian singular
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        p = expit(x @ w)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(hessian, x.T @ (p - y) + ridge * w)
        w = w - step
        if float(np.abs(step).max()) < 1e-9:
            break
    return linear(w[:-1], w[-1])


@parameters
class FNNTraining:
    """How the network is trained, as parameters of `zeroflaw.detectors.text_head.TextTrained`.

    Attributes:
        hidden: widths between the FNN's layers; three make the paper's four layers.
        normalization: none, layer or batch, between the FNN's layers.
        dropout: share of hidden units dropped while training.
        epochs, batch_size, learning_rate: of Adam; not in the paper.
        weight_decay: of Adam; not in the paper. Text is so easy to tell apart that without it the logits of
            images, which lie off the text's manifold, all run to one side.
        noise: Gaussian noise on text embeddings while training.
        label_smoothing: moves the training targets towards one half.
    """

    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(max_length=16)] = (
        512,
        256,
        128,
    )
    normalization: Literal["none", "layer", "batch"] = "none"
    dropout: Share = 0.0
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 256
    learning_rate: Rate = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=1e3)] = 1e-3
    noise: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    label_smoothing: Share = 0.0


def cooled(head: Head, temperature: float) -> Head:
    """Divide the logits by the temperature, in the last layer: what is saved needs no extra step."""
    if temperature == 1:
        return head
    if isinstance(head, LinearHead):
        return LinearHead(rounded(head.weight / temperature), rounded(head.bias / temperature))
    *inner, last = head.layers
    return FNNHead([*inner, Layer(rounded(last.weight / temperature), rounded(last.bias / temperature))])


def doubles(values: Any) -> Doubles:
    """Return an array, a number, or a tensor on the CPU as float64."""
    found: npt.NDArray[Any] = np.asarray(values.detach() if hasattr(values, "detach") else values)
    return found.astype(np.float64)
