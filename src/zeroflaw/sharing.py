"""Saved detectors to and from the Hugging Face hub, or what speaks like it.

What is pulled goes through the reader of every detector folder, bounded and checked, before it is in place.
``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and ``HF_HUB_OFFLINE`` are honoured.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zeroflaw._version import __version__
from zeroflaw.errors import DetectorError, OutputError, UsageError, ZeroflawError, needing, printable
from zeroflaw.files import write_files
from zeroflaw.runtime.folder import FILES, LARGEST_HEAD, read_folder, require_target

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAME = re.compile(r"(?!.*(--|\.\.))\w[\w.-]{0,95}/\w[\w.-]{0,95}(?<![.-])", re.ASCII)
CARD = "README.md"
NEEDED = ("config.json", "head.safetensors", "words.json")
BESIDE = {".gitattributes", CARD, "LICENSE"}  # what a repository may hold that no detector is in yet
_FRONT = """---
library_name: zeroflaw
tags:
- anomaly-detection
- visual-inspection
---

"""  # by which the hub finds it; a card that begins so is left as it is


def push(folder: str | Path, repository: str, *, private: bool = False, message: str | None = None) -> str:
    """Put a saved detector into a repository of the hub, which is made where there is none.

    Its model card goes along as the repository's page. Files of an earlier detector are replaced in one
    commit, and what this one does not have, a calibration say, is removed.

    Args:
        folder: of a saved detector.
        repository: ``OWNER/NAME``.
        private: let nobody else see it.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        DetectorError: the folder is no sound saved detector.
        UsageError: the repository's name is wrong, it holds something else, or is public where it was to be
            private.
        OutputError: the hub cannot be reached, or does not let this user write there.
    """
    root = Path(folder)
    read_folder(root)
    files = {name: (root / name).read_bytes() for name in sorted(FILES) if (root / name).is_file()}
    card = files.get(CARD, b"")
    files[CARD] = card if card.startswith(b"---") else _FRONT.encode() + card
    with _speaking(repository, "pushed to", OutputError) as hub:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        hub.create_repo(repository, private=private or None, exist_ok=True)
        info = hub.model_info(repository)
        theirs = {file.rfilename for file in info.siblings or []}
        if private and not info.private:
            raise UsageError(
                f"{printable(repository)} is there already and public; make it private on the hub, or give "
                "another name"
            )
        if theirs - BESIDE and not theirs.issuperset(NEEDED):
            strange = sorted(theirs - BESIDE)[0]
            raise UsageError(
                f"{printable(repository)} holds something else than a detector, {printable(strange)} for "
                "example; give another name"
            )
        gone = [CommitOperationDelete(name) for name in sorted(FILES & theirs - files.keys())]
        added = [CommitOperationAdd(name, data) for name, data in files.items()]
        said = message or f"Save a detector with zeroflaw {__version__}"
        commit = hub.create_commit(repository, [*added, *gone], commit_message=said)
    return str(commit.commit_url)


def pull(repository: str, folder: str | Path, *, revision: str | None = None, overwrite: bool = False) -> str:
    """Fetch a saved detector from a repository of the hub into a folder, which appears whole or not at all.

    Args:
        repository: ``OWNER/NAME``.
        folder: new, or empty.
        revision: branch, tag or commit; the newest of the main branch otherwise.
        overwrite: take the place of a detector that is there.

    Returns:
        The commit that was fetched.

    Raises:
        UsageError: something is in the folder, or the repository's name is wrong.
        DetectorError: the hub cannot be reached, there is no such repository or revision, or what it holds is
            no sound saved detector.
    """
    target = require_target(folder)
    if (target / "config.json").exists() and not overwrite:
        raise UsageError(f"{folder} already holds a detector; give another folder or --overwrite")
    with tempfile.TemporaryDirectory(prefix="zeroflaw-") as place:
        with _speaking(repository, "pulled from", DetectorError) as hub:
            info = hub.model_info(repository, revision=revision, files_metadata=True)
            names = _wanted(repository, {file.rfilename: file.size for file in info.siblings or []})
            for name in names:
                hub.hf_hub_download(repository, name, revision=info.sha, local_dir=place)
        try:
            read_folder(place)
        except DetectorError as error:
            said = str(error).replace(f"{place}{os.sep}", "")
            raise DetectorError(f"{printable(repository)} holds no sound detector: {said}") from error
        files = {name: (Path(place) / name).read_bytes() for name in names}
    write_files(target, files, "the detector", DetectorError)
    return str(info.sha)


def _wanted(repository: str, sizes: dict[str, int | None]) -> list[str]:
    """Return which files of a repository are a detector's.

    Raises:
        DetectorError: one is missing or too large, or lies outside of the repository.
    """
    name = printable(repository)
    for path in sizes:
        if ".." in PurePosixPath(path).parts or path.startswith("/") or "\\" in path:
            raise DetectorError(
                f"{name} names a file outside of its folder, {printable(path)}; do not use it"
            )
    if missing := [wanted for wanted in NEEDED if wanted not in sizes]:
        raise DetectorError(f"{name} holds no saved detector: it has no {missing[0]}")
    wanted = sorted(FILES & sizes.keys())
    for path in wanted:
        if (size := sizes[path] or 0) > LARGEST_HEAD:
            raise DetectorError(
                f"{path} of {name} has {size:,} bytes, more than the {LARGEST_HEAD >> 20} MiB that a "
                "detector's file may have"
            )
    return wanted


@contextmanager
def _speaking(repository: str, verb: str, error: type[ZeroflawError]) -> Iterator[HfApi]:
    """Yield the hub, and turn what its client raises into one sentence.

    Raises:
        MissingExtraError: the client is not installed.
        UsageError: the repository's name is wrong.
        ZeroflawError: of the class ``error``, for all else.
    """
    with needing(f"what is {verb} the hub"):
        from huggingface_hub import HfApi, constants, errors
    if not _NAME.fullmatch(repository):
        raise UsageError(
            f"a repository is called OWNER/NAME, of letters, digits, '-', '_' and '.', got "
            f"{printable(repository)}"
        )
    name = f"{printable(repository)} could not be {verb} the hub"
    if constants.HF_HUB_OFFLINE:
        raise error(f"{name}: the network is switched off with HF_HUB_OFFLINE; unset it")
    try:
        yield HfApi(
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            library_name="zeroflaw",
            library_version=__version__,
        )
    except ZeroflawError:
        raise
    except errors.RevisionNotFoundError as wrong:
        raise error(f"{name}: it has no such revision; look at its branches, tags and commits") from wrong
    except errors.GatedRepoError as wrong:
        raise error(f"{name}: its owner has to let you in; ask for it on its page") from wrong
    except errors.RepositoryNotFoundError as wrong:
        raise error(
            f"{name}: there is none, or it is private; check its name, or log in (HF_TOKEN)"
        ) from wrong
    except Exception as wrong:  # a dozen classes of three libraries
        raise error(f"{name} ({_said(wrong)})") from wrong


def _said(wrong: BaseException) -> str:
    """Return in words why the hub refused, or what kept it from being asked."""
    while not hasattr(wrong, "response") and wrong.__cause__ is not None:
        wrong = wrong.__cause__
    status: Any = getattr(getattr(wrong, "response", None), "status_code", None)
    if status in (401, 403):
        return f"HTTP {status}: you may not; log in with a token that can write, in HF_TOKEN"
    return printable(f"{type(wrong).__name__}: {' '.join(str(wrong).split())}", 200)
