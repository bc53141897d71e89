"""A watched folder: one verdict per file, kept before it is told, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kill_watch import photo, torture
from PIL import Image
from quick_watch import Judge
from receivers import Receiver, wait_until
from serving import prediction

from command import lines, picture, refused, run
from zeroflaw.cli.watching import LOCK
from zeroflaw.errors import HistoryError
from zeroflaw.files import locked
from zeroflaw.runtime.calibration import Calibration, PhotoFacts
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.serve import moving, watch
from zeroflaw.serve.arrivals import Arrivals
from zeroflaw.serve.changes import EVERY, Changes
from zeroflaw.serve.history import History
from zeroflaw.serve.moving import Mover
from zeroflaw.serve.pictures import PictureStore
from zeroflaw.serve.records import Filter, Row
from zeroflaw.serve.watch import Plan, Result, Tally, Watcher
from zeroflaw.serve.watched import Watched

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals and names")


class Line:
    """A folder, a history, and watches of the one that are kept in the other."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "in"
        self.folder.mkdir()
        self.judge = Judge()
        self.results: list[Result] = []
        self.said: list[str] = []
        self.woken = 0

    def watcher(self, history: History, **more: Any) -> Watcher:
        settings = {"interval": 0.02, "patience": 0.3, "largest": 10_000, "deadline": 3.0, "once": True}
        move = more.pop("move", False)
        store = PictureStore(self.root / "pictures") if more.pop("copies", False) else None
        parts = {name: more.pop(name) for name in ("report", "judge") if name in more}
        plan = Plan(
            folder=self.folder, place="line", detector="bottle", fingerprint="f" * 64, **settings | more
        )
        arrivals = Arrivals(
            self.folder, settle=0.1, patience=0.3, recursive=True, without=(), tell=self.said.append
        )
        return Watcher(
            parts.get("judge", self.judge),
            history,
            plan,
            arrivals=arrivals,
            watched=Watched(history.database, plan.place),
            mover=Mover(self.folder, self.root / "out") if move else None,
            store=store,
            report=parts.get("report", self.results.append),
            tell=self.said.append,
            wake=self._woken,
        )

    def _woken(self) -> None:
        self.woken += 1

    def once(self, **more: Any) -> Tally:
        """Judge what is there."""
        history = self.open()
        try:
            return self.watcher(history, **more).run(lambda: False)
        finally:
            history.close()

    def open(self) -> History:
        return History.open(self.root / "history")

    def rows(self) -> list[Row]:
        history = self.open()
        try:
            return history.find(Filter(order="oldest", limit=1000)).rows
        finally:
            history.close()

    def put(self, name: str, grey: int = 200) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((24, 32, 3), grey, np.uint8)
        Image.fromarray(pixels).save(path)
        return path


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_each_file_gets_one_verdict(line: Line) -> None:
    line.put("a.png", 10)
    line.put("x/b.png", 250)
    tally = line.once()
    assert (tally.judged, tally.anomalous, tally.known) == (2, 1, 0)
    rows = {row.name: row for row in line.rows()}
    assert rows["a.png"].anomalous is True
    assert rows["x/b.png"].anomalous is False
    assert (rows["a.png"].source, rows["a.png"].detector) == ("watch", "bottle")
    assert line.woken == 1
    records = {result.record["source"]: result.record for result in line.results}
    record = records[str(line.folder / "a.png")]
    assert (record["label"], record["size"], record["id"]) == (True, [24, 32], rows["a.png"].id)
    assert record["regions"] is not None


