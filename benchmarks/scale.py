"""Memory and seconds an image of ``zeroflaw detect SOURCE -o OUT --workers N`` as images get more.

    python benchmarks/scale.py --images 1000 10000 100000     # ten minutes on two free cores

Pictures are 64 x 64 PNGs in one folder, 500 different ones; all others are these with a comment of their
own, so that each file has content and a key of its own. The detector is a memory of a few of them that looks
at 64 x 64 pixels and has no words, the quickest there is: what is not judging weighs most. Peaks are those of
the kernel (``VmHWM``), of the process that drives and of the largest worker. Milliseconds an image are of the
clock and of the processors, all processes together, less what a run over 64 images takes. A row is printed
when its run has ended, and the slope at the end.

Linux only.
"""

from __future__ import annotations

import argparse
import io
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, DIFFERENT, FEW = 64, 500, 64
ZEROFLAW = (sys.executable, "-m", "zeroflaw")


def pictures(folder: Path, count: int) -> None:
    """Write so many small pictures, no two of them equal."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (DIFFERENT, 8, 8, 3), np.uint8)
    encoded = []
    for pixels in coarse:
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(stream, "PNG")
        encoded.append(stream.getvalue())
    end = len(encoded[0]) - encoded[0].index(b"IEND") + 4  # bytes of the last chunk
    for number in range(count):
        data, text = encoded[number % DIFFERENT], b"Comment\0%d" % number
        chunk = b"tEXt" + text
        mark = len(text).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        (folder / f"{number:07d}.png").write_bytes(data[:-end] + mark + data[-end:])


def peaks(driver: int) -> dict[str, float]:
    """Return the peak memory so far, in MiB, of a process and of the largest of its children."""
    found = {"driver": 0.0, "worker": 0.0}
    for entry in Path("/proc").iterdir():
        try:
            facts = (entry / "status").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue  # it has ended
        said = dict(re.findall(r"^(PPid|VmHWM):\s+(\d+)", facts, re.M))
        if "VmHWM" in said and entry.name == str(driver):
            found["driver"] = int(said["VmHWM"]) / 1024
        elif "VmHWM" in said and said["PPid"] == str(driver):
            found["worker"] = max(found["worker"], int(said["VmHWM"]) / 1024)
    return found


def processors() -> float:
    """Return the processor seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(source: Path, out: Path, workers: int) -> dict[str, float]:
    """Judge a folder, and return peaks in MiB and seconds.

    Raises:
        AssertionError: the run failed.
    """
    command = [*ZEROFLAW, "detect", str(source), "--detector", str(source.parent / "memory"), "-o", str(out)]
    before, begin, highest = processors(), time.monotonic(), {"driver": 0.0, "worker": 0.0}
    with subprocess.Popen([*command, "--workers", str(workers)], stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None:
            now = peaks(run.pid)
            highest = {name: max(value, now[name]) for name, value in highest.items()}
            time.sleep(0.25)
        assert run.stderr is not None
        said = run.stderr.read()
    assert run.returncode == 0, said
    return {**highest, "clock": time.monotonic() - begin, "processors": processors() - before}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    print("| images | driver, MiB | largest worker, MiB | clock, ms an image | processors, ms an image |")
    print("| --: | --: | --: | --: | --: |", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pictures(work / "few", FEW)
        settings = ("--set", f"sizes={SIDE}", "--set", "words_weight=0", "-q")
        subprocess.run([*ZEROFLAW, "fit", work / "few", "-o", work / "memory", *settings], check=True)
        start = measure(work / "few", work / "out-few", given.workers)
        for count in given.images:
            pictures(work / f"{count}", count)
            found = measure(work / f"{count}", work / f"out-{count}", given.workers)
            each = {
                name: 1000 * (found[name] - start[name]) / (count - FEW) for name in ("clock", "processors")
            }
            rows.append(found | each)
            print(
                f"| {count:,} | {found['driver']:.0f} | {found['worker']:.0f} | {each['clock']:.1f} | "
                f"{each['processors']:.1f} |",
                flush=True,
            )
            shutil.rmtree(work / f"{count}")
    for name in ("driver", "worker", "clock", "processors"):
        print(f"{name}: {100 * (rows[-1][name] / rows[0][name] - 1):+.1f} % from first to last")


if __name__ == "__main__":
    main()
