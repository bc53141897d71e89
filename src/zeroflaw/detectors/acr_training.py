"""The network of ACR, whose batch normalisation is always live, and its training.

Li et al., NeurIPS 2023, arXiv 2302.07849. All functions take many tasks at once, as (T, N, C): T tasks of N
rows of C numbers. Each task is normalised by its own N rows, so that "normal" means "like the rest of the
batch".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zeroflaw.detectors.training import total_loss

EPSILON = 1e-5  # of the variance, as torch.nn.BatchNorm1d has it: a constant batch is divided by its root
NEAREST = 1e-6  # smallest squared distance whose inverse is taken in the loss


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
        widths: of the input and of every layer's output, see `layer_widths`.
        linears: weights, each (out, in).
        gains: factor after the normalisation, each (out,).
        shifts: summand after the normalisation, each (out,).
        centre: where normal rows are drawn to, (out,).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        self.linears = nn.ParameterList([torch.zeros(out, into) for into, out in pairs])
        self.gains = nn.ParameterList([torch.ones(out) for _, out in pairs])
        self.shifts = nn.ParameterList([torch.zeros(out) for _, out in pairs])
        self.centre = nn.Parameter(torch.zeros(self.widths[-1]))

    def draw(self, generator: torch.Generator) -> None:
        """Draw the weights uniformly as torch.nn.Linear does, and the centre from a normal distribution."""
        for weight in self.linears:
            bound = weight.shape[1] ** -0.5
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        nn.init.normal_(self.centre, generator=generator)

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (T, N, C) to (T, N, out), each task by its own statistics."""
        last = len(self.linears) - 1
        for number, weight in enumerate(self.linears):
            rows = normalise_live(rows @ weight.T) * self.gains[number] + self.shifts[number]
            rows = rows if number == last else rows.relu()
        return rows

    def distances(self, rows: Tensor) -> Tensor:
        """Return the squared distances (T, N) of rows (T, N, C) from the centre."""
        places: Tensor = self(rows)
        return (places - self.centre).square().sum(dim=-1)


@dataclass(frozen=True)
class Training:
    """How the network is trained; see the parameters of the same names in `zeroflaw.detectors.acr.ACR`."""

    iterations: int
    tasks: int
    shots: int
    noise: float
    learning_rate: float
    seed: int


def draw_tasks(
    features: Sequence[Tensor], tasks: int, shots: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the rows (shots, C) of random tasks: one position of one product each.

    A product with fewer images than ``shots`` gives some of them more than once.

    Args:
        features: of the images of each product, (images, positions, C).
        tasks: how many to draw.
        shots: rows of a task.
        generator: source of the choice.
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
    """Return the two summands of the loss.

    Their sum is the mean over all rows of the squared distance of a normal one and the inverse squared
    distance of a noisy one (Li et al., section 3).

    Args:
        distances: squared distances (T, 2 N), the noisy rows behind the normal ones.
    """
    normal, noisy = distances.chunk(2, dim=1)
    return {"normal": normal.mean() / 2, "noisy": noisy.clamp_min(NEAREST).reciprocal().mean() / 2}


def channel_scale(features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (C,) of every channel over features (images, positions, C).

    A constant channel has nothing to be divided by: its deviation is given as 1.
    """
    count = sum(part.shape[0] * part.shape[1] for part in features)
    mean = sum((part.sum(dim=(0, 1), dtype=torch.float64) for part in features), torch.zeros(())) / count
    squares = ((part - mean.float()).square().sum(dim=(0, 1), dtype=torch.float64) for part in features)
    spread = (sum(squares, torch.zeros(())) / count).sqrt().float()
    return mean.float(), torch.where(spread > 1e-6, spread, 1.0)


def train_network(
    network: LiveNetwork,
    features: Sequence[Tensor],
    how: Training,
    on_step: Callable[[int], object] = lambda step: None,
) -> None:
    """Train a drawn network on the features (images, positions, C) of several products.

    Raises:
        UsageError: the loss is no finite number.
    """
    generator = torch.Generator().manual_seed(how.seed)
    network.draw(generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=how.learning_rate)
    for step in range(how.iterations):
        rows = torch.stack(list(draw_tasks(features, how.tasks, how.shots, generator)))
        terms = loss_terms(network.distances(with_noise(rows, how.noise, generator)))
        optimizer.zero_grad()
        total_loss(terms, step=step, seed=how.seed).backward()
        optimizer.step()
        on_step(step + 1)
