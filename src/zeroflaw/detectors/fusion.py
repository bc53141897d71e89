"""How the weights of named scores are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zeroflaw.errors import UsageError, closest

READINGS: Mapping[str, tuple[str, ...]] = {
    "A": ("prompt", "head"),
    "B": ("prompt", "prompt_part", "head"),
}
"""The two readings of how RWDA (Tamura, BMVC 2023) combines scores; the formula itself could not be
established.

A: prompt-guided probability and network output, equal weights. B: two CLIP scores, of the image and of its
most anomalous part, beside the network's.
"""


def parse_fusion(text: str, known: Sequence[str], head: str = "head") -> dict[str, float]:
    """Read ``"A"``, ``"B"`` (see `READINGS`), ``"fnn"``, ``"prompt+fnn"`` or ``"prompt=0.3,fnn=0.7"``.

    Args:
        text: what the user wrote; the name ``head`` stands for the detector's own head.
        known: names of the scores there are.
        head: name of the detector's head.

    Returns:
        Weights by name, made to sum to one.

    Raises:
        UsageError: an unknown score, a weight that is not a positive number, or nothing at all.
    """
    if text in READINGS:
        pairs = [(name, 1.0) for name in READINGS[text]]
    elif "=" not in text:
        pairs = [(name, 1.0) for name in text.split("+")]
    else:
        pairs = [_weight(part) for part in text.split(",")]
    weights: dict[str, float] = {}
    for given, weight in pairs:
        name = _named(given, head)
        if name not in known:
            raise UsageError(
                f"fusion wants A, B or scores out of {', '.join(known)}, got '{name}'{closest(name, known)}"
            )
        if name in weights:
            raise UsageError(
                f"fusion wants every score once, got '{name}' twice in '{text}'; add its weights up"
            )
        weights[name] = weight
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _named(name: str, head: str) -> str:
    base = name.strip()
    return base.replace("head", head, 1) if base in ("head", "head_part") else base


def _weight(part: str) -> tuple[str, float]:
    name, _, number = part.partition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = float("nan")
    if not 1e-6 <= weight <= 1e6:
        raise UsageError(
            f"fusion wants NAME=WEIGHT with a weight from 1e-6 to 1e6, got '{part}'; "
            "for example prompt=0.3,fnn=0.7"
        )
    return name, weight
