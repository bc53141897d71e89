"""Which files of a watched folder are complete, and that nothing else is read."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import pytest

from zeroflaw.serve.arrivals import Arrival, Arrivals, ChangedError, Facts, FolderGoneError, read_whole

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other links and permissions")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Looking:
    """A folder that is looked at, with a clock of its own."""

    def __init__(self, folder: Path, *, recursive: bool = False, without: tuple[Path, ...] = ()) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.arrivals = Arrivals(
            folder,
            settle=2.0,
            patience=10.0,
            recursive=recursive,
            without=without,
            tell=self.said.append,
            clock=self.clock,
        )

    def after(self, seconds: float) -> list[str]:
        """Let time pass, and return the names of files that became complete."""
        return [arrival.name for arrival in self.arrivals_after(seconds)]

    def arrivals_after(self, seconds: float) -> list[Arrival]:
        self.clock.now += seconds
        return self.arrivals.look()


def write(path: Path, data: bytes = b"picture", changed: int | None = None) -> Path:
    """Write a file, with a time of change in nanoseconds if wanted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if changed is not None:
        os.utime(path, ns=(changed, changed))
    return path


def test_a_file_is_complete_when_it_has_not_changed_for_a_while(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    write(tmp_path / "a.png")
    assert looking.after(0) == []
    assert looking.after(1.9) == []
    [arrival] = looking.arrivals_after(0.2)
    assert (arrival.name, arrival.facts.size) == ("a.png", 7)
    assert arrival.age == pytest.approx(2.1)
    assert looking.after(100) == []


def test_a_file_that_grows_is_not_complete(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    path = tmp_path / "a.png"
    for _ in range(20):
        with path.open("ab") as stream:
            stream.write(b"more")
        assert looking.after(1.5) == []
    assert looking.after(1.9) == []
    assert looking.after(0.2) == ["a.png"]


def test_a_change_of_time_alone_counts(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    path = write(tmp_path / "a.bmp", changed=1_000)
    looking.after(0)
    for tick in range(2_000, 10_000, 1_000):  # written in place: the size is that of all frames
        write(path, changed=tick)
        assert looking.after(1.5) == []
    assert looking.after(2.1) == ["a.bmp"]


def test_an_empty_file_may_still_be_filled(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    write(tmp_path / "a.png", b"")
    assert looking.after(0) == []
    assert looking.after(9.9) == []
    assert looking.after(0.2) == ["a.png"]


def test_a_file_that_is_renamed_into_place_is_complete_at_once(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    path = write(tmp_path / ".a.png.part")
    assert looking.after(0) == []
    path.rename(tmp_path / "a.png")
    assert looking.after(0.1) == ["a.png"]


def test_a_file_that_is_written_on_after_it_was_renamed_is_not(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    path = write(tmp_path / "a.tmp")
    looking.after(0)
    path = path.rename(tmp_path / "a.png")
    with path.open("ab") as stream:
        stream.write(b"more")
    assert looking.after(0.1) == []
    assert looking.after(2.1) == ["a.png"]


@posix
def test_the_number_of_a_removed_file_proves_nothing(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    gone = write(tmp_path / "a.tmp", b"longer than the other")
    looking.after(0)
    gone.unlink()
    write(tmp_path / "b.png")  # may get the same number
    assert looking.after(0.1) == []


def test_a_replaced_file_comes_again(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    write(tmp_path / "a.png")
    looking.after(0)
    assert looking.after(3) == ["a.png"]
    write(tmp_path / "a.png", b"another picture")
    assert looking.after(1) == []
    assert looking.after(3) == ["a.png"]


@posix
def test_a_file_of_the_same_size_and_time_is_another_one_by_its_number(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    write(tmp_path / "a.bmp", b"one", changed=5_000)
    looking.after(0)
    assert looking.after(3) == ["a.bmp"]
    write(tmp_path / ".new", b"two", changed=5_000).replace(tmp_path / "a.bmp")
    looking.after(1)
    assert looking.after(3) == ["a.bmp"]


def test_only_pictures_are_taken(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    for name in ("a.png", "b.JPG", "c.txt", ".hidden.png", "d", "e.png.part"):
        write(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    looking.after(0)
    assert sorted(looking.after(3)) == ["a.png", "b.JPG"]
    assert len(looking.arrivals) == 2


def test_folders_below_are_for_those_who_ask(tmp_path: Path) -> None:
    plain, deep = Looking(tmp_path), Looking(tmp_path, recursive=True, without=(tmp_path / "done",))
    for name in ("a.png", "x/b.png", "x/y/c.png", "done/good/d.png", ".trash/e.png"):
        write(tmp_path / name)
    for looking in (plain, deep):
        looking.after(0)
    assert plain.after(3) == ["a.png"]
    assert sorted(deep.after(3)) == ["a.png", "x/b.png", "x/y/c.png"]


def test_the_oldest_come_first(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    for number in (3, 1, 2):
        write(tmp_path / f"{9 - number}.png", changed=number * 10**9)
    looking.after(0)
    assert looking.after(3) == ["8.png", "7.png", "6.png"]


@posix
def test_links_pipes_and_devices_are_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside / "secret.png")
    folder = tmp_path / "in"
    write(folder / "a.png")
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "inside.png").symlink_to("a.png")
    (folder / "down").symlink_to(outside)
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.png")
    looking = Looking(folder, recursive=True)
    looking.after(0)
    looking.after(1)
    assert looking.after(3) == ["a.png"]
    assert sorted(looking.said) == [
        f"{name}: left out, links are not followed" for name in ("down", "inside.png", "link.png", "loop")
    ]


def test_results_of_detect_are_no_photos(tmp_path: Path) -> None:
    write(tmp_path / "run/predictions.jsonl", b'{"schema": 1}\n')
    write(tmp_path / "run/maps/a.png")
    write(tmp_path / "run/contact-sheet-1.png")
    write(tmp_path / "run/own.png")
    looking = Looking(tmp_path, recursive=True)
    looking.after(0)
    assert looking.after(3) == ["run/own.png"]
    assert len(looking.said) == 1


def test_files_that_go_are_forgotten(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    path = write(tmp_path / "a.png")
    looking.after(0)
    looking.after(3)
    path.unlink()
    looking.after(1)
    assert looking.arrivals.dropped() == ["a.png"]
    assert looking.arrivals.dropped() == []
    assert len(looking.arrivals) == 0


def test_a_folder_that_is_away_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "a.png")
    looking = Looking(folder)
    looking.after(0)
    assert looking.after(3) == ["a.png"]
    folder.rename(tmp_path / "away")
    with pytest.raises(FolderGoneError, match="cannot be listed"):
        looking.after(1)
    (tmp_path / "away").rename(folder)
    assert looking.after(3) == []
    assert looking.arrivals.dropped() == []


def test_a_share_that_is_not_mounted_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = [True]
    monkeypatch.setattr(Path, "is_mount", lambda path: mounted[0])
    write(tmp_path / "a.png")
    looking = Looking(tmp_path)
    looking.after(0)
    mounted[0] = False
    with pytest.raises(FolderGoneError, match="not mounted"):
        looking.after(3)
    mounted[0] = True
    assert looking.after(0) == ["a.png"]


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_said_once(tmp_path: Path) -> None:
    below = write(tmp_path / "below/a.png").parent
    looking = Looking(tmp_path, recursive=True)
    looking.after(0)
    below.chmod(0)
    try:
        assert looking.after(3) == []
        looking.after(1)
        assert looking.arrivals.dropped() == []
    finally:
        below.chmod(0o700)
    assert len(looking.said) == 1
    assert looking.after(1) == ["below/a.png"]


@posix
def test_names_of_any_bytes_are_taken(tmp_path: Path) -> None:
    names = [b"a\nb.png", b"\xff\xfe.png", b"\x1b[31m.png", "\u202egnp.png".encode()]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    looking = Looking(tmp_path)
    looking.after(0)
    assert sorted(map(os.fsencode, looking.after(3))) == sorted(names)


def test_a_file_that_is_tried_again_is_never_taken_before_it_settles(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    path = write(tmp_path / "a.png")
    looking.after(0)
    looking.after(3)
    looking.arrivals.again("a.png", 1.0)
    assert looking.arrivals.unsettled == 1
    write(path, b"half of another")
    assert looking.after(1.5) == []
    looking.arrivals.again("a.png", 0.1)
    assert looking.after(1.5) == []
    assert looking.after(0.6) == ["a.png"]
    assert looking.arrivals.unsettled == 0


def arrival(folder: Path, name: str) -> Arrival:
    return Arrival(name, Facts.of((folder / name).lstat()), 3.0)


def test_a_file_is_read_with_its_digest(tmp_path: Path) -> None:
    write(tmp_path / "x/a.png", b"picture")
    content = read_whole(tmp_path, arrival(tmp_path, "x/a.png"), 100)
    assert content.data == b"picture"
    assert content.digest == hashlib.sha256(b"picture").hexdigest()
    assert read_whole(tmp_path, arrival(tmp_path, "x/a.png"), 6).data is None


def test_a_file_that_changed_since_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    before = arrival(tmp_path, "a.png")
    write(path, b"picturf", changed=7_000)
    with pytest.raises(ChangedError):
        read_whole(tmp_path, before, 100)
    path.unlink()
    with pytest.raises(ChangedError):
        read_whole(tmp_path, before, 100)


@posix
def test_a_link_that_took_the_place_of_a_file_or_folder_is_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    write(folder / "x/a.png")
    write(outside / "a.png", b"another")
    before = arrival(folder, "x/a.png")
    (folder / "x/a.png").unlink()
    (folder / "x/a.png").symlink_to(outside / "a.png")
    with pytest.raises(OSError, match="symbolic links"):
        read_whole(folder, before, 100)
    (folder / "x/a.png").unlink()
    (folder / "x").rmdir()
    (folder / "x").symlink_to(outside)
    forged = Arrival("x/a.png", Facts.of((outside / "a.png").stat()), 3.0)
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        read_whole(folder, forged, 100)


@posix
def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    before = arrival(tmp_path, "a.png")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ChangedError):
        read_whole(tmp_path, before, 100)


def test_many_known_files_cost_little(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    for number in range(2500):
        (tmp_path / f"{number:05d}.png").touch()
    looking.after(0)
    assert len(looking.after(11)) == 2500
    begin = time.perf_counter()
    for _ in range(5):
        assert looking.after(1) == []
    assert (time.perf_counter() - begin) / 5 < 0.5  # measured: 0.01 to 0.02


def test_each_of_many_files_is_looked_at_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeroflaw.serve.arrivals.IN_TURN", 5)
    paths = [write(tmp_path / f"{number}.png") for number in range(23)]
    looking = Looking(tmp_path)
    looking.after(0)
    assert len(looking.after(3)) == 23
    for path in paths:
        write(path, b"another picture")
    found = [name for _ in range(12) for name in looking.after(1)]
    assert sorted(found) == sorted(path.name for path in paths)
