"""One way to get a backbone: by name, or from a folder.

``load_backbone("mini")`` is bundled. ``load_backbone("architecture/tag")`` is downloaded once through
huggingface-hub (see `zeroflaw.towers.hub`). ``load_backbone("local-dir:PATH")`` reads a folder of ours, of
open_clip's or of Hugging Face's layout.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from zeroflaw.errors import WeightsError
from zeroflaw.towers.backbone import Backbone, Bundle, DeviceName, DtypeName, pick_device, pick_dtype
from zeroflaw.towers.folder import load_folder, save_folder
from zeroflaw.towers.records import LOCAL, MINI, REGISTRY, WeightsRecord, find_record

__all__ = ["REGISTRY", "WeightsRecord", "load_backbone", "load_folder", "save_folder"]

MINI_FOLDER = Path(__file__).parent / "mini"


def load_backbone(
    name: str, *, device: DeviceName = "auto", dtype: DtypeName = "float32", offline: bool | None = None
) -> Backbone:
    """Load a backbone.

    Args:
        name: ``mini``, ``architecture/tag`` (see `REGISTRY`), or ``local-dir:PATH``.
        device: where to run; ``auto`` is CUDA, else MPS, else the CPU.
        dtype: what to compute in.
        offline: never use the network; None follows ``HF_HUB_OFFLINE``.

    Raises:
        WeightsError: the name is unknown, or the weights are missing, damaged or refused.
        UsageError: the device or number type cannot be had.
    """
    pick_device(device), pick_dtype(dtype)  # before anything large is read
    return Backbone.on(_bundle(name, offline), device=device, dtype=dtype)


def _bundle(name: str, offline: bool | None) -> Bundle:
    if name.startswith(LOCAL):
        # Path.expanduser raises where there is no such user; this leaves the name alone.
        return load_folder(Path(os.path.expanduser(name.removeprefix(LOCAL))))  # noqa: PTH111
    record = find_record(name)
    if name == MINI:
        return _bundled()
    from zeroflaw.towers.hub import fetch  # huggingface-hub is imported only when it is needed

    fetched = fetch(record, offline=offline)
    found = load_folder(fetched.folder)
    found.record = replace(
        found.record,
        name=record.name,
        licence=record.licence,
        source=record.source,
        revision=fetched.revision,
        shape=record.shape,
        note=record.note,
    )
    _check_shape(found, record)
    return found


def _bundled() -> Bundle:
    if not (MINI_FOLDER / "config.json").is_file():
        raise WeightsError(
            "the bundled backbone must lie inside the zeroflaw package, but is missing; install zeroflaw "
            "again"
        )
    found = load_folder(MINI_FOLDER)
    found.record = replace(found.record, name=MINI)
    return found


def _check_shape(found: Bundle, record: WeightsRecord) -> None:
    wanted = record.config()
    if wanted is not None and found.model.config != wanted:
        raise WeightsError(
            f"{record.source} must hold {wanted}, got {found.model.config}; the repository has changed: "
            f"report it, and use an older revision through {LOCAL}FOLDER"
        )
