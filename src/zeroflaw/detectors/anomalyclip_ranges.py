"""What the parameters of `AnomalyCLIP` may be: least and largest value, both included."""

from __future__ import annotations

from collections.abc import Mapping

WHOLE: Mapping[str, tuple[int, int]] = {
    "image_size": (0, 4096),
    "value_blocks": (0, 1024),
    "deep_depth": (0, 1024),
    "n_ctx": (1, 512),
    "epochs": (1, 100_000),
    "batch_size": (1, 100_000),
}
NUMBERS: Mapping[str, tuple[float, float]] = {
    "temperature": (1e-6, 1e6),
    "sigma": (0, 4096),
    "learning_rate": (1e-12, 1e3),
    "beta1": (0, 0.999999),
    "beta2": (0, 0.999999),
    "map_weight": (0, 1e6),
    "focal_gamma": (0, 100),
    "focal_smoothing": (1e-12, 0.1),
    "dice_smoothing": (1e-12, 1e6),
    "feature_memory": (1e-3, 1e6),
}
