"""The caption bank of the joint image-text training: named groups of captions, one seed one bank."""

from __future__ import annotations

from random import Random

from training import vocabulary as words
from training.captions import Frame, caption, draw_frame, neutral_caption, neutral_pair

STATE_PAIRS, PER_DEFECT, NEUTRAL, NEUTRAL_PAIRS = 4000, 250, 2000, 800


def build_bank(seed: int) -> dict[str, list[str]]:
    """Return the captions by group.

    ``normal[i]`` and ``anomalous[i]`` share their frame, and so do ``neutral_pairs_a[i]`` and
    ``neutral_pairs_b[i]``; every key of ``vocabulary.DEFECTS`` is a group; ``neutral`` captions are distinct.
    """
    rng = Random(f"bank {seed}")
    normal, anomalous = _state_pairs(rng)
    first, second = zip(*(neutral_pair(rng) for _ in range(NEUTRAL_PAIRS)), strict=True)
    bank = {"normal": normal, "anomalous": anomalous}
    bank |= {
        kind: [caption(rng, phrases) for _ in range(PER_DEFECT)] for kind, phrases in words.DEFECTS.items()
    }
    return bank | {"neutral": _neutral(rng), "neutral_pairs_a": list(first), "neutral_pairs_b": list(second)}


def ensemble_pairs() -> list[tuple[str, str]]:
    """Return the two-class pair and the 154 normal sentences of the ensemble, each with an anomalous one."""
    pairs = [
        (Frame("{}", noun).render(words.PAIR[0]), Frame("{}", noun).render(words.PAIR[1]))
        for noun in ("object", "")
    ]
    for template in words.ENSEMBLE_TEMPLATES:
        frame = Frame(template, "object", mend_article=False)
        for index, state in enumerate(words.ENSEMBLE_NORMAL):
            pairs.append((frame.render(state), frame.render(words.ENSEMBLE_ANOMALOUS[index % 4])))
    return pairs


def _state_pairs(rng: Random) -> tuple[list[str], list[str]]:
    pairs = ensemble_pairs()
    while len(pairs) < STATE_PAIRS:
        frame = draw_frame(rng)
        if rng.random() < 0.25:  # the pair that most detectors will ask with
            pairs.append((frame.render("normal {}"), frame.render("anomalous {}")))
        else:
            pairs.append((frame.render(rng.choice(words.NORMAL)), frame.render(rng.choice(words.ANOMALOUS))))
    normal, anomalous = zip(*pairs, strict=True)
    return list(normal), list(anomalous)


def _neutral(rng: Random) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < NEUTRAL:
        if text := neutral_caption(rng):  # no subject in the empty template leaves nothing
            found[text] = None
    return list(found)
