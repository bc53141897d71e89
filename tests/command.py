"""The command in this process: how tests run it, and what they give it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeroflaw.cli.main import main


def run(*arguments: object) -> int:
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], code: int, says: str, *arguments: object) -> None:
    """Run the command and expect its exit code, one sentence on stderr, and nothing on stdout."""
    capsys.readouterr()
    assert run(*arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def lines(text: str) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def measured(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of ``metrics.json``."""
    return list(json.loads((folder / "metrics.json").read_text("utf-8"))["rows"])


def picture(path: Path, seed: int = 0, *, size: tuple[int, int] = (24, 32), mode: str = "RGB") -> Path:
    """Write a picture of random pixels, (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
