"""Named weights from the Hugging Face hub: fetched once, pinned for ever.

The first download takes the newest commit, holds every file against the SHA-256 that the hub declares for it,
and records commit and SHA-256 of each file in ``weights/`` of the cache folder (see `zeroflaw.towers.cache`).
Every later load uses that commit and holds the files against that record, with or without the network. Trust
is therefore that of the first download; who needs more copies the folder that `zeroflaw convert` writes.

``HF_HOME``, ``HF_HUB_CACHE``, ``HF_HUB_OFFLINE`` and ``HF_ENDPOINT`` are honoured; huggingface-hub reads them
when it is imported, which happens in `fetch` and not before.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from zeroflaw.errors import WeightsError
from zeroflaw.files import write_json
from zeroflaw.towers.cache import cache_folder
from zeroflaw.towers.folder import (
    CONFIG,
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_WEIGHTS,
    PREPROCESSORS,
    WEIGHTS,
    check_digest,
    digest_of,
)
from zeroflaw.towers.records import LOCAL, WeightsRecord

log = logging.getLogger("zeroflaw")

_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_MODELS = ((OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS), *((CONFIG, name, WEIGHTS) for name in PREPROCESSORS))


@dataclass(frozen=True)
class Fetched:
    """Where the files of a repository lie, and their commit."""

    folder: Path
    revision: str


@dataclass(frozen=True)
class Pin:
    """What the first download saw: the commit, and the SHA-256 of each file."""

    repository: str
    revision: str
    files: dict[str, str]


def fetch(record: WeightsRecord, *, offline: bool | None = None) -> Fetched:
    """Return the folder with a record's files, downloading what is missing.

    Args:
        record: names the repository.
        offline: never use the network; None follows ``HF_HUB_OFFLINE``.

    Raises:
        WeightsError: the files cannot be had, or differ from what was first downloaded.
    """
    from huggingface_hub import constants

    local = constants.HF_HUB_OFFLINE if offline is None else offline
    pin = _read_pin(record)
    if pin is not None:
        folder = _get(record, list(pin.files), pin.revision, local)
    else:
        pin, folder = _first(record, local)
    for name, digest in pin.files.items():
        check_digest(folder / name, digest)
    return Fetched(folder, pin.revision)


def _first(record: WeightsRecord, local: bool) -> tuple[Pin, Path]:
    """Take what is newest on the hub, or what lies in its cache, and pin it."""
    declared: dict[str, str] = {}
    if local:
        folder = _get_any_cached(record)
        revision = folder.name
    else:
        revision, declared = _ask(record)
        names = _choose(set(declared))
        if names is None:
            raise WeightsError(
                f"{record.source} must hold a CLIP in safetensors with its configuration and tokenizer, got "
                f"{', '.join(sorted(declared)[:12])}; download the weights yourself, use 'zeroflaw convert' "
                f"and {LOCAL}FOLDER"
            )
        folder = _get(record, list(names), revision, local)
    names = _choose({path.name for path in folder.iterdir()}) or ()
    for name in names:
        if declared.get(name):
            check_digest(folder / name, declared[name])
    pin = Pin(record.source, revision, {name: digest_of(folder / name) for name in names})
    _write_pin(record, pin)
    return pin, folder


def _choose(there: set[str]) -> tuple[str, ...] | None:
    tokenizer = next((names for names in _TOKENIZERS if there.issuperset(names)), None)
    model = next((names for names in _MODELS if there.issuperset(names)), None)
    return None if tokenizer is None or model is None else model + tokenizer


def _ask(record: WeightsRecord) -> tuple[str, dict[str, str]]:
    """Return the newest commit and the SHA-256 that the hub declares per file (empty for small texts)."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=_endpoint()).model_info(
            record.source, revision=record.revision, files_metadata=True
        )
    except Exception as error:  # a dozen classes of three libraries
        raise _unreachable(record, error) from error
    files = {file.rfilename: file.lfs.sha256 if file.lfs else "" for file in info.siblings or []}
    return str(info.sha), files


def _get(record: WeightsRecord, names: list[str], revision: str, local: bool) -> Path:
    from huggingface_hub import hf_hub_download

    paths = []
    try:
        for name in names:  # progress bars are huggingface-hub's own: on stderr, and only on a terminal
            fetched = _cached(record, name, revision) or hf_hub_download(
                record.source, name, revision=revision, local_files_only=local, endpoint=_endpoint()
            )
            paths.append(fetched)
    except Exception as error:  # a dozen classes of three libraries
        raise _unreachable(record, error) from error
    return Path(paths[0]).parent


def _cached(record: WeightsRecord, name: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(record.source, name, revision=revision)
    return found if isinstance(found, str) else None


def _get_any_cached(record: WeightsRecord) -> Path:
    """Find files that another program has put into the hub's cache."""
    for names in _MODELS:
        path = _cached(record, names[-1], record.revision)
        if path and _choose({entry.name for entry in Path(path).parent.iterdir()}):
            return Path(path).parent
    raise _unreachable(record, None)


def _unreachable(record: WeightsRecord, error: Exception | None) -> WeightsError:
    cause = (
        "the network is switched off"
        if error is None
        else f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    )
    return WeightsError(
        f"the weights {record.name} are not on this machine and could not be downloaded ({cause}); download "
        f"them once with a network, or copy {OPEN_CLIP_CONFIG}, {OPEN_CLIP_WEIGHTS} and tokenizer.json of "
        f"the repository {record.source} into a folder and use {LOCAL}FOLDER, or copy the cache of another "
        "machine and set HF_HOME to it"
    )


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _pin_path(record: WeightsRecord) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "weights" / f"{record.name.replace('/', '--')}.json"


def _read_pin(record: WeightsRecord) -> Pin | None:
    path = _pin_path(record)
    if path is None or not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        pin = Pin(
            str(raw["repository"]), str(raw["revision"]), {str(k): str(v) for k, v in raw["files"].items()}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path} must hold commit and sha256 of the first download, got trouble with {error}; if you "
            "trust the weights that the hub has now, delete that file"
        ) from error
    if pin.repository != record.source or not pin.files or any(Path(name).name != name for name in pin.files):
        raise WeightsError(f"{path} must be about {record.source}, got {pin.repository}; delete that file")
    return pin


def _write_pin(record: WeightsRecord, pin: Pin) -> None:
    path = _pin_path(record)
    if path is None:
        log.warning("the cache is off: %s cannot be pinned to commit %s", record.name, pin.revision)
        return
    try:
        write_json(path, {"repository": pin.repository, "revision": pin.revision, "files": pin.files})
    except OSError as error:
        log.warning("%s cannot be pinned to commit %s in %s: %s", record.name, pin.revision, path, error)
