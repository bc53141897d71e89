"""Files and folders appear whole or not at all."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from zeroflaw.files import atomic, sha256, whole_folder, write_json, write_text


def test_a_file_is_replaced_or_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.txt"
    write_text(path, "ü")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "ü"
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR


def test_json_without_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_or_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with whole_folder(target) as fresh:
        (fresh / "a").write_text("1")
    with pytest.raises(RuntimeError), whole_folder(target) as fresh:
        (fresh / "b").write_text("2")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["a"]
    with whole_folder(target) as fresh:
        (fresh / "b").touch(mode=0o600)
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    other = tmp_path / "usual"
    other.touch()
    assert stat.S_IMODE((target / "b").stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    with whole_folder(target) as fresh:
        (fresh / "a").write_text("1")
    rename, calls = Path.rename, []

    def fails_once(self: Path, other: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise OSError("no")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(OSError, match="no"), whole_folder(target) as fresh:
        (fresh / "b").write_text("2")
    assert (target / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
