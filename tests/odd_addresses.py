"""Weights at odd addresses: on import, where the environment has ZEROFLAW_TEST_ODD.

A product of the same numbers may differ in its last digit between memory addresses, so a test that demands
equal bytes of floats computed twice fails on some machines. Here it fails on more of them: see
``make test-portable``.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch


def at_odd_addresses(read: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Copy what a reader returns to addresses one number off the alignment that allocators give."""

    def moved(values: Any) -> Any:
        empty = torch.empty if isinstance(values, torch.Tensor) else np.empty
        room = empty(math.prod(values.shape) + 1, dtype=values.dtype)
        room[1:] = values.reshape(-1)
        return room[1:].reshape(values.shape)

    @functools.wraps(read)
    def read_and_moved(*arguments: Any, **options: Any) -> dict[str, Any]:
        return {name: moved(values) for name, values in read(*arguments, **options).items()}

    return read_and_moved


if os.environ.get("ZEROFLAW_TEST_ODD"):
    for library in (safetensors.torch, safetensors.numpy):
        for reader in ("load", "load_file"):
            setattr(library, reader, at_odd_addresses(getattr(library, reader)))
