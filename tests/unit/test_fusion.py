"""Fusion of scores: exact where probabilities can be trusted, ordered where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroflaw.detectors.text_head import parse_fusion
from zeroflaw.errors import UsageError
from zeroflaw.runtime.scores import expit, fuse

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
    ("text", "says"),
    [
        ("", "got ''"),
        ("promt", "did you mean 'prompt'"),
        ("prompt=0", "a weight from 1e-6 to 1e6, got 'prompt=0'"),
        ("prompt=-1,fnn=2", "prompt=-1"),
        ("prompt=x", "prompt=x"),
        ("prompt=nan", "prompt=nan"),
        ("fnn=1e308", "fnn=1e308"),
        ("fnn+head", "'fnn' twice"),
    ],
)
def test_wrong_weights_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"fusion wants .*{says}"):
        parse_fusion(text, KNOWN, "fnn")


@settings(max_examples=50, deadline=None)
@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.01, 0.99))
def test_the_fused_log_odds_are_those_of_the_mean_probability(a: float, b: float, weight: float) -> None:
    fused = fuse({"prompt": np.array([a]), "fnn": np.array([b])}, {"prompt": weight, "fnn": 1 - weight})
    assert expit(fused[0]) == pytest.approx(weight * expit(a) + (1 - weight) * expit(b), abs=1e-12)


def test_saturated_scores_keep_their_order() -> None:
    logits = np.array([-900.0, -60.0, 60.0, 61.0, 200.0, 900.0])
    fused = fuse({"prompt": logits, "fnn": logits}, {"prompt": 0.5, "fnn": 0.5})
    np.testing.assert_allclose(fused, logits, rtol=1e-9)
    alone = fuse({"prompt": logits, "fnn": 0 * logits}, {"prompt": 1.0})
    np.testing.assert_array_equal(alone, logits)
