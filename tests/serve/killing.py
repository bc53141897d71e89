"""The real command, started, loaded and killed; all verdicts that it acknowledged must be kept, once each.

python tests/serve/killing.py --kills 20
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from serving import files, photo

from zeroflaw.serve.history import History
from zeroflaw.serve.records import Filter
from zeroflaw.serve.tables import pages

ROOT = Path(__file__).parents[2]
RWDA = ROOT / "src/zeroflaw/detectors/bundled/rwda"


class Command:
    """``zeroflaw serve`` as a process.

    Attributes:
        process: that.
        url: where it answers.
    """

    def __init__(self, *options: object, detector: Path = RWDA) -> None:
        said = [str(option) for option in options]
        program = [sys.executable, "-m", "zeroflaw", "serve", str(detector), "--port", "0", *said]
        where = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=where)
        assert self.process.stderr is not None
        self.said = [self.process.stderr.readline()]
        found = re.search(r"http://\S+:\d+", self.said[0])
        if found is None:
            self.process.kill()
            raise AssertionError(self.said[0] + self.process.stderr.read())
        self.url = found[0]
        self._reader = threading.Thread(target=self._read, daemon=True)  # a full pipe would stop it
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said += self.process.stderr

    def end(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@contextmanager
def running(*options: object, detector: Path = RWDA) -> Iterator[Command]:
    """Run the command until the block ends."""
    command = Command(*options, detector=detector)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            command.end(signal.SIGKILL)


def load(url: str, acknowledged: list[str], stop: threading.Event, mark: str) -> None:
    """Send pictures, two at a time, until the service is gone; take down the keys that it acknowledged."""
    with httpx.Client(base_url=url, timeout=60) as client:
        number = 0
        while not stop.is_set():
            number += 1
            pictures = files(photo(seed=number), photo(1, seed=number))
            key = f"{mark}/{number}"
            try:
                answer = client.post("/v1/detect", files=pictures, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                return
            if answer.status_code == 200:
                acknowledged += [row["key"] for row in answer.json()["results"]]
            else:
                assert answer.status_code in (429, 503), answer.text


def kill_often(folder: Path, kills: int, clients: int = 4) -> tuple[int, int]:
    """Kill a loaded service again and again; return how many verdicts were acknowledged and are kept."""
    acknowledged: list[str] = []
    for kill in range(kills):
        with running("--history", folder) as command:
            stop = threading.Event()
            threads = [
                threading.Thread(target=load, args=(command.url, acknowledged, stop, f"{kill}/{number}"))
                for number in range(clients)
            ]
            before = len(acknowledged)
            for thread in threads:
                thread.start()
            while len(acknowledged) == before:
                time.sleep(0.01)
            time.sleep(random.random())
            command.end(signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join()
    history = History.open(folder)
    kept = [row.key for rows in pages(history, Filter()) for row in rows]
    history.close()
    assert len(set(kept)) == len(kept), "a verdict is there twice"
    lost = set(acknowledged) - set(kept)
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged verdicts are lost"
    return len(acknowledged), len(kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    with tempfile.TemporaryDirectory() as place:
        many, rows = kill_often(Path(place), parser.parse_args().kills)
    print(f"{many} verdicts acknowledged, {rows} kept, none lost, none twice")
