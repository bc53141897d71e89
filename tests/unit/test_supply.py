"""What is installed: the lock says what the constraints say, and licences are told apart."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".github" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_has_the_versions_of_the_constraints_and_all_that_is_needed() -> None:
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    pins = {plain(name): version for name, version in pinned.items()}
    lock = (ROOT / "requirements-lock.txt").read_text().splitlines()[1:]
    found = [re.fullmatch(r"([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line) for line in lock]
    assert all(found)
    locked = {plain(one[1]): one[2] for one in found if one is not None}
    assert locked == {name: pins[name] for name in locked}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {plain(re.split(r"[>=]", one)[0]) for one in wanted} <= locked.keys()


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 AND BSL-1.0 AND MIT", True),
        ("BSD License; Apache Software License", True),
        ("MIT OR GPL-2.0-only", True),
        ("EPL-2.0 OR BSD-3-Clause", True),
        ("LGPL-3.0-only", True),
        ("MIT AND GPL-2.0-only", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("AGPL-3.0-or-later", False),
        ("CC-BY-NC-SA-4.0 AND Apache-2.0", False),
        ("MIT, for non-commercial use", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_licences_are_told_apart(text: str, allowed: bool) -> None:
    assert script("check_licences").is_allowed("package", text) is allowed
