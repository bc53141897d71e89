"""Fusion of scores: exact where probabilities can be trusted, ordered where they cannot."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroflaw.detectors.fusion import fuse, parse_fusion
from zeroflaw.errors import UsageError

KNOWN = ("prompt", "fnn", "prompt_part", "fnn_part")


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("A", {"prompt": 0.5, "fnn": 0.5}),
        ("B", {"prompt": 1 / 3, "prompt_part": 1 / 3, "fnn": 1 / 3}),
        ("head", {"fnn": 1.0}),
        ("head_part", {"fnn_part": 1.0}),
        ("prompt + fnn", {"prompt": 0.5, "fnn": 0.5}),
        ("prompt=1,fnn=3", {"prompt": 0.25, "fnn": 0.75}),
    ],
)
def test_weights_are_read_and_sum_to_one(text: str, weights: dict[str, float]) -> None:
    assert parse_fusion(text, KNOWN, "fnn") == pytest.approx(weights)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "promt",
        "prompt=0",
        "prompt=-1,fnn=2",
        "prompt=x",
        "prompt=nan",
        "fnn=inf",
        "fnn=1e308",
        "prompt=1,prompt=2",
        "fnn+head",
    ],
)
def test_wrong_weights_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="fusion wants"):
        parse_fusion(text, KNOWN, "fnn")


@settings(max_examples=50, deadline=None)
@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.01, 0.99))
def test_the_fused_log_odds_are_those_of_the_mean_probability(a: float, b: float, weight: float) -> None:
    logits = {"prompt": torch.tensor([a]).double(), "fnn": torch.tensor([b]).double()}
    fused = fuse(logits, {"prompt": weight, "fnn": 1 - weight})
    mean = weight * torch.sigmoid(logits["prompt"]) + (1 - weight) * torch.sigmoid(logits["fnn"])
    torch.testing.assert_close(torch.sigmoid(fused), mean, atol=1e-12, rtol=1e-12)


def test_saturated_scores_keep_their_order() -> None:
    logits = torch.tensor([60.0, 61.0, 200.0, 900.0]).double()
    fused = fuse({"prompt": logits, "fnn": logits}, {"prompt": 0.5, "fnn": 0.5})
    assert bool((fused.diff() > 0).all())
    torch.testing.assert_close(fused, logits, rtol=1e-6, atol=1e-6)
