"""Kill a real watch again and again while a camera writes: each file gets one verdict, and each is told.

    python tests/serve/kill_watch.py --files 10000 --kills 5

Some files are renamed into place, some written in two halves with a pause; a third of them is there before
the first start. Verdicts go to a webhook, which must get each of them at least once. The judge takes no time
(`quick_watch`), unless a saved detector is given.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image
from receivers import Receiver


def photo(number: int) -> bytes:
    """Return a small picture, as PNG, that no other number gives."""
    pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def camera(folder: Path, first: int, last: int, pause: float, draw: random.Random) -> None:
    """Write files into a folder, each in one of three ways."""
    for number in range(first, last):
        path, data = folder / f"part-{number:06d}.png", photo(number)
        way = draw.randrange(3)
        if way == 0:
            path.write_bytes(data)
        elif way == 1:
            temporary = folder / f"part-{number:06d}.png.part"
            temporary.write_bytes(data)
            temporary.rename(path)
        else:
            with path.open("wb", buffering=0) as stream:
                stream.write(data[: len(data) // 2])
                time.sleep(min(0.2, 10 * pause))
                stream.write(data[len(data) // 2 :])
        time.sleep(pause)


def rows(database: Path) -> list[tuple[str, str, str | None]]:
    """Return name, digest and error of what is in the history."""
    file = database / "history.sqlite"
    if not file.exists():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            return connection.execute("SELECT name, digest, error FROM verdicts").fetchall()
        except sqlite3.OperationalError:  # the tables are not made yet
            return []


class Torture:
    """A folder, a watch of it, and what is told of its verdicts."""

    def __init__(
        self, work: Path, detector: Path | None, receiver: Receiver, *, move: bool, seed: int
    ) -> None:
        self.folder, self.database, self.moved = work / "in", work / "history", work / "out"
        self.folder.mkdir()
        self.lines: list[str] = []
        self._draw = random.Random(seed)
        program = [str(Path(__file__).with_name("quick_watch.py"))]
        program = program if detector is None else ["-m", "zeroflaw", "watch"]
        self._command = [sys.executable, *program, str(self.folder), "--detector", str(detector or "rwda")]
        self._command += ["--history", str(self.database), "--webhook", receiver.url]
        self._command += ["--settle", "0.5", "--interval", "0.1", "--no-maps", "--batch-size", "16"]
        self._command += ["--move-to", str(self.moved)] if move else []
        self._output = work / "stdout"

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """Start a watch."""
        with self._output.open("ab") as output:
            return subprocess.Popen([*self._command, *more], stdout=output, stderr=subprocess.PIPE)

    def kill_after(self, verdicts: int, files: int, seconds: float = 300.0) -> int:
        """Start a watch, and kill it at a random moment after so many new verdicts; returns how many.

        A fast one may have judged all files before the last kill, which then hits while it waits for more.
        """
        before = len(rows(self.database))
        wanted = min(before + verdicts, files)
        process = self.start()
        end = time.monotonic() + seconds
        while len(rows(self.database)) < wanted:
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                raise AssertionError(f"the watch did not get on: {process.communicate()[1].decode()}")
            time.sleep(0.02)
        time.sleep(self._draw.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return len(rows(self.database)) - before

    def finish(self, seconds: float = 1800.0) -> None:
        """Judge what is left."""
        process = self.start("--once")
        _, said = process.communicate(timeout=seconds)
        assert process.returncode == 0, said.decode()

    def told(self) -> Counter[str]:
        """Return how often each source was written to stdout; a line may be cut by a kill."""
        found: Counter[str] = Counter()
        for line in self._output.read_bytes().split(b"\n"):
            try:
                found[json.loads(line)["source"]] += 1
            except ValueError:
                continue
        return found


def torture(
    work: Path,
    detector: Path | None = None,
    *,
    files: int,
    kills: int,
    move: bool,
    pause: float,
    seed: int = 0,
) -> dict[str, object]:
    """Watch ``files`` files over ``kills`` kills; returns what was counted.

    Raises:
        AssertionError: a file got no verdict or several, or a verdict was not told.
    """
    with Receiver().listening() as receiver:
        run = Torture(work, detector, receiver, move=move, seed=seed)
        early = files // 3
        camera(run.folder, 0, early, 0.0, random.Random(seed))
        writer = threading.Thread(
            target=camera, args=(run.folder, early, files, pause, random.Random(seed + 1))
        )
        writer.start()
        begin = time.monotonic()
        killed = [run.kill_after(max(1, files // (kills + 3)), files) for _ in range(kills)]
        writer.join()
        run.finish()
        seconds = time.monotonic() - begin
        found = rows(run.database)
        events = Counter(post.row["event"] for post in receiver.acknowledged)
    names = Counter(name for name, _, _ in found)
    wanted = {f"part-{number:06d}.png" for number in range(files)}
    assert set(names) == wanted, f"{len(wanted - set(names))} files have no verdict"
    assert len(found) == files, f"several verdicts: {names.most_common(3)}"
    assert len({digest for _, digest, _ in found}) == files
    assert not [name for name, _, error in found if error is not None]
    assert max(run.told().values()) == 1
    assert len(events) == files, f"{files - len(events)} verdicts were not told"
    left = [path.name for path in run.folder.iterdir() if not path.name.startswith(".")]
    if move:
        assert left == [], f"{len(left)} files were not moved"
        moved = [path.name for path in run.moved.rglob("*") if path.is_file()]
        assert sorted(moved) == sorted(wanted)
    else:
        assert sorted(left) == sorted(wanted)
    lines, posts = sum(run.told().values()), sum(events.values())
    return {
        "files": files,
        "killed after": killed,
        "rows": len(found),
        "lines": lines,
        "posts": posts,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Torture once, and say what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--move", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(torture(Path(folder), pause=0.002, **vars(options)))


if __name__ == "__main__":
    main()
