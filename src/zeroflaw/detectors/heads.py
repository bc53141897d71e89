"""Heads learned from text embeddings: the paper's network, and linear controls that show what it adds.

Everything here is torch and runs once, at fit time; what comes out is a head of `zeroflaw.runtime.heads`.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zeroflaw.detectors.inputs import Step
from zeroflaw.detectors.training import Learning, epoch
from zeroflaw.parameters import Rate, parameters
from zeroflaw.runtime.heads import FNNHead, Head, Layer, LinearHead, rounded
from zeroflaw.runtime.scores import Doubles

HeadName = Literal["fnn", "mean-difference", "logistic", "lda"]
Share = Annotated[float, Field(ge=0, le=0.99)]
MEAN_LOGIT = 5.0


def linear(weight: Tensor, bias: Tensor | float = 0.0) -> LinearHead:
    """Return the head of a direction (E,) and a bias, rounded to float32 as it will be saved."""
    return LinearHead(rounded(_doubles(weight)), rounded(_doubles(torch.as_tensor(bias).reshape(()))))


def prototype_pair(normal: Tensor, anomalous: Tensor, scale: float) -> LinearHead:
    """Zero-shot classification between the mean normal and the mean anomalous prompt.

    ``softmax([x.n, x.a] * scale)[a]`` is the logistic function of ``scale * x.(a - n)`` (CLIP; WinCLIP
    section 4.1). Sentence embeddings (N, E) are averaged and the means normalised.
    """
    return linear(scale * (F.normalize(anomalous.mean(0), dim=-1) - F.normalize(normal.mean(0), dim=-1)))


def mean_difference(normal: Tensor, anomalous: Tensor, scale: float) -> LinearHead:
    """Control: the difference of the class means, zero half-way between them."""
    weight = scale * (anomalous.mean(0) - normal.mean(0))
    return linear(weight, -weight @ (anomalous.mean(0) + normal.mean(0)) / 2)


def lda(normal: Tensor, anomalous: Tensor, shrinkage: float = 1e-2) -> LinearHead:
    """Control: linear discriminant analysis, the within-class covariance shrunk towards a multiple of one.

    Its log-odds take the classes for Gaussian and run to hundreds, where probabilities are all 0 or 1. They
    are scaled so that the class means lie at plus and minus `MEAN_LOGIT`; the order of scores stays.
    """
    n, a = normal.double(), anomalous.double()
    centred = torch.cat([n - n.mean(0), a - a.mean(0)])
    covariance = centred.T @ centred / len(centred)
    spread = covariance.diagonal().mean().clamp_min(1e-12)
    shrunk = (1 - shrinkage) * covariance + shrinkage * spread * torch.eye(len(covariance)).double()
    weight = torch.linalg.solve(shrunk, a.mean(0) - n.mean(0))
    weight = weight * MEAN_LOGIT / (weight @ (a.mean(0) - n.mean(0)) / 2).clamp_min(1e-12)
    return linear(weight, -weight @ (a.mean(0) + n.mean(0)) / 2)


def logistic_regression(
    normal: Tensor, anomalous: Tensor, penalty: float = 1.0, steps: int = 50
) -> LinearHead:
    """Control: logistic regression by Newton's method on the summed loss plus ``penalty * |w|^2 / 2``."""
    x = torch.cat([normal, anomalous]).double()
    x = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    y = torch.cat([torch.zeros(len(normal)), torch.ones(len(anomalous))]).double()
    ridge = torch.full((x.shape[1],), penalty).double()
    ridge[-1] = 1e-6  # the bias is all but free; a bare zero could leave the Hessian singular
    w = torch.zeros(x.shape[1]).double()
    for _ in range(steps):
        p = torch.sigmoid(x @ w)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + torch.diag(ridge)
        step = torch.linalg.solve(hessian, x.T @ (p - y) + ridge * w)
        w = w - step
        if float(step.abs().max()) < 1e-9:
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


def train_fnn(
    normal: Tensor, anomalous: Tensor, how: FNNTraining, seed: int, *, progress: Step | None = None
) -> FNNHead:
    """Train a network on pairs of text embeddings, each (N, E), with binary cross entropy and Adam; see RWDA,
    section 3.

    The paper says "4-layer" and nothing about widths, normalisation or dropout, so these are parameters.

    Raises:
        UsageError: the loss is not finite; the message names the step, the rate and the seed.
    """
    generator = torch.Generator().manual_seed(seed)
    network = _network(normal.shape[1], how, generator)
    x = torch.cat([normal, anomalous])
    y = torch.cat([torch.zeros(len(normal)), torch.ones(len(anomalous))])
    y = y * (1 - how.label_smoothing) + how.label_smoothing / 2
    adam = partial(torch.optim.Adam, lr=how.learning_rate, weight_decay=how.weight_decay)
    learning = Learning(dict(network.named_parameters()), adam, generator, seed=seed)

    def one_epoch() -> None:
        # Batch normalisation has no variance over one row.
        for rows in epoch(len(x), how.batch_size, generator, least=2):
            batch = x[rows]
            if how.noise:
                batch = F.normalize(batch + how.noise * torch.randn(batch.shape, generator=generator), dim=-1)
            loss = F.binary_cross_entropy_with_logits(network(batch)[:, 0], y[rows])
            learning.step({"network": loss})

    # Dropout draws from the global generator; it is put back afterwards so that a fit leaves no trace.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network.train()
        learning.run(how.epochs, one_epoch, progress=progress)
    return _head(network.eval())


def _network(width: int, how: FNNTraining, generator: torch.Generator) -> nn.Sequential:
    """Return a network with PyTorch's default initialisation, drawn from a local generator."""
    sizes = [width, *how.hidden]
    layers: list[nn.Module] = []
    with torch.device("meta"):  # nothing is drawn from the global generator
        for before, after in pairwise(sizes):
            norm = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}[how.normalization]
            layers += [nn.Linear(before, after), norm(after), nn.ReLU(), nn.Dropout(how.dropout)]
        layers.append(nn.Linear(sizes[-1], 1))
    network = nn.Sequential(*layers).to_empty(device="cpu")
    for module in network:
        if isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    return network


@torch.no_grad()
def _head(network: nn.Sequential) -> FNNHead:
    """Return a trained network in NumPy; batch normalisation is folded into the layer before it."""
    layers: list[Layer] = []
    for module in network:
        if isinstance(module, nn.Linear):
            layers.append(Layer(_doubles(module.weight), _doubles(module.bias)))
        elif isinstance(module, nn.LayerNorm):
            last = layers.pop()
            layers.append(Layer(last.weight, last.bias, _doubles(module.weight), _doubles(module.bias)))
        elif isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            last = layers.pop()
            scale = _doubles(module.weight) / np.sqrt(_doubles(module.running_var) + module.eps)
            shift = (last.bias - _doubles(module.running_mean)) * scale + _doubles(module.bias)
            layers.append(Layer(rounded(last.weight * scale[:, None]), rounded(shift)))
    return FNNHead(layers)


def _doubles(tensor: Tensor) -> Doubles:
    return tensor.detach().double().numpy()


def cooled(head: Head, temperature: float) -> Head:
    """Divide the logits by the temperature, in the last layer: what is saved needs no extra step."""
    if temperature == 1:
        return head
    if isinstance(head, LinearHead):
        return LinearHead(rounded(head.weight / temperature), rounded(head.bias / temperature))
    *inner, last = head.layers
    return FNNHead([*inner, Layer(rounded(last.weight / temperature), rounded(last.bias / temperature))])
