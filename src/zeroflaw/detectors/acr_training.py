"""The network of ACR, whose batch normalisation is always live, and what it learns from.

Li et al., NeurIPS 2023, arXiv 2302.07849. All functions take many tasks at once, as (T, N, C): T tasks of N
rows of C numbers. Each task is normalised by its own N rows, so that "normal" means "like the rest of the
batch".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

EPSILON = 1e-5  # of the variance, as torch.nn.BatchNorm1d has it: a constant batch is divided by its root
NEAREST = 1e-6  # smallest squared distance whose inverse is taken in the loss

LastGain = Literal["one", "uniform"]


def layer_widths(inputs: int, outputs: int, depth: int) -> tuple[int, ...]:
    """Return the widths from ``inputs`` to ``outputs`` in ``depth`` equal ratios, and ``outputs`` once more.

    The paper's network halves 1024 five times: ``(1024, 512, 256, 128, 64, 32, 32)``.
    """
    ratio = outputs / inputs
    return (inputs, *(round(inputs * ratio ** (step / depth)) for step in range(1, depth + 1)), outputs)


def normalise_live(rows: Tensor) -> Tensor:
    """Give every column of every task mean 0 and (biased) variance 1 over the task's rows, (T, N, C)."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    return centred * (centred.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()


class LiveNetwork(nn.Module):
    """Linear layers, each followed by live normalisation with a gain and a shift, all but the last by ReLU.

    The linear layers have no bias: the normalisation would take it out again.

    Attributes:
        linears: weights, each (out, in).
        gains, shifts: factor and summand after each normalisation, (out,).
        centre: where normal rows are drawn to, (out,).
        mean, scale: of the channels of features, (in,), which callers take out before they give them.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, widths: Sequence[int]) -> None:
        """Lay out a network from the widths of its input and of every layer's output; see `layer_widths`."""
        super().__init__()
        self.linears = nn.ParameterList([torch.zeros(out, into) for into, out in pairwise(widths)])
        self.gains = nn.ParameterList([torch.ones(out) for out in widths[1:]])
        self.shifts = nn.ParameterList([torch.zeros(out) for out in widths[1:]])
        self.centre = nn.Parameter(torch.zeros(widths[-1]))
        self.register_buffer("mean", torch.zeros(widths[0]))
        self.register_buffer("scale", torch.ones(widths[0]))

    def draw(self, generator: torch.Generator, last_gain: LastGain = "one") -> None:
        """Draw the weights uniformly as torch.nn.Linear does, and the centre from a normal distribution.

        The authors draw the last gain, too, from U(0, 1): that is ``last_gain="uniform"``.
        """
        for weight in self.linears:
            bound = weight.shape[1] ** -0.5
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        nn.init.normal_(self.centre, generator=generator)
        if last_gain == "uniform":
            nn.init.uniform_(self.gains[-1], generator=generator)

    @override
    def forward(self, rows: Tensor) -> Tensor:
        """Return the squared distances (T, N) of rows (T, N, C) from the centre, each task by itself."""
        last = len(self.linears) - 1
        for number, weight in enumerate(self.linears):
            rows = normalise_live(rows @ weight.T) * self.gains[number] + self.shifts[number]
            rows = rows if number == last else rows.relu()
        return (rows - self.centre).square().sum(dim=-1)


def draw_tasks(
    features: Sequence[Tensor], tasks: int, shots: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the rows (shots, C) of random tasks: one position of one product each.

    ``features`` are those of the images of each product, (images, positions, C). A product with fewer images
    than ``shots`` gives some of them more than once.
    """

    def below(end: int) -> int:
        return int(torch.randint(end, (), generator=generator))

    for _ in range(tasks):
        chosen = features[below(len(features))]
        images, position = len(chosen), below(chosen.shape[1])
        if images >= shots:
            rows = torch.randperm(images, generator=generator)[:shots]
        else:
            rows = torch.randint(images, (shots,), generator=generator)
        yield chosen[rows, position]


def with_noise(rows: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Put a noisy copy of every row behind the rows of each task: (T, N, C) to (T, 2 N, C)."""
    return torch.cat([rows, rows + noise * torch.randn(rows.shape, generator=generator)], dim=1)


def loss_terms(distances: Tensor) -> dict[str, Tensor]:
    """Return the two summands of the loss for squared distances (T, 2 N), noisy rows behind normal ones.

    Their sum is the mean over all rows of the squared distance of a normal one and the inverse squared
    distance of a noisy one (Li et al., section 3).
    """
    normal, noisy = distances.chunk(2, dim=1)
    return {"normal": normal.mean() / 2, "noisy": noisy.clamp_min(NEAREST).reciprocal().mean() / 2}


def channel_scale(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (C,) of every channel over features (images, positions, C).

    A constant channel has nothing to be divided by: its deviation is given as 1.
    """
    count = sum(part.shape[0] * part.shape[1] for part in features)
    mean = sum((part.sum(dim=(0, 1), dtype=torch.float64) for part in features), torch.zeros(())) / count
    squares = ((part - mean.float()).square().sum(dim=(0, 1), dtype=torch.float64) for part in features)
    spread = (sum(squares, torch.zeros(())) / count).sqrt().float()
    return mean.float(), torch.where(spread > 1e-6, spread, 1.0)
