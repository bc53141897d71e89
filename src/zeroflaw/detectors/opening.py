"""Networks for detectors: loaded once for all that use them, exported towers where that can be."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zeroflaw.errors import UsageError, needing
from zeroflaw.files import local_folder
from zeroflaw.runtime.onnx_engine import BUNDLED, RECORD, shared_tower
from zeroflaw.runtime.processors import processor_count, thread_limit
from zeroflaw.runtime.tower import ImageTower

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["float32", "bfloat16"]
Engine = Literal["auto", "onnx", "openvino", "torch"]
_LOADING = threading.Lock()


def shared_backbone(name: str, device: Device, dtype: Dtype) -> Backbone:
    """Load a backbone once for all detectors and threads of a process that use it.

    Raises:
        UsageError: torch is not installed.
        WeightsError: the weights cannot be had.
    """
    with _LOADING:
        return _load(name, device, dtype)


@lru_cache(maxsize=2)
def _load(name: str, device: Device, dtype: Dtype) -> Backbone:
    with needing(f"the text tower of '{name}', or its image tower on torch,"):
        import torch

        from zeroflaw.towers.weights import load_backbone
    torch.set_num_threads(thread_limit() or min(torch.get_num_threads(), processor_count()))
    return load_backbone(name, device=device, dtype=dtype)


def exported(name: str) -> Path | None:
    """Return the folder of an exported image tower that goes by the name of a backbone, or None."""
    folder = BUNDLED if name == "mini" else local_folder(name)
    return folder if folder is not None and (folder / RECORD).is_file() else None


def open_tower(name: str, engine: Engine, device: Device, dtype: Dtype) -> ImageTower:
    """Open the image tower of a backbone: exported and without torch where that can be, else on torch.

    Raises:
        UsageError: the tower was not exported for the engine that was asked for, or torch is missing.
        WeightsError: it cannot be had, or is damaged.
    """
    folder = exported(name)
    if engine == "auto":
        plain = device in ("auto", "cpu") and dtype == "float32"
        engine = "onnx" if folder is not None and plain else "torch"
    if engine == "torch":
        return shared_backbone(name, device, dtype)
    if folder is None:
        raise UsageError(
            f"the image tower of '{name}' was not exported, which the engine {engine} needs; make it with: "
            f"zeroflaw export {name} -o DIR, and use local-dir:DIR"
        )
    if device not in ("auto", "cpu"):
        raise UsageError(f"the engine {engine} runs on processors, not on {device}; use the engine torch")
    return shared_tower(folder, engine, dtype, thread_limit())
