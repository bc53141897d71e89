"""The optimisation of words against distribution shift: Adam through a frozen text tower, resumable.

An interrupted run goes on from its last checkpoint and ends with the same bytes as an undisturbed one: the
words, Adam's moments and the random generator are all that the next step depends on, and all are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from zeroflaw.detectors.heads import Step
from zeroflaw.detectors.shift import Pairs, ShiftLoss
from zeroflaw.detectors.training import Checkpoint, generator_state, total_loss

_STEP, _GENERATOR = "step", "generator"


@dataclass(frozen=True)
class Schedule:
    """How long and how fast words are learned.

    Attributes:
        steps: of the optimiser.
        rate: of Adam.
        batch: prompt pairs that a step looks at.
        compared: diversity words that a step pushes apart, drawn anew each time where there are more.
        checkpoint_every: steps between two checkpoints.
        seed: named in errors.
    """

    steps: int
    rate: float
    batch: int
    compared: int
    checkpoint_every: int
    seed: int


class Learner:
    """Words on their way.

    Attributes:
        diversity: diversity words, (K, M, C).
        guided: distribution words (J, M, C), or the logits of their mixtures (J, D).
        terms: the loss terms of the last step, without their weights; empty before the first.
    """

    def __init__(
        self,
        loss: ShiftLoss,
        weights: Mapping[str, float],
        start: Mapping[str, Tensor],
        *,
        frozen: frozenset[str] = frozenset(),
        generator: torch.Generator,
        schedule: Schedule,
    ) -> None:
        """Start from the words ``diversity`` and ``guided`` of ``start``; those in ``frozen`` stay."""
        self._words = {
            name: words.detach().clone().requires_grad_(name not in frozen) for name, words in start.items()
        }
        self._loss, self._weights = loss, dict(weights)
        self._generator, self._schedule = generator, schedule
        moving = [words for words in self._words.values() if words.requires_grad]
        self._optimiser = torch.optim.Adam(moving, lr=schedule.rate) if moving else None
        self._done = 0
        self.terms: dict[str, float] = {}

    @property
    def diversity(self) -> Tensor:
        """Diversity words (K, M, C)."""
        return self._words["diversity"]

    @property
    def guided(self) -> Tensor:
        """Distribution words (J, M, C), or the logits of their mixtures (J, D)."""
        return self._words["guided"]

    def run(self, pairs: Pairs, checkpoint: Checkpoint | None, progress: Step | None) -> None:
        """Take all steps that are left; ``pairs`` are what batches are drawn from.

        Raises:
            UsageError: the loss is not finite, or the checkpoint belongs to another fit.
            DetectorError: the checkpoint cannot be read or written.
        """
        steps = self._schedule.steps if self._optimiser is not None else 0
        kept = None if checkpoint is None else checkpoint.load()
        if kept is not None:
            self._restore(kept)
        while self._done < steps:
            self._step(pairs)
            whole = self._done % self._schedule.checkpoint_every == 0 or self._done == steps
            if checkpoint is not None and whole:
                checkpoint.save(self._state())
            if progress is not None:
                progress(self._done, steps)

    def _step(self, pairs: Pairs) -> None:
        assert self._optimiser is not None
        schedule = self._schedule
        rows = torch.randperm(len(pairs), generator=self._generator)[: schedule.batch]
        compared = torch.arange(len(self.diversity))
        if len(compared) > schedule.compared:
            compared = torch.randperm(len(compared), generator=self._generator)[: schedule.compared]
        terms = self._loss.terms(self.diversity, self.guided, pairs.take(rows), compared)
        weighted = {name: self._weights[name] * term for name, term in terms.items()}
        total = total_loss(weighted, step=self._done + 1, seed=schedule.seed, rate="word_rate")
        self._optimiser.zero_grad()
        total.backward()
        self._optimiser.step()
        self._done += 1
        self.terms = {name: float(term.detach()) for name, term in terms.items()}

    def _state(self) -> dict[str, Tensor]:
        assert self._optimiser is not None
        state = {f"words.{name}": words for name, words in self._words.items()}
        for number, moments in self._optimiser.state_dict()["state"].items():
            state |= {f"adam.{number}.{name}": value for name, value in moments.items()}
        state |= {f"terms.{name}": torch.tensor(value).double() for name, value in self.terms.items()}
        return {**state, _STEP: torch.tensor(self._done), _GENERATOR: generator_state(self._generator)}

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        assert self._optimiser is not None
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            kind, _, rest = key.partition(".")
            if kind == "words":
                self._words[rest].data.copy_(value)
            elif kind == "adam":
                number, _, name = rest.partition(".")
                moments.setdefault(int(number), {})[name] = value
            elif kind == "terms":
                self.terms[rest] = float(value)
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self._generator.set_state(state[_GENERATOR])
        self._done = int(state[_STEP])
