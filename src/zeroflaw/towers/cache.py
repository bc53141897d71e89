"""What zeroflaw keeps because it can make it again: text embeddings, and weights of other
layouts in our own format.

The folder is ``ZEROFLAW_CACHE``, else ``XDG_CACHE_HOME/zeroflaw``, else ``~/.cache/zeroflaw``; the value
``off`` switches the cache off. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from zeroflaw.files import atomic
from zeroflaw.towers.catalogue import cache_folder

log = logging.getLogger("zeroflaw")

_FORMAT = "1"  # part of every key: raise it when the meaning of an entry changes


def text_key(identity: Sequence[str], texts: Sequence[str]) -> str:
    """Return the content hash under which embeddings of ``texts`` by this encoder are kept."""
    return hashlib.sha256(json.dumps([_FORMAT, list(identity), list(texts)]).encode()).hexdigest()


def load_texts(key: str, shape: tuple[int, int], *, normalised: bool = True) -> Tensor | None:
    """Return cached embeddings (N, E) or None; a damaged entry is reported and counts as none."""
    path = _path(key)
    if path is None:
        return None
    try:
        if not path.is_file():
            return None
        found = safetensors.torch.load_file(path)["embeddings"].clone()
    except (OSError, SafetensorError, KeyError) as error:
        log.warning("the cached text embeddings in %s cannot be read and are computed again: %s", path, error)
        return None
    lengths = found.norm(dim=-1)
    sound = ((lengths - 1).abs() < 1e-3).all() if normalised else lengths.isfinite().all()
    if found.shape != shape or found.dtype != torch.float32 or not sound:
        log.warning("the cached text embeddings in %s are damaged and are computed again", path)
        return None
    return found


def save_texts(key: str, embeddings: Tensor) -> None:
    """Keep embeddings (N, E); a cache that cannot be written is reported and changes nothing else."""
    path = _path(key)
    if path is None:
        return
    try:
        with atomic(path) as temporary:
            safetensors.torch.save_file({"embeddings": embeddings.contiguous()}, temporary)
    except (OSError, SafetensorError) as error:
        log.warning(
            "text embeddings cannot be cached in %s: %s; set ZEROFLAW_CACHE to a writable folder",
            path.parent,
            error,
        )


def _path(key: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "texts" / f"{key}.safetensors"
