"""The picture of the rooms is drawn from the sources, and stays true."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_rooms", ROOT / "docs" / "make_rooms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(package: Path, **modules: str) -> Path:
    """Write modules of a package; two underscores are a slash."""
    for name, text in modules.items():
        path = package / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_the_picture_is_that_of_the_sources(drawing: ModuleType) -> None:
    kept = drawing.PICTURE.read_text(encoding="utf-8")
    assert kept == drawing.draw(), "rooms changed; draw them again: python docs/make_rooms.py"


def test_imports_of_all_kinds_are_seen(drawing: ModuleType, tmp_path: Path) -> None:
    package = write(
        tmp_path,
        cli__main="from zeroflaw.lab import x\ndef f():\n    import zeroflaw.towers.model",
        lab__x="from zeroflaw import words\nfrom zeroflaw import load",
        towers__model="import torch.nn\nif TYPE_CHECKING:\n    from zeroflaw.lab import x",
        words="from zeroflaw.errors import E",
        errors="",
    )
    edges, torch = drawing.rooms(package)
    assert edges == {
        "cli": {"lab", "towers"},
        "lab": {"words"},
        "towers": set(),
        "words": {"foundation"},
        "foundation": set(),
    }
    assert torch == {"towers"}
    assert drawing.depths(edges) == {"foundation": 0, "towers": 0, "words": 1, "lab": 2, "cli": 3}
    assert drawing.chains({"a": {"b", "c"}, "b": {"c"}, "c": set()}, {"a": 2, "b": 1, "c": 0}) == [
        ["a", "b"],
        ["b", "c"],
    ]
    text = drawing.draw(package)
    assert text.count("#dbe9f6") == 2  # cli and towers
    assert text.count("marker-end") == 4


def test_a_circle_is_refused(drawing: ModuleType, tmp_path: Path) -> None:
    package = write(tmp_path, a="import zeroflaw.b", b="import zeroflaw.c", c="import zeroflaw.a", d="")
    with pytest.raises(ValueError, match=r"circle: a, b, c$"):
        drawing.draw(package)
