"""Heads: text embeddings in at fit time, anomaly logits of any embeddings out at predict time.

The paper's head is a 4-layer feed-forward network (RWDA, BMVC 2023). The linear ones are controls that show
how much of the effect the network itself adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroflaw.errors import UsageError

HeadName = Literal["fnn", "mean-difference", "logistic", "lda"]
HEADS: tuple[HeadName, ...] = ("fnn", "mean-difference", "logistic", "lda")
Normalization = Literal["none", "layer", "batch"]
MEAN_LOGIT = 5.0
Step = Callable[[int, int], None]  # steps done, steps in all


class LinearHead(nn.Module):
    """One direction in the embedding space: ``logit = x . weight + bias``."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.float(), requires_grad=False)
        self.bias = nn.Parameter(bias.float().reshape(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Score embeddings (..., E): logits (...)."""
        return x @ self.weight + self.bias


def empty_linear(width: int) -> LinearHead:
    """Return a linear head of zeros, to be filled from a file."""
    return LinearHead(torch.zeros(width), torch.zeros(()))


def prototype_pair(normal: Tensor, anomalous: Tensor, scale: float) -> LinearHead:
    """Zero-shot classification between the mean normal and the mean anomalous prompt.

    ``softmax([x.n, x.a] * scale)[a]`` is the logistic function of ``scale * x.(a - n)`` (CLIP; WinCLIP
    section 4.1). Sentence embeddings (N, E) are averaged and the means normalised.
    """
    difference = F.normalize(anomalous.mean(0), dim=-1) - F.normalize(normal.mean(0), dim=-1)
    return LinearHead(scale * difference, torch.zeros(()))


def mean_difference(normal: Tensor, anomalous: Tensor, scale: float) -> LinearHead:
    """Control: the difference of the class means, zero half-way between them."""
    weight = scale * (anomalous.mean(0) - normal.mean(0))
    return LinearHead(weight, -weight @ (anomalous.mean(0) + normal.mean(0)) / 2)


def lda(normal: Tensor, anomalous: Tensor, shrinkage: float = 1e-2) -> LinearHead:
    """Control: linear discriminant analysis, the within-class covariance shrunk towards a multiple of one.

    Its log-odds take the classes for Gaussian and run to hundreds, where probabilities are all 0 or 1. They
    are scaled so that the class means lie at plus and minus `MEAN_LOGIT`; the order of scores stays.
    """
    n, a = normal.double(), anomalous.double()
    centred = torch.cat([n - n.mean(0), a - a.mean(0)])
    covariance = centred.T @ centred / len(centred)
    spread = covariance.diagonal().mean().clamp_min(1e-12)
    covariance = (1 - shrinkage) * covariance + shrinkage * spread * torch.eye(
        len(covariance), dtype=torch.double
    )
    weight = torch.linalg.solve(covariance, a.mean(0) - n.mean(0))
    weight = weight * MEAN_LOGIT / (weight @ (a.mean(0) - n.mean(0)) / 2).clamp_min(1e-12)
    return LinearHead(weight, -weight @ (a.mean(0) + n.mean(0)) / 2)


def logistic_regression(
    normal: Tensor, anomalous: Tensor, penalty: float = 1.0, steps: int = 50
) -> LinearHead:
    """Control: logistic regression by Newton's method on the summed loss plus ``penalty * |w|^2 / 2``."""
    x = torch.cat([normal, anomalous]).double()
    x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.double)], 1)
    y = torch.cat([torch.zeros(len(normal)), torch.ones(len(anomalous))]).double()
    ridge = torch.full((x.shape[1],), penalty, dtype=torch.double)
    ridge[-1] = 1e-6  # the bias is all but free; a bare zero could leave the Hessian singular
    w = torch.zeros(x.shape[1], dtype=torch.double)
    for _ in range(steps):
        p = torch.sigmoid(x @ w)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + torch.diag(ridge)
        step = torch.linalg.solve(hessian, x.T @ (p - y) + ridge * w)
        w = w - step
        if float(step.abs().max()) < 1e-9:
            break
    return LinearHead(w[:-1], w[-1])


class FNN(nn.Module):
    """The paper's feed-forward network: linear layers with ReLU between them, one logit out.

    The paper says "4-layer" and nothing about widths, normalisation or dropout, so these are parameters.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int] = (512, 256, 128),
        *,
        normalization: Normalization = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = [width, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), *_norm(normalization, after), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Score embeddings (..., E): logits (...)."""
        flat = self.layers(x.reshape(-1, x.shape[-1]))  # batch normalisation wants (N, E)
        return flat.reshape(x.shape[:-1])  # type: ignore[no-any-return]


def _norm(kind: Normalization, width: int) -> list[nn.Module]:
    kinds: Mapping[str, list[nn.Module]] = {
        "none": [],
        "layer": [nn.LayerNorm(width)],
        "batch": [nn.BatchNorm1d(width)],
    }
    return kinds[kind]


def train_fnn(
    head: FNN,
    normal: Tensor,
    anomalous: Tensor,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    noise: float,
    label_smoothing: float,
    progress: Step | None = None,
) -> FNN:
    """Train a network on pairs of text embeddings, each (N, E), with binary cross entropy and Adam; see RWDA,
    section 3.

    Args:
        head: the network; whatever weights it has are replaced.
        noise: standard deviation of Gaussian noise added to the embeddings before they are normalised again.
        label_smoothing: moves the targets from 0 and 1 towards one half.

    Raises:
        UsageError: the loss is not finite; the message names the step, the rate and the seed.
    """
    generator = torch.Generator().manual_seed(seed)
    head = head.to_empty(device="cpu")
    _initialise(head, generator)
    x = torch.cat([normal, anomalous])
    y = torch.cat([torch.zeros(len(normal)), torch.ones(len(anomalous))])
    y = y * (1 - label_smoothing) + label_smoothing / 2
    optimiser = torch.optim.Adam(head.parameters(), lr=learning_rate, weight_decay=weight_decay)
    # Dropout draws from the global generator; it is put back afterwards so that a fit leaves no trace.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head.train()
        for epoch in range(epochs):
            for step, rows in enumerate(torch.randperm(len(x), generator=generator).split(batch_size)):
                if len(rows) < 2:
                    continue  # batch normalisation has no variance over one row
                batch = x[rows]
                if noise:
                    batch = F.normalize(batch + noise * torch.randn(batch.shape, generator=generator), dim=-1)
                loss = F.binary_cross_entropy_with_logits(head(batch), y[rows])
                _require_finite(loss, epoch, step, seed, learning_rate)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            if progress is not None:
                progress(epoch + 1, epochs)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in head.parameters()):
        raise UsageError(
            f"training ended with weights that are not finite (seed {seed}, learning rate {learning_rate}); "
            "use a smaller learning_rate"
        )
    return head.eval().requires_grad_(False)


def _initialise(head: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's default initialisation, drawn from a local generator."""
    for module in head.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def _require_finite(loss: Tensor, epoch: int, step: int, seed: int, learning_rate: float) -> None:
    if not torch.isfinite(loss):
        raise UsageError(
            f"training stopped: the loss became {loss.item()} in epoch {epoch + 1}, step {step + 1} "
            f"(seed {seed}, learning rate {learning_rate}); use a smaller learning_rate"
        )
