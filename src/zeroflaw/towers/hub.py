"""Named weights from the Hugging Face hub, downloaded once.

The first download takes the commit that the catalogue names, or the newest one, and holds every large file
against the SHA-256 that the hub declares for it. What is kept (`zeroflaw.towers.weights`) names commit and
SHA-256, and is held against them on every load, with or without the network.

``HF_HOME``, ``HF_HUB_CACHE``, ``HF_HUB_OFFLINE`` and ``HF_ENDPOINT`` are honoured; huggingface-hub reads them
when it is imported.
"""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import RepositoryNotFoundError

from zeroflaw.errors import WeightsError
from zeroflaw.files import LOCAL
from zeroflaw.towers.catalogue import Model
from zeroflaw.towers.folder import CONFIG, WEIGHTS, check_digest
from zeroflaw.towers.importing import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, PREPROCESSORS

_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_MODELS = ((OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS), *((CONFIG, name, WEIGHTS) for name in PREPROCESSORS))


def fetch(model: Model, *, offline: bool | None = None) -> tuple[Path, str]:
    """Return the folder with a repository's files and their commit, downloading what is missing.

    Args:
        model: names the repository.
        offline: never use the network; None follows ``HF_HUB_OFFLINE``.

    Raises:
        WeightsError: the files cannot be had, or are not what the hub declares.
    """
    folder = (
        _cached(model) if (constants.HF_HUB_OFFLINE if offline is None else offline) else _download(model)
    )
    return folder, folder.name


def _cached(model: Model) -> Path:
    """Find files that were downloaded before, by whatever program."""
    for names in _MODELS:
        path = try_to_load_from_cache(model.source, names[-1], revision=model.revision)
        if isinstance(path, str) and _choose({entry.name for entry in Path(path).parent.iterdir()}):
            return Path(path).parent
    raise _missing(model, "the network is switched off")


def _download(model: Model) -> Path:
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        info = HfApi(endpoint=endpoint).model_info(model.source, revision=model.revision, files_metadata=True)
        declared = {file.rfilename: file.lfs.sha256 if file.lfs else "" for file in info.siblings or []}
        names = _choose(set(declared))
        if names is None:
            raise WeightsError(
                f"{model.source} must hold a CLIP in safetensors with its configuration and tokenizer, got "
                f"{', '.join(sorted(declared)[:12])}; download the weights yourself, use 'zeroflaw convert' "
                f"and {LOCAL}FOLDER"
            )
        # Progress bars are huggingface-hub's own: on stderr, and only on a terminal.
        paths = [hf_hub_download(model.source, name, revision=info.sha, endpoint=endpoint) for name in names]
    except RepositoryNotFoundError as error:
        raise _missing(model, f"there is no repository {model.source}, or it is private") from error
    except WeightsError:
        raise
    except Exception as error:  # a dozen classes of three libraries
        raise _missing(model, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    for name, path in zip(names, paths, strict=True):
        if declared[name]:
            check_digest(Path(path), declared[name])
    return Path(paths[0]).parent


def _choose(there: set[str]) -> tuple[str, ...] | None:
    tokenizer = next((names for names in _TOKENIZERS if there.issuperset(names)), None)
    model = next((names for names in _MODELS if there.issuperset(names)), None)
    return None if tokenizer is None or model is None else model + tokenizer


def _missing(model: Model, cause: str) -> WeightsError:
    file = model.release.rpartition("/")[2]
    release = (
        f"download {model.release} and use 'zeroflaw convert {file} FOLDER --config {model.name} --tokenizer "
        f"PATH' and {LOCAL}FOLDER, or "
        if file
        else ""
    )
    return WeightsError(
        f"the weights {model.name} are not on this machine and could not be downloaded ({cause}); {release}"
        f"download them once with a network, or copy {OPEN_CLIP_CONFIG}, {OPEN_CLIP_WEIGHTS} and "
        f"tokenizer.json of the repository {model.source} into a folder and use {LOCAL}FOLDER, or copy the "
        "cache of another machine and set HF_HOME to it"
    )
