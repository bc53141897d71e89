"""Where graphs are written to: a folder of their own, so that nothing of somebody else's is lost."""

from __future__ import annotations

import re
from pathlib import Path

from zeroflaw.files import require_own

_OURS = re.compile(
    r"(detector(-with-resize|-int8)?|stem|tokens|blocks)\.onnx|(detector|tower)\.json|tables\.safetensors|"
    r"vectors-pixels(_\d+)?\.bin|README\.md"
)
_RECORDS = {"detector.json", "tower.json"}


def require_place(folder: Path) -> None:
    """Refuse a folder whose place graphs must not take; see `zeroflaw.files.require_own`."""
    require_own(folder, "graphs", _written)


def _written(folder: Path) -> set[str]:
    names = {path.name for path in folder.iterdir()}
    return {name for name in names if _OURS.fullmatch(name)} if names & _RECORDS else set()
