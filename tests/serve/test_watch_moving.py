"""Judged files are moved whole and once, and never over another file."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from zeroflaw.errors import OutputError, UsageError
from zeroflaw.serve import moving
from zeroflaw.serve.arrivals import Arrival, Facts
from zeroflaw.serve.moving import Mover

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows renames differently")


class Room:
    """A watched folder, and a place to move to."""

    def __init__(self, root: Path) -> None:
        self.folder, self.target = root / "in", root / "out"
        self.folder.mkdir()
        self.mover = Mover(self.folder, self.target)

    def put(self, name: str, data: bytes = b"picture") -> tuple[Arrival, str]:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return Arrival(name, Facts.of(path.lstat()), 3.0), hashlib.sha256(data).hexdigest()

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder.parent).as_posix(): path.read_bytes()
            for path in sorted(self.folder.parent.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.fixture(params=["renameat2", "link", "neither", "copy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How files are moved: as the system can, or another file system."""
    name = str(request.param)
    if name == "renameat2":
        return name
    if name == "copy":
        monkeypatch.setattr(moving, "_rename", _across(moving._rename))
        return name
    monkeypatch.setattr(moving.ctypes, "CDLL", lambda *args, **more: object())
    if name == "neither":

        def no_link(*args: Any, **more: Any) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(moving.os, "link", no_link)
    return name


@posix
def test_a_file_goes_to_its_place(room: Room, way: str) -> None:
    assert room.mover.move(*room.put("x/a.png"), "flawed") == room.target / "flawed/x/a.png"
    assert room.mover.move(*room.put("b.png", b"b"), "good") == room.target / "good/b.png"
    assert room.files() == {"out/flawed/x/a.png": b"picture", "out/good/b.png": b"b"}


@posix
def test_another_file_of_that_name_stays(room: Room, way: str) -> None:
    first = room.put("a.png", b"first")
    room.mover.move(*first, "good")
    second = room.put("a.png", b"second")
    found = room.mover.move(*second, "good")
    assert found == room.target / f"good/a.{second[1][:8]}.png"
    found.write_bytes(b"third, of somebody else")
    room.mover.move(*room.put("a.png", b"second"), "good")
    assert sorted(room.files().values()) == [b"first", b"second", b"third, of somebody else"]
    room.mover.move(*room.put("a.png", b"second"), "good")  # the same once more is there already
    assert len(room.files()) == 3


@posix
def test_a_folder_or_link_of_that_name_stays(room: Room, way: str) -> None:
    (room.target / "good/a.png").mkdir()
    (room.target / "good/b.png").symlink_to(room.target / "nowhere")
    for name in ("a.png", "b.png"):
        found = room.mover.move(*room.put(name), "good")
        assert found is not None
        assert found.read_bytes() == b"picture"
    assert (room.target / "good/b.png").is_symlink()
    assert not (room.target / "nowhere").exists()


@posix
def test_a_move_that_was_cut_short_is_finished(room: Room, way: str) -> None:
    arrival, digest = room.put("a.png")
    (room.target / "good/a.png").write_bytes(b"picture")  # copied or linked, and then killed
    assert room.mover.move(arrival, digest, "good") == room.target / "good/a.png"
    assert room.files() == {"out/good/a.png": b"picture"}


@posix
def test_a_copy_that_was_cut_short_is_begun_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    arrival, digest = room.put("a.png")
    (room.target / f"good/.{digest[:32]}.move.tmp").write_bytes(b"pic")
    monkeypatch.setattr(moving, "_rename", _across(moving._rename))
    room.mover.move(arrival, digest, "good")
    assert room.files() == {"out/good/a.png": b"picture"}


def _across(rename: Any) -> Any:
    def elsewhere(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    return elsewhere


def test_another_file_than_was_judged_is_not_moved(room: Room) -> None:
    arrival, digest = room.put("a.png")
    room.put("a.png", b"another picture")
    assert room.mover.move(arrival, digest, "good") is None
    (room.folder / "a.png").unlink()
    assert room.mover.move(arrival, digest, "good") is None
    assert room.files() == {}


@posix
def test_one_that_is_replaced_at_the_last_moment_comes_back(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival, digest = room.put("a.png")
    rename = moving._rename

    def late(source: Path, target: Path) -> None:
        if source.parent == room.folder and source.read_bytes() == b"picture":
            room.put("a.png", b"another picture")
        rename(source, target)

    monkeypatch.setattr(moving, "_rename", late)
    assert room.mover.move(arrival, digest, "good") is None
    assert room.files() == {"in/a.png": b"another picture"}


@posix
def test_another_content_is_not_copied_as_what_was_judged(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival, _ = room.put("a.png")
    monkeypatch.setattr(moving, "_rename", _across(moving._rename))
    assert room.mover.move(arrival, "0" * 64, "good") is None
    assert room.files() == {"in/a.png": b"picture"}


@posix
def test_what_cannot_be_moved_is_said_and_stays(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(moving, "_rename", full)
    with pytest.raises(OutputError, match=r"a.png cannot be moved to .*a.png \(No space left on device\)"):
        room.mover.move(*room.put("a.png"), "good")
    assert room.files() == {"in/a.png": b"picture"}


@posix
def test_a_full_disk_leaves_no_half_copy(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "_rename", _across(moving._rename))

    def full(source: Any, target: Any, size: int) -> None:
        target.write(b"pic")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(moving.shutil, "copyfileobj", full)
    with pytest.raises(OutputError, match="No space left"):
        room.mover.move(*room.put("a.png"), "good")
    assert room.files() == {"in/a.png": b"picture"}


@posix
def test_long_names_and_bytes_find_a_place(room: Room) -> None:
    names = [f"{'n' * 251}.png", f"{'é' * 125}.png", os.fsdecode(b"\xff\n.png")]
    for name in names:
        assert room.mover.move(*room.put(name), "good") == room.target / "good" / name
        assert room.mover.move(*room.put(name, b"another"), "good") is not None
    assert len(room.files()) == 6


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no second file system")
def test_across_file_systems(room: Room) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if Path(folder).stat().st_dev == room.folder.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own")
        mover = Mover(room.folder, Path(folder))
        arrival, digest = room.put("x/a.png")
        os.utime(room.folder / arrival.name, ns=(1_000_000_000, 2_000_000_000))
        arrival = Arrival(arrival.name, Facts.of((room.folder / arrival.name).lstat()), 3.0)
        found = mover.move(arrival, digest, "good")
        assert found is not None
        assert found.read_bytes() == b"picture"
        assert found.stat().st_mtime == 2
        assert [path.name for path in found.parent.iterdir()] == ["a.png"]
    assert room.files() == {}


def test_the_watched_folder_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    with pytest.raises(UsageError, match="where judged photos would go"):
        Mover(tmp_path / "good", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="no folder for judged photos can be made"):
        Mover(tmp_path / "good", tmp_path / "file")
