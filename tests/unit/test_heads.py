"""Heads on small made-up embeddings whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from zeroflaw.detectors.heads import (
    FNN,
    lda,
    logistic_regression,
    mean_difference,
    prototype_pair,
    train_fnn,
)
from zeroflaw.errors import UsageError

TRAINING = {
    "epochs": 20,
    "batch_size": 32,
    "learning_rate": 1e-2,
    "weight_decay": 0.0,
    "noise": 0.0,
    "label_smoothing": 0.0,
}


def two_clouds(n: int = 60, width: int = 6, distance: float = 0.6) -> tuple[Tensor, Tensor]:
    """Overlapping clouds on the unit sphere."""
    generator = torch.Generator().manual_seed(3)
    normal = torch.randn(n, width, generator=generator)
    anomalous = torch.randn(n, width, generator=generator)
    anomalous[:, 0] += distance * 4
    return F.normalize(normal, dim=-1), F.normalize(anomalous, dim=-1)


def test_the_pair_is_the_softmax_of_cosines() -> None:
    normal, anomalous = two_clouds()
    head = prototype_pair(normal, anomalous, 100.0)
    x = F.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    prototypes = F.normalize(torch.stack([normal.mean(0), anomalous.mean(0)]), dim=-1)
    expected = torch.softmax(100 * x @ prototypes.T, -1)[:, 1]
    torch.testing.assert_close(torch.sigmoid(head(x)), expected, atol=1e-5, rtol=1e-4)


def test_the_mean_difference_is_zero_half_way() -> None:
    normal, anomalous = two_clouds()
    head = mean_difference(normal, anomalous, 100.0)
    middle = (normal.mean(0) + anomalous.mean(0)) / 2
    assert abs(float(head(middle))) < 1e-4
    assert float(head(anomalous.mean(0))) > 1 > -1 > float(head(normal.mean(0)))


def test_lda_agrees_with_scikit_learn() -> None:
    normal, anomalous = two_clouds()
    x = torch.cat([normal, anomalous]).double().numpy()
    labels = np.repeat([0, 1], len(normal))
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(x, labels)
    ours = lda(normal, anomalous, shrinkage=0.0)(torch.cat([normal, anomalous])).numpy()
    theirs = reference.decision_function(x)
    np.testing.assert_allclose(ours, theirs * (np.ptp(ours) / np.ptp(theirs)), rtol=1e-3, atol=1e-3)


def test_lda_puts_the_class_means_where_probabilities_have_digits() -> None:
    normal, anomalous = two_clouds()
    head = lda(normal, anomalous)
    assert float(head(normal).mean()) == pytest.approx(-5, abs=1e-3)
    assert float(head(anomalous).mean()) == pytest.approx(5, abs=1e-3)


def test_logistic_regression_agrees_with_scikit_learn() -> None:
    normal, anomalous = two_clouds()
    x = torch.cat([normal, anomalous]).double().numpy()
    labels = np.repeat([0, 1], len(normal))
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, labels)
    head = logistic_regression(normal, anomalous, penalty=1.0)
    np.testing.assert_allclose(head.weight.numpy(), reference.coef_[0], atol=1e-4)
    assert float(head.bias) == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_logistic_regression_stands_separable_data() -> None:
    normal, anomalous = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[0.0, 1.0]] * 4)
    head = logistic_regression(normal, anomalous, penalty=1.0)
    assert torch.isfinite(head.weight).all()
    assert float(head(anomalous[0])) > 0 > float(head(normal[0]))


@pytest.mark.parametrize("normalization", ["none", "layer", "batch"])
def test_the_network_learns_and_depends_on_nothing_but_its_seed(normalization: str) -> None:
    normal, anomalous = two_clouds(distance=1.0)

    def fit(seed: int) -> FNN:
        torch.manual_seed(np.random.SeedSequence().entropy % 2**31)  # whatever the global state is
        network = FNN(6, (16, 8, 8), normalization=normalization, dropout=0.1)
        return train_fnn(network, normal, anomalous, seed=seed, **TRAINING)

    first, second, other = fit(0), fit(0), fit(1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)
    right = torch.cat([first(normal) < 0, first(anomalous) > 0]).float().mean()
    assert float(right) > 0.9


def test_training_leaves_the_global_generator_alone() -> None:
    normal, anomalous = two_clouds()
    network = FNN(6, (4,), dropout=0.5)
    state = torch.get_rng_state()
    train_fnn(network, normal, anomalous, seed=0, **TRAINING)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_that_diverges_is_stopped_with_a_sentence() -> None:
    normal, anomalous = two_clouds()
    with pytest.raises(UsageError, match=r"the loss became nan in epoch 1, step 1 .seed 7"):
        train_fnn(FNN(6, (4,)), normal * float("inf"), anomalous, seed=7, **TRAINING)


def test_heads_score_any_leading_shape() -> None:
    x = torch.randn(2, 3, 6)
    for head in (FNN(6, (4,)), mean_difference(*two_clouds(), 1.0)):
        assert head(x).shape == (2, 3)
