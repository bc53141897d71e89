"""ACR's network, loss and map against the formulas written out: torch's layers in a loop, and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from zeroflaw.detectors.acr import (
    ACR,
    ACRScorer,
    ACRSpec,
    LiveNetwork,
    channel_scale,
    draw_tasks,
    layer_widths,
    loss_terms,
    with_noise,
)
from zeroflaw.runtime.features import ImageFeatures

WIDTHS = (12, 8, 6, 4, 4)


def random_network(seed: int = 0) -> LiveNetwork:
    """A network whose gains and shifts matter too."""
    generator = torch.Generator().manual_seed(seed)
    network = LiveNetwork(WIDTHS)
    network.draw(generator)
    for gain, shift in zip(network.gains, network.shifts, strict=True):
        nn.init.normal_(gain, 1.0, 0.5, generator=generator)
        nn.init.normal_(shift, 0.0, 0.5, generator=generator)
    return network.requires_grad_(False)


def random_rows(tasks: int = 5, rows: int = 9, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 + 2 * torch.randn(tasks, rows, WIDTHS[0], generator=generator)


def torch_network(network: LiveNetwork) -> nn.Sequential:
    """The same from torch's layers, with a bias in the linear ones that must not matter."""
    layers: list[nn.Module] = []
    for weight, gain, shift in zip(network.linears, network.gains, network.shifts, strict=True):
        linear, norm = nn.Linear(weight.shape[1], weight.shape[0]), nn.BatchNorm1d(weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(torch.linspace(-1, 2, len(linear.bias)))
            norm.weight.copy_(gain)
            norm.bias.copy_(shift)
        layers += [linear, norm, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).train()


def by_torch(network: LiveNetwork, rows: torch.Tensor) -> torch.Tensor:
    """Squared distances of one task's rows, (N,)."""
    with torch.no_grad():
        return (torch_network(network)(rows) - network.centre).square().sum(1)


def test_distances_are_those_of_batch_norm_in_training_mode():
    network, rows = random_network(), random_rows()
    expected = torch.stack([by_torch(network, task) for task in rows])
    torch.testing.assert_close(network(rows), expected, rtol=1e-3, atol=1e-4)


def test_loss_is_that_of_the_formula():
    distances = torch.rand(3, 8, generator=torch.Generator().manual_seed(2)) + 0.1
    summands = []
    for task in distances.double().numpy():
        summands += list(task[:4]) + [1 / value for value in task[4:]]
    found = sum(loss_terms(distances).values())
    assert float(found) == pytest.approx(sum(summands) / len(summands), rel=1e-6)


def test_training_is_adam_on_that_loss():
    """The same draws through torch's layers and optimizer end at the same weights."""
    generator = torch.Generator().manual_seed(3)
    features = [torch.randn(7, 4, WIDTHS[0], generator=generator) for _ in range(2)]
    how = ACR(iterations=4, tasks=3, shots=5, noise=0.3, learning_rate=0.01, seed=11, standardize="none")
    network = how._train(features, WIDTHS, lambda done, total: None)

    generator = torch.Generator().manual_seed(11)
    start = LiveNetwork(WIDTHS)
    start.draw(generator)
    reference, centre = torch_network(start), start.centre.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([*reference.parameters(), centre], lr=0.01)
    for _ in range(4):
        rows = torch.stack(list(draw_tasks(features, 3, 5, generator)))
        loss = torch.zeros(())
        for task in with_noise(rows, 0.3, generator):
            distance = (reference(task) - centre).pow(2).sum(1)
            loss = loss + torch.cat([distance[:5], 1 / distance[5:]]).mean() / 3
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(network.centre, centre.detach(), rtol=1e-3, atol=1e-4)
    for mine, theirs in zip(network.linears, reference[::3], strict=True):
        torch.testing.assert_close(mine, theirs.weight.detach(), rtol=1e-3, atol=1e-3)


def scorer(sigma: float = 4.0) -> ACRScorer:
    network = random_network()
    network.mean, network.scale = torch.linspace(0, 3, 12), torch.linspace(1, 2, 12)
    return ACRScorer(network, ACRSpec(widths=WIDTHS, block=2, noise=0.2, sigma=sigma, min_batch=2, seed=5))


def test_scores_are_distances_of_a_batch_of_images_and_noisy_copies():
    """Each position is a batch of its own, whatever the number of positions that go through together."""
    mine, tokens = scorer(), random_rows(tasks=6, rows=4).reshape(6, 4, 12)
    found = mine.distances(tokens)
    order = sorted(range(6), key=lambda image: float(tokens[image].norm()))
    rows = ((tokens - mine.network.mean) / mine.network.scale)[order].transpose(0, 1)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(5))
    for position in range(4):
        batch = torch.cat([rows[position], rows[position] + 0.2 * noise[position]])
        expected = by_torch(mine.network, batch)[:6]
        torch.testing.assert_close(found[order, position], expected, rtol=1e-3, atol=1e-4)


def test_channel_statistics():
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(n, 3, 4, generator=generator) * 2 + 5 for n in (4, 6)]
    for part in features:
        part[..., 2] = 7.0
    everything = np.concatenate([part.reshape(-1, 4).double().numpy() for part in features])
    mean, spread = channel_scale(features)
    np.testing.assert_allclose(mean.numpy(), everything.mean(0), rtol=1e-6)
    expected = everything.std(0)
    expected[2] = 1.0  # a constant channel stays as it is
    np.testing.assert_allclose(spread.numpy(), expected, rtol=1e-6)


def test_widths_of_the_paper():
    assert layer_widths(1024, 32, 5) == (1024, 512, 256, 128, 64, 32, 32)
    assert layer_widths(32, 32, 2) == (32, 32, 32, 32)
    assert layer_widths(8, 32, 2) == (8, 16, 32, 32)


@pytest.mark.parametrize("sigma", [0.0, 4.0, 20.0])
def test_maps_and_scores_are_those_of_blurred_distances(sigma):
    """Enlarge 16 times bilinearly, blur, look at the centres of the patches; one in twenty is above one."""
    mine, tokens = scorer(sigma), random_rows(tasks=8, rows=36)
    features = ImageFeatures(np.zeros((8, 24), np.float32), (6, 6), layers={2: tokens.numpy()})
    found = mine.judge(features, [(9, 9)] * 8, maps=True)
    maps = []
    at = np.clip((np.arange(96) + 0.5) / 16 - 0.5, 0, 5)
    for distances in mine.distances(tokens):
        grid = distances.double().numpy().reshape(6, 6)
        large = ndimage.map_coordinates(grid, np.meshgrid(at, at, indexing="ij"), order=1)
        if sigma:
            large = ndimage.gaussian_filter(large, sigma)
        centres = [16 * patch + 7 for patch in range(6)]
        four = [
            large[np.ix_([c + y for c in centres], [c + x for c in centres])] for y in (0, 1) for x in (0, 1)
        ]
        maps.append(np.mean(four, axis=0) if sigma else grid)
    usual = np.sort(np.ravel(maps))[int(np.ceil(0.95 * 8 * 36)) - 1]
    expected = np.array(maps) / usual
    np.testing.assert_allclose(found.logits, np.log(expected.max((1, 2))), atol=1e-4)
    np.testing.assert_allclose(np.exp(np.array(found.maps)), expected, rtol=1e-4)
