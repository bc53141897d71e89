"""One way to get a backbone: by name, or from a folder.

``load_backbone("mini")`` is bundled. ``load_backbone("architecture/tag")`` is downloaded once through
huggingface-hub, ``load_backbone("local-dir:PATH")`` reads a folder. What is not in our format (see
`zeroflaw.towers.folder`) is brought into it once (`zeroflaw.towers.importing`), and kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.files import local_folder
from zeroflaw.towers.backbone import Backbone, Bundle, DeviceName, DtypeName, pick_device, pick_dtype
from zeroflaw.towers.catalogue import MINI, cache_folder, find_model
from zeroflaw.towers.folder import is_ours, load_folder, reading, save_folder
from zeroflaw.towers.model import CLIP

if TYPE_CHECKING:
    from zeroflaw.towers.mae import MAE

MINI_FOLDER = Path(__file__).parent / "mini"

log = logging.getLogger("zeroflaw")


def load_backbone(
    name: str, *, device: DeviceName = "auto", dtype: DtypeName = "float32", offline: bool | None = None
) -> Backbone:
    """Load a backbone.

    Args:
        name: ``mini``, ``architecture/tag`` (see `zeroflaw.towers.catalogue`), or ``local-dir:PATH``.
        device: where to run; ``auto`` is CUDA, else MPS, else the CPU.
        dtype: what to compute in.
        offline: never use the network; None follows ``HF_HUB_OFFLINE``.

    Raises:
        WeightsError: the name is unknown, or the weights are missing, damaged or refused.
        UsageError: the device or number type cannot be had.
    """
    pick_device(device), pick_dtype(dtype)  # before anything large is read
    return Backbone.on(load_bundle(name, CLIP, offline=offline), device=device, dtype=dtype)


def load_bundle(name: str, network: type[CLIP] | type[MAE], *, offline: bool | None = None) -> Bundle:
    """Read weights by name; arguments and errors as for `load_backbone`, ``network`` is what they must be."""
    # What brings weights into our format is needed once a machine, and huggingface-hub is slow to import.
    if name == MINI:
        bundle = load_folder(MINI_FOLDER)
        bundle.record = bundle.record.model_copy(update={"name": MINI})
        return bundle
    folder = local_folder(name)
    if folder is None:
        model = find_model(name)

        def download() -> Bundle:
            from zeroflaw.towers.hub import fetch
            from zeroflaw.towers.importing import import_model

            return import_model(model, *fetch(model, offline=offline))

        return _imported(name.replace("/", "--"), network, download)
    if is_ours(folder):
        return load_folder(folder, network)

    def read() -> Bundle:
        from zeroflaw.towers.importing import import_weights

        return import_weights(folder)

    return _imported(_key(folder), network, read)


def _imported(key: str, network: type[CLIP] | type[MAE], read: Callable[[], Bundle]) -> Bundle:
    """Read weights of another layout: from the copy in the cache, which is made the first time."""
    cache = cache_folder()
    copy = None if cache is None else cache / "weights" / key
    if copy is not None and is_ours(copy):
        try:
            return load_folder(copy, network)
        except WeightsError as error:
            raise WeightsError(f"{error}; it is a copy: delete {copy} to have it made again") from error
    bundle = read()
    if copy is None:
        log.warning("the cache is off: %s is read from its source every time", bundle.record.name)
        return bundle
    try:
        save_folder(
            copy, bundle.model, bundle.tokenizer, bundle.preprocess, bundle.record, origin=bundle.origin
        )
    except UsageError as error:
        log.warning("%s is read from its source every time: %s", bundle.record.name, error)
        return bundle
    return load_folder(copy, network)


def _key(folder: Path) -> str:
    """Name the copy of a folder by its path and by size and time of its files."""
    with reading(folder):
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        facts = [
            (file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()
        ]
        whole = json.dumps([str(folder.resolve()), facts])
    return f"local-{hashlib.sha256(whole.encode()).hexdigest()[:32]}"
