"""Kill workers of a run again and again: every image gets one row.

    python tests/scale/kill_workers.py --images 2000 --kills 10 --workers 2

The run itself is not killed (`test_scale` does that); its workers are, at random moments, by SIGKILL.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image


def photos(folder: Path, count: int) -> Path:
    """Write small pictures, all different."""
    folder.mkdir()
    for number in range(count):
        stream = io.BytesIO()
        draw = np.random.default_rng(number)
        Image.fromarray(draw.integers(0, 256, (48, 48, 3), np.uint8)).save(stream, "PNG")
        (folder / f"{number:06d}.png").write_bytes(stream.getvalue())
    return folder


def workers_of(parent: int) -> list[int]:
    """Return the processes that a run started to judge with."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            facts = (entry / "stat").read_text() if entry.name.isdigit() else ""
            line = (entry / "cmdline").read_bytes() if facts else b""
        except OSError:
            continue  # it has ended
        if facts and int(facts.rpartition(")")[2].split()[1]) == parent and b"spawn_main" in line:
            found.append(int(entry.name))
    return found


def torture(work: Path, *, images: int, kills: int, workers: int, seed: int) -> dict[str, object]:
    """Run once over so many images, and kill so many workers; returns what was counted.

    Raises:
        AssertionError: an image has no row, several, or an error.
    """
    source, out = photos(work / "in", images), work / "out"
    command = ["detect", str(source), "-o", str(out), "--workers", str(workers)]
    draw, killed = random.Random(seed), 0
    begin = time.monotonic()
    command = [sys.executable, "-m", "zeroflaw", *command]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        parts = 0
        while run.poll() is None and killed < kills:
            there = len(list(out.glob("part-*.parquet")))
            if there > parts and (alive := workers_of(run.pid)):  # between two kills something gets done
                time.sleep(draw.uniform(0, 0.5))
                try:
                    os.kill(draw.choice(alive), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                parts, killed = there, killed + 1
            time.sleep(0.02)
        _, said = run.communicate()
        assert run.returncode == 0, said
    rows = [row for part in out.glob("part-*.parquet") for row in pq.read_table(part).to_pylist()]
    often = Counter(row["source"] for row in rows)
    assert len(often) == images, f"{images - len(often)} images have no row"
    assert set(often.values()) == {1}, f"several rows: {often.most_common(3)}"
    assert not [row for row in rows if row["error"] is not None]
    return {
        "images": images,
        "kills": killed,
        "rows": len(rows),
        "seconds": round(time.monotonic() - begin, 1),
    }


def main() -> None:
    """Torture once, and say what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, usual in {"images": 2000, "kills": 10, "workers": 2, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    with tempfile.TemporaryDirectory() as folder:
        print(torture(Path(folder), **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
