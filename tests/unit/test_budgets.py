"""Rooms stay small: the budgets of pyproject.toml, counted."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
BUDGETS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["zeroflaw"]["budgets"]


def _house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "benchmarks" / "house.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["house"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


house = _house()


@functools.cache
def loaded(program: str) -> Any:
    """What a program imports; each runs once."""
    return house.loaded_by(SRC, program)


def counted() -> dict[str, int]:
    """Lines of the rooms, the package, its longest module and the tests."""
    found = {room: house.lines_of_rooms(SRC)[room] for room in house.ROOMS}
    lengths = [text.count("\n") for _, text in house.sources(SRC)]
    tests = [path.read_bytes().count(b"\n") for path in (ROOT / "tests").rglob("*.py")]
    return {**found, "package": sum(lengths), "module": max(lengths), "tests": sum(tests)}


def test_no_room_is_larger_than_its_budget() -> None:
    found = counted()
    assert found.keys() == BUDGETS["lines"].keys()
    over = {name: f"{lines} > {BUDGETS['lines'][name]}" for name, lines in found.items()}
    assert not {name: text for name, text in over.items() if found[name] > BUDGETS["lines"][name]}


@pytest.mark.parametrize("program", BUDGETS["imported"])
def test_verbs_import_little(program: str) -> None:
    files, lines = BUDGETS["imported"][program]
    found = loaded(program)
    assert len(found.lines) <= files, found
    assert sum(found.lines.values()) <= lines, found


@pytest.mark.parametrize("program", ["import zeroflaw", "zeroflaw --help", "runtime alone", "open_dataset"])
def test_what_judges_no_image_needs_no_torch(program: str) -> None:
    assert not loaded(program).torch


@pytest.mark.parametrize("room", ["runtime", "report", "serve", "words"])
def test_rooms_without_torch_import_none(room: str) -> None:
    modules = [
        ".".join(("zeroflaw", *path.with_suffix("").parts)).removesuffix(".__init__")
        for path, _ in house.sources(SRC)
        if path.parts[0] == room
    ]
    code = f"import sys, {', '.join(modules)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(SRC)})


def test_a_torch_import_would_be_noticed() -> None:
    assert loaded("fit rwda").torch
    assert not loaded("detect").torch
