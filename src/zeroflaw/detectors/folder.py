"""A saved detector: a folder of JSON, safetensors and a model card. Nothing in it is executed on load."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from zeroflaw._version import __version__
from zeroflaw.detectors.contract import SCHEMA
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.files import whole_folder

FILES = {"config.json", "head.safetensors", "words.json", "README.md", "calibration.json"}
LARGEST_HEAD = 512 * 2**20  # bytes; no head of ours comes near it


@dataclass
class SavedDetector:
    """The content of a detector folder.

    Attributes:
        detector: name of the kind of detector.
        parameters: its parameters, as JSON values.
        backbone: name, sha256 and revision of the weights it was fitted on.
        tensors: learned tensors by name, float32 or int64.
        words: all words used, by what they were used for.
        seen: images that it was fitted on, as counts and names; empty where there were none.
        card: model card, Markdown.
    """

    detector: str
    parameters: dict[str, Any]
    backbone: dict[str, Any]
    tensors: dict[str, Tensor]
    words: dict[str, Any]
    seen: dict[str, Any] = field(default_factory=dict)
    card: str = field(default="", repr=False)


def require_target(folder: str | Path) -> Path:
    """Return the folder as a path if a detector may be saved there: a new, an empty or a detector's folder.

    Raises:
        UsageError: something else is there, or nothing can be written there.
    """
    target = Path(folder).resolve()
    try:
        free = not target.exists() or (target.is_dir() and (not any(target.iterdir()) or _is_ours(target)))
        if free:
            parent = next(path for path in target.parents if path.exists())
            tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        raise UsageError(
            f"a detector cannot be written to {folder}: {error.strerror or error}; choose another folder"
        ) from error
    if not free:
        raise UsageError(
            f"a new, empty or detector folder was wanted to save into, but {folder} holds something else"
        )
    return target


def _is_ours(folder: Path) -> bool:
    if not {path.name for path in folder.iterdir()} <= FILES:
        return False
    try:
        _read_config(folder)
    except DetectorError:
        return False
    return True


def write_folder(folder: str | Path, saved: SavedDetector) -> None:
    """Write a detector folder; it appears whole or not at all.

    Raises:
        UsageError: something else is there.
        DetectorError: the folder cannot be written.
    """
    target = require_target(folder)
    head = save_tensors({k: v.detach().cpu().contiguous() for k, v in saved.tensors.items()})
    words = _json(saved.words)
    config = {
        "schema": SCHEMA,
        "zeroflaw": __version__,
        "detector": saved.detector,
        "parameters": saved.parameters,
        "backbone": saved.backbone,
        "seen": saved.seen,
        "sha256": {"head.safetensors": _digest(head), "words.json": _digest(words)},
    }
    files = {
        "head.safetensors": head,
        "words.json": words,
        "README.md": saved.card.encode(),
        "config.json": _json(config),
    }
    try:
        with whole_folder(target) as fresh:
            for name, data in files.items():
                (fresh / name).write_bytes(data)
    except OSError as error:
        raise DetectorError(
            f"the detector could not be written to {target}: {error.strerror or error}"
        ) from error


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_folder(folder: str | Path) -> SavedDetector:
    """Read and verify a detector folder.

    Raises:
        DetectorError: a file is missing, damaged or of another schema; the message names the file.
    """
    root = Path(folder)
    config = _read_config(root)
    parts = {}
    for name, wanted in config["sha256"].items():
        parts[name] = _read(root / name)
        if (got := _digest(parts[name])) != wanted:
            raise DetectorError(
                f"{root / name} is damaged: sha256 {wanted} was wanted, {got} found; save the detector again"
            )
    try:
        tensors = load_tensors(parts["head.safetensors"])
        words = json.loads(parts["words.json"])
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise DetectorError(
            f"{root} is not a complete detector folder ({error}); save the detector again"
        ) from error
    if not isinstance(words, dict):
        raise DetectorError(f"{root / 'words.json'} must hold an object, got a {type(words).__name__}")
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.int64):
            raise DetectorError(
                f"{root / 'head.safetensors'}: tensor '{name}' must hold float32 or int64 numbers, got "
                f"{tensor.dtype}; save the detector again"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise DetectorError(
                f"{root / 'head.safetensors'}: tensor '{name}' has values that are not finite numbers"
            )
    return SavedDetector(
        config["detector"], config["parameters"], config["backbone"], tensors, words, config["seen"]
    )


def check_identity(saved: SavedDetector, name: str, backbone: Any) -> None:
    """Compare the backbone ``name`` with the one that a detector was fitted on.

    Raises:
        DetectorError: it has other weights, or another configuration, preprocessing or tokenizer.
    """
    if backbone.sha256 != saved.backbone.get("sha256"):
        raise DetectorError(
            f"the detector was fitted on backbone '{saved.backbone.get('name')}' with sha256 "
            f"{saved.backbone.get('sha256')}, but '{name}' has {backbone.sha256}; use the weights it was "
            "fitted on, or fit it again"
        )
    if backbone.fingerprint != saved.backbone.get("fingerprint"):
        raise DetectorError(
            f"backbone '{name}' has the weights the detector was fitted on, but not its configuration, "
            "preprocessing and tokenizer; restore its folder, or fit the detector again"
        )


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_HEAD:
            raise DetectorError(
                f"{path} is larger than the {LARGEST_HEAD >> 20} MiB that a detector's file may have"
            )
        return path.read_bytes()
    except OSError as error:
        raise DetectorError(f"a detector file was wanted at {path}: {error.strerror or error}") from error


def _read_config(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise DetectorError(
            f"a detector folder was wanted, but {root} {'is a file' if root.exists() else 'does not exist'}"
        )
    try:
        config = json.loads(_read(root / "config.json"))
    except (ValueError, RecursionError) as error:
        raise DetectorError(f"{root / 'config.json'} is not JSON: {error}") from error
    wanted = {"detector": str, "parameters": dict, "backbone": dict, "seen": dict, "sha256": dict}
    if not isinstance(config, dict) or not all(isinstance(config.get(k), t) for k, t in wanted.items()):
        raise DetectorError(
            f"{root / 'config.json'} is not the config of a detector: it needs {', '.join(wanted)}"
        )
    if config.get("schema") != SCHEMA:
        raise DetectorError(
            f"{root / 'config.json'} has schema {config.get('schema')!r}, this version reads {SCHEMA}; "
            "fit the detector again or install the version that wrote it"
        )
    if set(config["sha256"]) != {"head.safetensors", "words.json"}:
        raise DetectorError(f"{root / 'config.json'} must list the sha256 of head.safetensors and words.json")
    return config
