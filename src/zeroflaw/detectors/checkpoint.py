"""The state of an interrupted fit: one safetensors file, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.files import write_bytes

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
            others = _difference(said[_KEY], self._identity)
            raise UsageError(
                f"the checkpoint {self.path} belongs to a fit with {others}; "
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

    def remove(self) -> None:
        """Forget what was kept, once the result is safe elsewhere."""
        self.path.unlink(missing_ok=True)


def _digest(identity: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(identity.encode() + save(dict(tensors))).hexdigest()


def _difference(theirs: str, ours: str) -> str:
    old, new = json.loads(theirs), json.loads(ours)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return "other values of " + ", ".join(sorted(names))


def generator_state(generator: torch.Generator) -> Tensor:
    """Return the state of a random generator as a tensor that a checkpoint can keep."""
    return generator.get_state()


def total_loss(terms: Mapping[str, Tensor], *, step: int, seed: int, rate: str = "learning_rate") -> Tensor:
    """Return the sum of the loss terms of a step; ``rate`` is the parameter of which less may help.

    Raises:
        UsageError: it is not a finite number; the message names the step, the terms and the seed. What was
            kept by the last `Checkpoint.save` stays.
    """
    total = torch.stack([value.float() for value in terms.values()]).sum()
    if not bool(torch.isfinite(total)):
        shown = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in terms.items())
        raise UsageError(
            f"training stopped at step {step}: the loss is not a finite number ({shown}; seed {seed}); use a "
            f"smaller {rate}"
        )
    return total
