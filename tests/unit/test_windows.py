"""Token windows as tensors that any caller may use, with gradients or without."""

from __future__ import annotations

import torch

from conftest import random_model, tiny_config
from zeroflaw.runtime.scores import make_windows


def test_windows_first_made_in_inference_mode_still_pass_gradients() -> None:
    make_windows.cache_clear()
    with torch.inference_mode():
        windows = make_windows((6, 6), 2, 1)
    assert make_windows((6, 6), 2, 1) is windows
    assert not windows.index.is_inference()
    assert not windows.cover.is_inference()
    tower = random_model(tiny_config()).vision
    pixels = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    tokens = tower.tokens(pixels).requires_grad_()
    # The class token leads; what follows are the patches.
    spread = tower.window_embeddings(tokens, windows).transpose(1, 2) @ windows.cover
    spread.sum().backward()
    assert tokens.grad is not None
    assert float(tokens.grad.abs().max()) > 0
