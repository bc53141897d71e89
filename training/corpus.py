"""The texts of the distillation, drawn from one seed.

Training texts come in *families*: texts of one frame that differ only in the state, so that the student can
be taught the teacher's difference between them. A text without relatives is a family of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from training import vocabulary as words
from training.bank import ensemble_pairs
from training.captions import Frame, draw_frame, draw_object, neutral_caption
from training.english import nonsense, sentence

DEFECT_PHRASES = tuple(phrase for phrases in words.DEFECTS.values() for phrase in phrases)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many families of each sort; a frame family has four texts, a neutral one two."""

    frames: int = 26_000
    neutral: int = 9_000
    sentences: int = 34_000
    nonsense: int = 9_000


def training_families(seed: int, lexicon: Sequence[str], sizes: Sizes | None = None) -> list[list[str]]:
    """Return distinct families; ``lexicon`` is every single word to teach (about 20,000)."""
    sizes, rng = sizes or Sizes(), Random(f"corpus {seed}")
    families: list[list[str]] = [list(pair) for pair in ensemble_pairs()]
    families += [_frame_family(rng) for _ in range(sizes.frames)]
    families += [_neutral_family(rng) for _ in range(sizes.neutral)]
    families += [[word] for word in lexicon] + [[_word_caption(rng, word)] for word in lexicon]
    families += [[sentence(rng, lexicon)] for _ in range(sizes.sentences)]
    families += [[nonsense(rng)] for _ in range(sizes.nonsense)]
    return _distinct(families)


def _frame_family(rng: Random) -> list[str]:
    frame = draw_frame(rng)
    pair = (
        ("normal {}", "anomalous {}")
        if rng.random() < 0.2
        else (rng.choice(words.NORMAL), rng.choice(words.ANOMALOUS))
    )
    return [frame.render(phrase) for phrase in (*pair, rng.choice(DEFECT_PHRASES), "{}")]


def _neutral_family(rng: Random) -> list[str]:
    frame = draw_frame(rng)
    return [frame.render(f"{attribute} {{}}") for attribute in rng.sample(words.ATTRIBUTES, 2)]


def _word_caption(rng: Random, word: str) -> str:
    """Put any word where a state word stands, or where the object stands."""
    template = rng.choice(("a photo of a {}", "{}", rng.choice(words.ENSEMBLE_TEMPLATES)))
    phrase = rng.choice(("{} {{}}", "{{}} with {}", "{}")).format(word)
    return Frame(template, draw_object(rng)).render(phrase)


def _distinct(families: list[list[str]]) -> list[list[str]]:
    """Leave out empty texts and every text that was seen before; families keep their order."""
    seen: set[str] = {""}
    kept = []
    for family in families:
        new = [text for text in dict.fromkeys(family) if text not in seen]
        seen.update(new)
        if new:
            kept.append(new)
    return kept


def held_out_texts(
    seed: int, lexicon: Sequence[str], known: set[str], count: int = 1000
) -> dict[str, list[str]]:
    """Return texts by sort that training has not seen (``known`` are the training texts)."""
    rng = Random(f"held out {seed}")
    sorts: dict[str, Callable[[], str]] = {
        "captions": lambda: draw_frame(rng).render(
            rng.choice(words.NORMAL + words.ANOMALOUS + DEFECT_PHRASES)
        ),
        "neutral": lambda: neutral_caption(rng),
        "random strings": lambda: nonsense(rng),
        "english": lambda: sentence(rng, lexicon),
    }
    return {name: _unseen(draw, known, count) for name, draw in sorts.items()}


def _unseen(draw: Callable[[], str], known: set[str], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        text = draw()
        if text and text not in known:
            found[text] = None
    return list(found)


def state_texts(seed: str, phrases: Sequence[str], count: int) -> list[str]:
    """Return ``count`` captions with random frames whose state is one of ``phrases``; used by the probes."""
    rng = Random(f"probe {seed}")
    return [draw_frame(rng).render(rng.choice(phrases)) for _ in range(count)]


def tokenizer_texts(seed: int, lexicon: Sequence[str]) -> list[str]:
    """Return the texts that the tokenizer learns from: no random letters, which would only spend merges."""
    rng = Random(f"tokenizer {seed}")
    phrases = (
        words.NORMAL + words.ANOMALOUS + DEFECT_PHRASES + tuple(f"{word} {{}}" for word in words.ATTRIBUTES)
    )
    texts = [
        Frame(draw_frame(rng).template, draw_object(rng)).render(rng.choice(phrases)) for _ in range(20_000)
    ]
    texts += [sentence(rng, lexicon) for _ in range(20_000)]
    return texts + list(lexicon)