def test_what_is_known_is_not_judged_again_nor_read(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.put("a.png")
    line.once()
    monkeypatch.setattr("zeroflaw.serve.watch.read_whole", lambda *rest: pytest.fail("it was read again"))
    tally = line.once()
    assert (tally.judged, tally.known) == (0, 1)
    assert len(line.rows()) == 1


def test_a_touched_file_is_read_but_not_judged_again(line: Line) -> None:
    path = line.put("a.png")
    line.once()
    os.utime(path, ns=(1, 1))
    assert line.once().known == 1
    assert len(line.judge.shown) == 1


def test_another_content_or_name_is_another_file(line: Line) -> None:
    path = line.put("a.png", 10)
    line.once()
    line.put("a.png", 20)
    path.with_name("b.png").write_bytes(path.read_bytes())
    line.once()
    assert sorted((row.name, row.digest) for row in line.rows()) == sorted(
        {(row.name, row.digest) for row in line.rows()}
    )
    assert len(line.rows()) == 3


def test_files_that_went_are_forgotten_but_not_their_verdicts(line: Line) -> None:
    path = line.put("a.png")
    other = line.put("b.png")
    line.once()
    data = path.read_bytes()
    path.unlink()
    other.touch()
    line.once()
    history = line.open()
    assert len(Watched(history.database, "line")) == 1
    history.close()
    path.write_bytes(data)
    assert line.once().judged == 0
    assert len(line.rows()) == 2


def test_files_stay_known_when_their_rows_are_too_old(line: Line) -> None:
    line.put("a.png")
    line.once()
    history = History.open(line.root / "history", keep_days=1e-9)
    time.sleep(0.01)
    assert history.prune().rows == 1
    history.close()
    assert line.once().known == 1
    assert line.rows() == []


def test_what_never_becomes_a_picture_gets_one_error(line: Line) -> None:
    (line.folder / "a.png").write_bytes(b"no picture")
    (line.folder / "empty.png").touch()
    (line.folder / "large.png").write_bytes(bytes(20_000))
    begin = time.monotonic()
    tally = line.once()
    assert time.monotonic() - begin > 0.3
    assert (tally.judged, tally.unreadable) == (0, 3)
    line.once()
    rows = {row.name: row.error or "" for row in line.rows()}
    assert len(line.rows()) == 3
    assert "at most 10,000 are read" in rows["large.png"]
    assert rows["a.png"]
    assert {result.record["error"] for result in line.results} == set(rows.values())


def test_a_half_written_picture_that_pauses_is_waited_for(line: Line) -> None:
    data = photo(1)
    path = line.folder / "a.png"
    path.write_bytes(data[: len(data) // 2])

    def finish() -> None:
        time.sleep(0.2)  # longer than it takes to settle, shorter than our patience
        with path.open("ab") as stream:
            stream.write(data[len(data) // 2 :])

    writer = threading.Thread(target=finish)
    writer.start()
    line.once(patience=1.0)
    writer.join()
    assert [row.error for row in line.rows()] == [None]


def test_slowly_written_files_are_never_judged_half(line: Line) -> None:
    whole = [photo(number) for number in range(6)]

    def write(number: int) -> None:
        with (line.folder / f"{number}.png").open("wb", buffering=0) as stream:
            for start in range(0, len(whole[number]), 200):
                stream.write(whole[number][start : start + 200])
                time.sleep(0.02)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for writer in writers:
        writer.start()
    line.once(patience=2.0, deadline=20.0)
    for writer in writers:
        writer.join()
    line.once(patience=2.0)
    assert sorted(row.name for row in line.rows() if row.error is None) == [f"{n}.png" for n in range(6)]
    assert len(line.rows()) == 6


def test_judged_files_are_moved(line: Line) -> None:
    line.put("a.png", 10)
    line.put("x/b.png", 250)
    (line.folder / "c.png").write_bytes(b"no picture")
    line.once(move=True)
    moved = sorted(p.relative_to(line.root / "out").as_posix() for p in (line.root / "out").rglob("*.png"))
    assert moved == ["flawed/a.png", "good/x/b.png", "unjudged/c.png"]
    assert {result.record["moved_to"] for result in line.results} == {
        str(line.root / "out" / name) for name in moved
    }


def test_a_move_that_a_kill_prevented_is_made_at_the_next_start(line: Line) -> None:
    line.put("a.png", 10)
    line.put("b.png", 250)
    line.once()  # judged, and killed before the moves
    tally = line.once(move=True)
    assert (tally.judged, tally.known) == (0, 2)
    assert sorted(p.name for p in (line.root / "out/flawed").iterdir()) == ["a.png"]
    assert sorted(p.name for p in (line.root / "out/good").iterdir()) == ["b.png"]
    assert len(line.judge.shown) == 2


def test_a_move_that_cannot_be_made_holds_up_nothing(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.put("a.png")
    line.put("b.png")
    rename = moving._rename

    def refuse(source: Path, target: Path) -> None:
        if source.name == "a.png":
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(moving, "_rename", refuse)
    tally = line.once(move=True)
    assert tally.unmoved == {"a.png"}
    assert len(line.rows()) == 2
    assert [text for text in line.said if "cannot be moved" in text] != []
    monkeypatch.undo()
    assert line.once(move=True).unmoved == set()
    assert len(line.rows()) == 2
    assert [path.name for path in line.folder.rglob("*.png")] == []


def test_copies_are_kept_for_the_page(line: Line) -> None:
    path = line.put("a.png")
    (line.folder / "b.png").write_bytes(b"no picture")
    line.once(copies=True)
    rows = {row.name: row for row in line.rows()}
    assert rows["a.png"].has_picture
    assert rows["a.png"].has_map
    assert not rows["b.png"].has_picture
    assert PictureStore(line.root / "pictures").get(rows["a.png"].digest) == path.read_bytes()


def test_a_file_that_may_not_be_read_is_tried_again(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.put("a.png")
    line.put("b.png")
    read = watch.read_whole

    def deny(folder: Path, arrival: Any, largest: int) -> Any:
        if arrival.name == "a.png":
            raise PermissionError(13, "Permission denied")
        return read(folder, arrival, largest)

    monkeypatch.setattr(watch, "read_whole", deny)
    tally = line.once()
    assert (tally.judged, tally.denied) == (1, {"a.png"})
    assert [text for text in line.said if "a.png: cannot be read (Permission denied)" in text] != []
    monkeypatch.undo()
    assert line.once().judged == 1


@posix
def test_names_of_any_bytes_are_judged(line: Line) -> None:
    data = photo(1)
    for name in (b"a\nb.png", b"\xff.png", b"\x1b[31m.png", b"n" * 251 + b".png"):
        Path(os.fsdecode(os.fsencode(line.folder) + b"/" + name)).write_bytes(data)
    line.once()
    assert line.once().known == 4
    assert all(row.name.isprintable() for row in line.rows())
    assert len(line.rows()) == 4


def test_a_full_disk_is_waited_for(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.put("a.png")
    history = line.open()
    add, faults = history.add, [1, 2]

    def full(*found: Any, **more: Any) -> list[Row]:
        if faults:
            faults.pop()
            raise HistoryError("the history cannot be written: the disk is full")
        return add(*found, **more)

    monkeypatch.setattr(history, "add", full)
    with pytest.raises(HistoryError):
        line.watcher(history).run(lambda: False)
    monkeypatch.setattr("zeroflaw.serve.watch.pause", lambda seconds, stopped: time.sleep(0.01))
    line.watcher(history, once=False).run(lambda: bool(line.results))
    assert [result.record["label"] for result in line.results] == [False]
    assert len([text for text in line.said if "the disk is full; judging waits" in text]) == 1
    history.close()
    assert len(line.judge.shown) == 2
    assert len(line.rows()) == 1


def test_a_folder_that_goes_and_comes_back_is_watched_on(line: Line) -> None:
    line.put("a.png")
    away = line.root / "away"
    history = line.open()
    watcher = line.watcher(history, once=False)
    stop = threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stop.is_set,))
    thread.start()
    try:
        wait_until(lambda: len(line.results) == 1)
        line.folder.rename(away)
        wait_until(lambda: line.said)
        away.rename(line.folder)
        line.put("b.png")
        wait_until(lambda: len(line.results) == 2)
    finally:
        stop.set()
        thread.join()
        history.close()
    assert [text.split(" (")[0] for text in line.said] == [
        f"{line.folder} cannot be listed",
        f"{line.folder} is back",
    ]
    assert len(line.rows()) == 2


def test_a_fault_while_a_line_is_told_loses_no_verdict(line: Line) -> None:
    line.put("a.png")

    def broken(result: Result) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        line.once(report=broken)
    assert line.once().known == 1
    assert len(line.rows()) == 1


def seen(brightness: float, p_value: float, size: tuple[int, int] = (40, 60)) -> Prediction:
    photo = {"brightness": brightness, "contrast": 0.2, "sharpness": 0.0, "noise": -3.0}
    return prediction(size=size, photo=photo).with_threshold(0.0, "a test", p_value=p_value)


def test_a_change_of_light_is_said_when_it_begins_and_ends() -> None:
    usual = (0.5, 0.01)
    facts = PhotoFacts(
        sizes=((40, 60),), brightness=usual, contrast=(0.2, 0.01), sharpness=(0.0, 0.05), noise=(-3.0, 0.05)
    )
    good = tuple(np.linspace(-3, -1, 20).tolist())
    changes = Changes(Calibration(detector="0" * 64, rule="given", threshold=0.0, good=good, photos=facts))

    def said(count: int, *photo: float) -> list[str | None]:
        found = []
        for _ in range(count):
            changes.add(seen(*photo))
            found.append(changes.said())
        return [text for text in found if text is not None]

    assert said(4 * EVERY, 0.5, 0.6) == []
    [first, *others] = said(10 * EVERY, 0.7, 0.04)
    assert "brighter" in " ".join([first, *others])
    assert "light, lens, camera or product have changed (brighter)" in [first, *others][-1]
    assert len(others) <= 2
    assert said(10 * EVERY, 0.5, 0.6)[-1] == "the photos are like the good ones again"


# The command


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector made from a few good photos."""
    root = tmp_path_factory.mktemp("detector")
    for number in range(6):
        (root / f"{number}.png").write_bytes(photo(1_000_000 + number))
    assert run("fit", *sorted(root.glob("*.png")), "-o", root / "made", "-q") == 0
    return root / "made"


@pytest.fixture
def call(tmp_path: Path, detector: Path) -> Callable[..., int]:
    """Run ``zeroflaw watch`` on a folder ``in``."""
    (tmp_path / "in").mkdir()

    def called(*more: object) -> int:
        return run(
            *("watch", tmp_path / "in", "--detector", detector, "--history", tmp_path / "history"),
            *("--settle", "0.1", "--interval", "0.05", "--no-maps", *more),
        )

    return called


def test_the_command_judges_once(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "in/a.png", 1)
    (tmp_path / "in/b.png").write_bytes(photo(1_000_001))
    assert call("--once") == 0
    found = {Path(row["source"]).name: row for row in lines(capsys.readouterr().out)}
    assert found.keys() == {"a.png", "b.png"}
    assert {"schema", "zeroflaw", "score", "logit", "label", "threshold", "id", "time"} <= found[
        "a.png"
    ].keys()
    assert call("--once") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "0 images in" in err
    assert "2 judged before" in err
    assert not (tmp_path / "in" / LOCK).exists()


def test_the_command_says_with_its_exit_code_what_it_found(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = np.zeros((24, 24, 3), np.uint8)
    Image.fromarray(dark).save(tmp_path / "in/dark.png")
    assert call("--once", "--fail-on-anomaly", "--move-to", tmp_path / "out") == 1
    [row] = lines(capsys.readouterr().out)
    assert row["moved_to"] == str(tmp_path / "out/flawed/dark.png")
    assert (tmp_path / "out/flawed/dark.png").is_file()
    assert call("--once", "--fail-on-anomaly") == 0


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_order(detector: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(photo(1))
    command = [sys.executable, "-m", "zeroflaw", "watch", str(tmp_path / "in"), "--detector", str(detector)]
    command += ["--history", str(tmp_path / "history"), "--settle", "0.1", "--no-maps"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert b'"schema"' in process.stdout.readline()  # flushed as it comes
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err.decode()
    assert out == b""
    assert err.decode().splitlines()[-1] == f"zeroflaw: {'terminated' if code == 143 else 'interrupted'}"
    assert not (tmp_path / "in" / LOCK).exists()


@posix
def test_two_watches_of_a_folder_refuse_each_other(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path / "in" / LOCK, "busy"):
        assert call("--once") == 2
    assert "is watched already" in capsys.readouterr().err
    assert call("--once") == 0


@posix
def test_a_folder_that_is_read_only_is_locked_elsewhere(
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).endswith(LOCK):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "in/a.png").write_bytes(photo(1))
    assert call("--once") == 0
    [row] = lines(capsys.readouterr().out)
    assert row["id"] == 1


def test_the_command_sends_what_it_judges(call: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "in/a.png").write_bytes(photo(1))
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    with Receiver().listening() as receiver:
        assert call("--once", "-q", "--webhook", receiver.url, "--webhook-secret-file", secret) == 0
    [post] = receiver.posts
    assert post.row["name"] == "a.png"
    assert "webhook-signature" in post.headers


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (("--fail-on-anomaly",), 2, "use it with --once"),
        (("--webhook", "ftp://x"), 2, "--webhook must be http"),
        (("--webhook-secret-file", "x"), 2, "give both"),
        (("--mqtt-password-file", "x"), 2, "give both"),
        (("--mqtt", "mqtt://a"), 2, "with a topic"),
        (("--webhook", "https://x", "--ca-file", "none.pem"), 3, "holds no certificates"),
        (("--once", "--database", "mysql://x/y"), 2, "must be sqlite"),
        (("--settle", "0"), 2, "settle"),
    ],
)
def test_options_are_checked(
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    assert call(*more) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_a_folder_and_a_detector_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, 3, "there is no folder", "watch", tmp_path / "none", "--detector", "rwda")
    refused(capsys, 2, "judges a photo by those", "watch", tmp_path, "--detector", "mutual", "-q")


@posix
@pytest.mark.parametrize("move", [False, True])
def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, move: bool) -> None:
    found = torture(tmp_path, files=300, kills=5 if move else 2, move=move, pause=0.002)
    assert found["rows"] == 300
