"""Heads on small made-up embeddings whose right answer is known: learned in torch, applied in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from zeroflaw.detectors.heads import (
    FNNTraining,
    cooled,
    lda,
    logistic_regression,
    mean_difference,
    prototype_pair,
)
from zeroflaw.detectors.network import train_fnn
from zeroflaw.errors import DetectorError
from zeroflaw.runtime.heads import FNNHead, Layer, read_head


def how(**changed: Any) -> FNNTraining:
    usual: dict[str, Any] = {
        "hidden": (16, 8),
        "normalization": "none",
        "dropout": 0.0,
        "epochs": 20,
        "batch_size": 32,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "noise": 0.0,
        "label_smoothing": 0.0,
    }
    return FNNTraining(**{**usual, **changed})


def two_clouds(n: int = 60, width: int = 6, distance: float = 0.6) -> tuple[Tensor, Tensor]:
    """Overlapping clouds on the unit sphere."""
    generator = torch.Generator().manual_seed(3)
    normal = torch.randn(n, width, generator=generator)
    anomalous = torch.randn(n, width, generator=generator)
    anomalous[:, 0] += distance * 4
    return F.normalize(normal, dim=-1), F.normalize(anomalous, dim=-1)


def both(clouds: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    return torch.cat(clouds).double().numpy(), np.repeat([0, 1], [len(cloud) for cloud in clouds])


def random_head(norm: bool) -> FNNHead:
    random = np.random.default_rng(0)
    layers = []
    for into, out in ((6, 5), (5, 4), (4, 1)):
        vectors = [random.normal(size=out) for _ in range(3 if norm and out > 1 else 1)]
        layers.append(Layer(random.normal(size=(out, into)), *vectors))
    return FNNHead(layers)


def by_torch(head: FNNHead) -> nn.Sequential:
    """The same network from torch's layers."""
    modules: list[nn.Module] = []
    for layer in head.layers:
        linear = nn.Linear(layer.weight.shape[1], len(layer.weight)).double()
        linear.load_state_dict({"weight": torch.tensor(layer.weight), "bias": torch.tensor(layer.bias)})
        modules.append(linear)
        if layer.gain is not None:
            norm = nn.LayerNorm(len(layer.weight)).double()
            norm.load_state_dict({"weight": torch.tensor(layer.gain), "bias": torch.tensor(layer.shift)})
            modules.append(norm)
        modules.append(nn.ReLU())
    return nn.Sequential(*modules[:-1]).eval()


# --- heads in NumPy


@pytest.mark.parametrize("norm", [False, True])
def test_a_network_in_numpy_agrees_with_torch(norm: bool) -> None:
    head, x = random_head(norm), np.random.default_rng(1).normal(size=(2, 7, 6))
    with torch.no_grad():
        expected = by_torch(head)(torch.tensor(x))[..., 0].numpy()
    np.testing.assert_allclose(head(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("head", [random_head(True), mean_difference(*two_clouds(), 3.0)])
def test_a_head_is_read_back_from_its_arrays_and_cooled_in_its_last_layer(head: Any) -> None:
    x = np.random.default_rng(2).normal(size=(3, 6))
    again = read_head(head.arrays())
    np.testing.assert_allclose(again(x), head(x), rtol=1e-5, atol=1e-5)
    assert again.width == head.width == 6
    np.testing.assert_allclose(cooled(head, 4.0)(x), head(x) / 4, rtol=1e-5, atol=1e-5)
    assert cooled(head, 1.0) is head


def shape(*size: int) -> np.ndarray:
    return np.ones(size, np.float32)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"weight": shape(6), "bias": shape(1)},
        {"0.weight": shape(2, 6), "0.bias": shape(2)},  # two outputs
        {"0.weight": shape(1, 6)},
        {"0.weight": shape(1, 6), "0.bias": shape(1), "more": shape(1)},
        {"0.weight": shape(4, 6), "0.bias": shape(4), "1.weight": shape(1, 3), "1.bias": shape(1)},
        {"0.weight": shape(1, 6), "0.bias": shape(1), "0.gain": shape(1)},
        {"0.weight": shape(1, 6), "0.bias": shape(1), "0.gain": shape(1), "0.shift": shape(1)},
    ],
)
def test_arrays_that_are_no_head_are_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(DetectorError, match=r"in head\.safetensors|head\.safetensors does not hold"):
        read_head(arrays)


