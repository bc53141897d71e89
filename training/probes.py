"""Does a text tower know normal from anomalous? Linear probes on sentence embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from training import vocabulary as words
from training.corpus import DEFECT_PHRASES, state_texts

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts in, float32 embeddings (N, E) out."""

COUNT = 2000


def ridge(x: np.ndarray, y: np.ndarray, strength: float = 1e-2) -> tuple[np.ndarray, float]:
    """Return weights and offset of least squares with an L2 penalty; ``y`` is 0 or 1, 0.5 is the boundary."""
    centre, target = x.mean(0), y - y.mean()
    gram = (x - centre).T @ (x - centre) / len(x)
    weights = np.linalg.solve(
        gram + strength * np.trace(gram) / len(gram) * np.eye(len(gram)), (x - centre).T @ target
    )
    return weights / len(x), float(y.mean() - centre @ weights / len(x))


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the chance that an anomalous text scores higher than a normal one; ties count half."""
    above = scores[labels == 1][:, None] - scores[labels == 0][None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def probe(embed: Embed) -> dict[str, float]:
    """Return accuracy and AUROC of linear probes.

    ``states``: trained on captions with all state phrases, tested on new captions with the same phrases;
    ``held-out words``: the same probe on captions whose state word occurs in no training text;
    ``taught words``: the same on words that training has shown, though never as the state of a caption;
    ``pair``: trained on "normal"/"anomalous" alone, tested on all other states and the defects.
    """
    states = ridge(*_labelled(embed, "train", words.NORMAL, words.ANOMALOUS))
    pair = ridge(*_labelled(embed, "pair", ("normal {}",), ("anomalous {}",)))
    tests = {
        "states": (states, _labelled(embed, "test", words.NORMAL, words.ANOMALOUS)),
        "held-out words": (
            states,
            _labelled(embed, "words", words.HELD_OUT_NORMAL, words.HELD_OUT_ANOMALOUS),
        ),
        "taught words": (states, _labelled(embed, "taught", words.TAUGHT_NORMAL, words.TAUGHT_ANOMALOUS)),
        "pair": (pair, _labelled(embed, "others", words.NORMAL[1:], words.ANOMALOUS[1:])),
        "defects": (states, _labelled(embed, "defects", words.NORMAL, DEFECT_PHRASES)),
    }
    found: dict[str, float] = {}
    for name, ((weights, offset), (x, y)) in tests.items():
        scores = x @ weights + offset
        found[f"{name} accuracy"] = float(((scores > 0.5) == (y == 1)).mean())
        found[f"{name} auroc"] = auroc(scores, y)
    return found


def _labelled(
    embed: Embed, seed: str, normal: Sequence[str], anomalous: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Embed COUNT captions a side, drawn with the same seed and so mostly in the same frames."""
    texts = state_texts(seed, normal, COUNT) + state_texts(seed, anomalous, COUNT)
    return embed(texts).astype(np.float64), np.repeat([0.0, 1.0], COUNT)
