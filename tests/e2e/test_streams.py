"""Paths on standard input: all at once, or each answered as it comes."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command import lines, picture, refused, run
from zeroflaw.cli.streams import LONGEST, split_paths
from zeroflaw.errors import InputError

Feed = Callable[[bytes], None]


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    """Puts bytes on standard input."""
    return lambda sent: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sent)))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of photos in the current folder: with a blank, with brackets, with a line break."""
    names = ["a b.png", "c[1].png", "d\ne.png"]
    for number, name in enumerate(names):
        picture(tmp_path / name, number)
    monkeypatch.chdir(tmp_path)
    return names


@pytest.fixture
def piped(photos: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own, which follows what it is sent."""
    command = [sys.executable, "-m", "zeroflaw", "detect", "-", "--follow"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        yield process
        process.kill()


def sources(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [row["source"] for row in lines(capsys.readouterr().out)]


def test_a_line_is_a_path_as_it_is(photos: list[str], feed: Feed, capsys: pytest.CaptureFixture[str]) -> None:
    feed(b"a b.png\r\n\nc[1].png\na b.png")
    assert run("detect", "-", "-q") == 0
    assert sources(capsys) == photos[:2]


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_a_nul_ends_a_path(
    photos: list[str], feed: Feed, capsys: pytest.CaptureFixture[str], follow: tuple[str, ...]
) -> None:
    feed("\0".join(photos).encode())
    assert run("detect", "-", "-0", "-q", *follow) == 0
    assert sources(capsys) == [*photos[:2], r"d\ne.png"]  # shown with an escape


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_what_cannot_be_read_has_a_row_and_the_others_go_on(
    photos: list[str], feed: Feed, capsys: pytest.CaptureFixture[str], follow: tuple[str, ...]
) -> None:
    feed(b"lost.png\na b.png\n.\n")
    assert run("detect", "-", "--threshold", "0", "--fail-on-anomaly", *follow) == 3
    out, err = capsys.readouterr()
    lost, judged, folder = lines(out)
    assert (lost["source"], judged["source"], folder["source"]) == ("lost.png", "a b.png", ".")
    assert "there is no such file" in lost["error"]
    assert "it is a folder" in folder["error"]
    assert judged["label"] is True
    assert "lost.png: there is no such file" in err
    assert "1 image in" in err
    assert "2 could not be read" in err


def test_good_photos_among_those_that_are_named_are_left_out(
    photos: list[str], feed: Feed, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(b"c[1].png\na b.png\nlost.png")
    assert run("detect", "-", "--good", "a b.png", "--set", "sizes=240") == 3
    out, err = capsys.readouterr()
    assert [row["source"] for row in lines(out)] == ["c[1].png", "lost.png"]
    assert "1 photo left out" in err


def test_each_answer_comes_before_the_next_question(piped: subprocess.Popen[bytes]) -> None:
    assert piped.stdin is not None
    assert piped.stdout is not None
    for name in ("a b.png", "lost.png", "c[1].png"):
        piped.stdin.write(name.encode() + b"\n")
        piped.stdin.flush()
        ready, _, _ = select.select([piped.stdout], [], [], 60)
        assert ready, "no answer came"
        (row,) = lines(os.read(piped.stdout.fileno(), 1 << 16).decode())
        assert row["source"] == name
    _, err = piped.communicate(timeout=60)
    assert piped.returncode == 3
    assert b"2 images in" in err


def test_a_reader_that_leaves_ends_it_quietly(piped: subprocess.Popen[bytes]) -> None:
    assert piped.stdin is not None
    assert piped.stdout is not None
    piped.stdin.write(b"a b.png\n")
    piped.stdin.flush()
    assert piped.stdout.readline()
    piped.stdout.close()
    piped.stdin.write(b"a b.png\na b.png\n")
    piped.stdin.close()
    assert piped.wait(60) == 0
    assert piped.stderr is not None
    assert b"Traceback" not in piped.stderr.read()


def test_no_input(feed: Feed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    feed(b"\n\r\n")
    refused(capsys, 3, "named no photo", "detect", "-")
    monkeypatch.setattr("sys.stdin", None)
    refused(capsys, 3, "named no photo", "detect", "-")
    feed(b"")
    assert run("detect", "-", "--follow") == 0
    assert "0 images" in capsys.readouterr().err


def test_a_terminal_is_no_list(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(io.BytesIO(b"a.png\n")))
    refused(capsys, 2, "which is a terminal here; pipe them", "detect", "-")


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("--null is about paths on standard input", ("a b.png", "-0")),
        ("--follow is about paths on standard input", ("a b.png", "--follow")),
        ("stands alone", ("-", "a b.png")),
        ("drop -o", ("-", "--follow", "-o", "out")),
        ("drop --follow", ("-", "--follow", "--together")),
    ],
)
def test_what_does_not_go_together(
    photos: list[str], feed: Feed, capsys: pytest.CaptureFixture[str], says: str, arguments: tuple[str, ...]
) -> None:
    feed(b"a b.png\n")
    refused(capsys, 2, says, "detect", *arguments)


def test_a_path_without_an_end_is_refused() -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    for end in (b"\n", b"\0"):
        with pytest.raises(InputError, match=f"more than {LONGEST:,} bytes"):
            list(split_paths(io.BufferedReader(Endless()), end))
