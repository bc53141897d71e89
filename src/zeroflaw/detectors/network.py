"""The paper's network, trained on text embeddings; torch, which runs once, at fit time."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroflaw.detectors.heads import FNNTraining, doubles
from zeroflaw.detectors.inputs import Step, silent
from zeroflaw.detectors.training import Learning, epoch
from zeroflaw.runtime.heads import FNNHead, Layer, rounded


def train_fnn(
    normal: Tensor, anomalous: Tensor, how: FNNTraining, seed: int, *, progress: Step = silent
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
            layers.append(Layer(doubles(module.weight), doubles(module.bias)))
        elif isinstance(module, nn.LayerNorm):
            last = layers.pop()
            layers.append(Layer(last.weight, last.bias, doubles(module.weight), doubles(module.bias)))
        elif isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            last = layers.pop()
            scale = doubles(module.weight) / np.sqrt(doubles(module.running_var) + module.eps)
            shift = (last.bias - doubles(module.running_mean)) * scale + doubles(module.bias)
            layers.append(Layer(rounded(last.weight * scale[:, None]), rounded(shift)))
    return FNNHead(layers)
