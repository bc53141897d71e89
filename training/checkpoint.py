"""Checkpoints of a training run: parameters, Adam's moments, the step, and the recipe that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from zeroflaw.files import atomic


def save_checkpoint(
    path: Path,
    parameters: Mapping[str, torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    step: int,
    recipe: Any,
    *,
    averages: Mapping[str, Tensor] = {},
) -> None:
    """Write parameters, their moments, any running means and the step, atomically.

    ``recipe`` is a dataclass.
    """
    tensors = {f"tower.{name}": value.detach() for name, value in parameters.items()}
    tensors |= {f"average.{name}": value for name, value in averages.items()}
    for name, value in parameters.items():
        state = optimiser.state[value]
        tensors |= {f"mean.{name}": state["exp_avg"], f"square.{name}": state["exp_avg_sq"]}
    with atomic(path) as temporary:
        save_file(tensors, temporary, {"step": str(step), "recipe": str(asdict(recipe))})


def load_checkpoint(
    path: Path,
    parameters: Mapping[str, torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    recipe: Any,
    *,
    averages: Mapping[str, Tensor] = {},
) -> int:
    """Fill parameters, moments and running means from a checkpoint and return its step.

    Raises:
        ValueError: the checkpoint was written with another recipe.
    """
    with safe_open(path, "pt") as file:
        found = file.metadata()
        if found["recipe"] != str(asdict(recipe)):
            raise ValueError(f"{path}: wanted {asdict(recipe)}, got {found['recipe']}; remove the file")
        step = int(found["step"])
        for name, value in averages.items():
            value.copy_(file.get_tensor(f"average.{name}"))
        for name, value in parameters.items():
            value.data.copy_(file.get_tensor(f"tower.{name}"))
            optimiser.state[value] = {
                "step": torch.tensor(float(step)),
                "exp_avg": file.get_tensor(f"mean.{name}"),
                "exp_avg_sq": file.get_tensor(f"square.{name}"),
            }
    return step
