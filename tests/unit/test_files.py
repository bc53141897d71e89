"""Files and folders appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zeroflaw import files
from zeroflaw.errors import InputError, UsageError, WordsError
from zeroflaw.files import (
    atomic,
    read_bytes,
    read_json,
    read_toml,
    sha256,
    whole_folder,
    write_json,
    write_text,
)


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
    """Where the system cannot swap two folders in one step, it is done by two renames."""
    target = tmp_path / "folder"
    with whole_folder(target) as fresh:
        (fresh / "a").write_text("1")
    rename, calls = Path.rename, []

    def fails_once(self: Path, other: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise OSError("no")
        return rename(self, other)

    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(OSError, match="no"), whole_folder(target) as fresh:
        (fresh / "b").write_text("2")
    assert (target / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    with whole_folder(target) as fresh:
        (fresh / "c").write_text("3")
    assert [p.name for p in target.iterdir()] == ["c"]


def test_what_a_killed_run_left_is_mended_and_cleared(tmp_path: Path) -> None:
    for kind in ("new", "old", "lock"):
        (tmp_path / f".folder.{kind}.tmp").mkdir() if kind != "lock" else (
            tmp_path / ".folder.lock.tmp"
        ).touch()
    (tmp_path / ".folder.old.tmp" / "a").write_text("1")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "folder"):
        raise RuntimeError
    assert (tmp_path / "folder" / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_one_run_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with whole_folder(target) as fresh:
        (fresh / "a").write_text("1")
        with pytest.raises(UsageError, match="another run"), whole_folder(target):
            pass
        assert (fresh / "a").exists()
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "a"]


def test_the_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="below it"), whole_folder(Path()):
        pass


def test_a_full_disk_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a\.txt"), atomic(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "pipe": (_fifo, "is a pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "large": (lambda path: path.write_bytes(b" " * 2001), "at most 2,000"),
    "loop": (lambda path: path.symlink_to(path), "cannot be looked at"),
    "latin": (lambda path: path.write_bytes(b"\n\xff"), "0xff in line 2"),
    "no json": (lambda path: path.write_text("{\n"), "is not JSON"),
    "array": (lambda path: path.write_text("[]"), "JSON object"),
    "nan": (lambda path: path.write_text('{"a": NaN}'), "NaN is no number"),
    "half": (lambda path: path.write_text('{"a": "\\ud800"}'), "is not JSON"),
    "deep": (lambda path: path.write_text("[" * 1900), "is not JSON"),
}


@pytest.mark.skipif(os.name == "nt", reason="no pipes and devices among files")
@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    make, says = BAD[kind]
    path = tmp_path / "a\n.json"
    make(path)
    with pytest.raises(WordsError, match=says) as caught:
        read_json(path, 2000, "words file", WordsError)
    assert str(caught.value).startswith("words file '")
    assert "a\\n.json'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = 1\nb = ", "in line 2"),
        ("a = 1\na = 2", "in line 2"),
        ("a = " + "[" * 900, "nested too deep"),
        ("a = " + "9" * 5000, "is not TOML"),
        (".".join("a" * 100) + " = 1", "64 parts"),
        ("x = { 'a' " + ' . "b c"' * 70 + " = 1 }", "64 parts"),
    ],
)
def test_bad_toml_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(InputError, match=says):
        read_toml(tmp_path / "a.toml", 10_000, "grid")


def test_good_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("\ufeffa.b = ['1.2.3...', \"...\"]", encoding="utf-8")
    assert read_toml(path, 100, "grid") == {"a": {"b": ["1.2.3...", "..."]}}
    path.write_text('{"a": "\\ud83d\\ude00"}')
    assert read_json(path, 100, "record") == {"a": "😀"}
    assert read_bytes(path, 100, "record") == path.read_bytes()
    with pytest.raises(InputError, match="at most 10"):
        read_bytes(path, 10, "record")


@pytest.mark.skipif(sys.platform != "linux", reason="a file whose size is not known")
def test_a_file_that_does_not_know_its_size_is_bounded() -> None:
    with pytest.raises(InputError, match="more than 10 bytes"):
        read_bytes(Path("/proc/self/maps"), 10, "record")


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