# --- controls


def test_the_pair_is_the_softmax_of_cosines() -> None:
    normal, anomalous = two_clouds()
    x = F.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    prototypes = F.normalize(torch.stack([normal.mean(0), anomalous.mean(0)]), dim=-1)
    expected = torch.softmax(100 * x @ prototypes.T, -1)[:, 1].numpy()
    logits = prototype_pair(normal, anomalous, 100.0)(x.numpy())
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-5, rtol=1e-4)


def test_the_mean_difference_is_zero_half_way() -> None:
    means = [cloud.mean(0).numpy() for cloud in two_clouds()]
    low, middle, high = mean_difference(*two_clouds(), 100.0)(np.stack([means[0], sum(means) / 2, means[1]]))
    assert middle == pytest.approx(0, abs=1e-4)
    assert low < -1 < 1 < high


def test_lda_agrees_with_scikit_learn_up_to_a_scale() -> None:
    x, labels = both(two_clouds())
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(x, labels).decision_function(x)
    ours = lda(*two_clouds(), shrinkage=0.0)(x)
    np.testing.assert_allclose(ours, theirs * (np.ptp(ours) / np.ptp(theirs)), rtol=1e-3, atol=1e-3)
    shrunk = lda(*two_clouds())(x)  # class means where probabilities have digits
    assert [shrunk[labels == side].mean() for side in (0, 1)] == pytest.approx([-5, 5], abs=1e-3)


def test_logistic_regression_agrees_with_scikit_learn() -> None:
    x, labels = both(two_clouds())
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, labels)
    head = logistic_regression(*two_clouds(), penalty=1.0)
    np.testing.assert_allclose(head.weight, reference.coef_[0], atol=1e-4)
    assert head.bias == pytest.approx(reference.intercept_[0], abs=1e-4)


# --- the network


@pytest.mark.parametrize("normalization", ["none", "layer", "batch"])
def test_the_network_learns_and_depends_on_nothing_but_its_seed(normalization: str) -> None:
    clouds = two_clouds(distance=1.0)
    x, labels = both(clouds)

    def fit(seed: int) -> np.ndarray:
        torch.manual_seed(torch.seed() % 2**31)  # whatever the global state is
        state = torch.get_rng_state()
        head = train_fnn(*clouds, how(normalization=normalization, dropout=0.1), seed)
        assert torch.equal(torch.get_rng_state(), state)
        return head(x)

    first = fit(0)
    np.testing.assert_allclose(fit(0), first, rtol=1e-3, atol=1e-3)
    assert np.abs(fit(1) - first).max() > 0.05
    assert ((first > 0) == labels).mean() > 0.9


@pytest.mark.parametrize("change", [{"noise": 0.5}, {"label_smoothing": 0.5}, {"weight_decay": 1.0}])
def test_what_holds_the_network_back_keeps_its_logits_small(change: dict[str, float]) -> None:
    clouds = two_clouds(distance=2.0)
    x, _ = both(clouds)
    free, held = (np.abs(train_fnn(*clouds, how(**c), 0)(x)).mean() for c in ({}, change))
    assert held < 0.7 * free


def test_a_last_batch_of_one_row_is_left_out() -> None:
    normal, anomalous = two_clouds(n=5)
    seen: list[tuple[int, int]] = []
    head = train_fnn(  # ten rows in batches of three leave one, which batch normalisation cannot stand
        normal,
        anomalous,
        how(normalization="batch", batch_size=3, epochs=2),
        0,
        progress=lambda *step: seen.append(step),
    )
    assert np.isfinite(head(normal.numpy())).all()
    assert seen == [(1, 2), (2, 2)]
