"""Where graphs are written to: a folder of their own, so that nothing of somebody else's is lost."""

from __future__ import annotations

import re
from pathlib import Path

from zeroflaw.errors import UsageError, printable, reason
from zeroflaw.files import require_replaceable

_OURS = re.compile(
    r"(detector(-with-resize|-int8)?|stem|tokens|blocks)\.onnx|(detector|tower)\.json|tables\.safetensors|"
    r"vectors-pixels(_\d+)?\.bin|README\.md"
)
_RECORDS = {"detector.json", "tower.json"}


def require_place(folder: Path) -> None:
    """Refuse, before any work, a folder whose place graphs must not take.

    Raises:
        UsageError: it is a file, a mount point or the current folder, cannot be looked at, or holds anything
            but what an earlier export wrote.
    """
    try:
        require_replaceable(folder)
        if not folder.exists():
            return
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"graphs cannot be written to {printable(folder)} ({reason(error)}); give another folder"
        ) from error
    strange = [name for name in names if not _OURS.fullmatch(name)]
    if strange or (names and not _RECORDS & set(names)):
        raise UsageError(
            f"{printable(folder)} holds {printable((strange or names)[0])}, which no earlier export wrote; "
            "give another folder"
        )
