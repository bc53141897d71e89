"""The one loop in which something is learned, and the state of an interrupted fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zeroflaw.detectors.inputs import Step, silent
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.files import write_bytes


class Learning:
    """Parameters that are being learned, with everything that the next step depends on.

    Attributes:
        parameters: by name; those that require gradients move.
        generator: draws whatever a step draws.
        done: rounds (epochs, or steps) that were completed.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        optimiser: Callable[[list[Tensor]], torch.optim.Optimizer],
        generator: torch.Generator,
        *,
        seed: int,
        rate: str = "learning_rate",
    ) -> None:
        """Take the parameters; ``rate`` is the detector's parameter of which less may help, for messages."""
        self.parameters, self.generator, self.done = dict(parameters), generator, 0
        self._seed, self._rate, self._steps = seed, rate, 0
        self._optimiser = optimiser([tensor for tensor in self.parameters.values() if tensor.requires_grad])

    def step(self, terms: Mapping[str, Tensor]) -> None:
        """Go one step down the sum of the loss terms.

        Raises:
            UsageError: the sum is not a finite number; the message names the step, the terms and the seed.
                What was kept by the last `Checkpoint.save` stays.
        """
        self._steps += 1
        total = self.total(terms)
        self._optimiser.zero_grad()
        total.backward()
        self._optimiser.step()

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the loss terms, if it is finite; see `step`."""
        total = torch.stack([value.float() for value in terms.values()]).sum()
        if not bool(torch.isfinite(total)):
            shown = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in terms.items())
            raise UsageError(
                f"training stopped at step {self._steps}: the loss is not a finite number ({shown}; seed "
                f"{self._seed}); use a smaller {self._rate}"
            )
        return total

    def run(
        self,
        rounds: int,
        one: Callable[[], None],
        *,
        checkpoint: Checkpoint | None = None,
        every: int = 1,
        progress: Step = silent,
    ) -> None:
        """Take the rounds that are left, from where the checkpoint stands, and keep it up to date.

        An interrupted run goes on from its last checkpoint and ends with the same bytes as an undisturbed
        one.

        Args:
            rounds: in all.
            one: takes the steps of one round.
            checkpoint: where the state is kept, if anywhere.
            every: rounds between two checkpoints.
            progress: called after every round.

        Raises:
            UsageError: a loss or a learned number is not finite, or the checkpoint belongs to another fit.
            DetectorError: the checkpoint cannot be read or written.
        """
        kept = None if checkpoint is None else checkpoint.load()
        if kept is not None:
            self._restore(kept)
        while self.done < rounds:
            one()
            self.done += 1
            if checkpoint is not None and (self.done % every == 0 or self.done == rounds):
                checkpoint.save(self.state())
            progress(self.done, rounds)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self.parameters.values()):
            raise UsageError(
                f"training ended with numbers that are not finite (seed {self._seed}); use a smaller "
                f"{self._rate}"
            )

    def state(self) -> dict[str, Tensor]:
        """Return all that the rest of the fit depends on, by name."""
        moments = self._optimiser.state_dict()["state"]
        return {
            **{f"parameter.{name}": tensor for name, tensor in self.parameters.items()},
            **{f"moment.{n}.{key}": value for n, kept in moments.items() for key, value in kept.items()},
            "generator": self.generator.get_state(),
            "done": torch.tensor([self.done, self._steps]),
        }

    def _restore(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self.parameters.items():
            tensor.data.copy_(state[f"parameter.{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("moment."):
                _, number, key = name.split(".")
                moments.setdefault(int(number), {})[key] = value
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(state["generator"])
        self.done, self._steps = (int(count) for count in state["done"])


def epoch(rows: int, batch_size: int, generator: torch.Generator, *, least: int = 1) -> Iterable[Tensor]:
    """Yield the row numbers of one epoch, batch by batch in an order drawn anew, but too small batches."""
    for batch in torch.randperm(rows, generator=generator).split(batch_size):
        if len(batch) >= least:
            yield batch


_KEY = "zeroflaw-checkpoint"
_DIGEST = "sha256"  # a changed number would go unnoticed into the result


class Checkpoint:
    """Keeps the tensors of a fit between steps.

    ``identity`` is everything that decides the result (parameters, weights, data): a file made under another
    identity is refused, because going on from it would give neither the old nor the new detector.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._identity = json.dumps(identity, sort_keys=True)

    def load(self) -> dict[str, Tensor] | None:
        """Return the tensors that were kept last, or None where there is no file yet.

        Raises:
            DetectorError: the file is damaged or no checkpoint.
            UsageError: it belongs to a fit with other parameters, weights or data.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as kept:
                said = kept.metadata() or {}
                tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError) as error:
            raise DetectorError(
                f"a checkpoint was wanted at {self.path}, but it cannot be read ({error}); delete it to "
                "start again"
            ) from error
        if _KEY not in said:
            raise DetectorError(f"{self.path} is no checkpoint of a fit; name another file")
        if said.get(_DIGEST) != _digest(said[_KEY], tensors):
            raise DetectorError(
                f"the checkpoint {self.path} is damaged: its content is not what was written; delete it to "
                "start again"
            )
        if said[_KEY] != self._identity:
            old, new = json.loads(said[_KEY]), json.loads(self._identity)
            others = ", ".join(sorted(name for name in {**old, **new} if old.get(name) != new.get(name)))
            raise UsageError(
                f"the checkpoint {self.path} belongs to a fit with other values of {others}; "
                "delete it to start again, or go on with what it was made with"
            )
        return tensors

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace what is kept.

        Raises:
            DetectorError: the file cannot be written.
        """
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        said = {_KEY: self._identity, _DIGEST: _digest(self._identity, whole)}
        try:
            write_bytes(self.path, save(whole, metadata=said))
        except OSError as error:
            raise DetectorError(
                f"the checkpoint cannot be written to {self.path}: {error.strerror or error}; name another "
                "file"
            ) from error


def _digest(identity: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(identity.encode() + save(dict(tensors))).hexdigest()
