"""Memory of one long ``zeroflaw detect`` run: a thousand images, twenty of them broken in twenty ways.

    python benchmarks/memory.py            # prints memory after the first hundred images and at the end

Linux only: memory is the resident set of the process as the kernel counts it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from PIL import Image

from zeroflaw.lab.samples import render_samples


def png(picture: Image.Image) -> bytes:
    """Return a picture as PNG."""
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _header(width: int, height: int) -> bytes:
    start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return start + _chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + _chunk(b"IEND", b"")


def broken() -> dict[str, bytes]:
    """Twenty files that are no usable picture, each for another reason."""
    good = png(Image.new("RGB", (64, 48), "grey"))
    jpeg = io.BytesIO()
    Image.effect_noise((64, 48), 50).save(jpeg, "JPEG")
    gif = io.BytesIO()
    Image.new("P", (8, 8)).save(gif, "GIF")
    not_a_number = io.BytesIO()
    Image.new("F", (8, 8), float("nan")).save(not_a_number, "TIFF")
    damaged = bytearray(good)
    damaged[45] ^= 255
    noise = random.Random(0).randbytes(2000)
    return {
        "empty.png": b"",
        "one-byte.jpg": b"\xff",
        "text.png": b"this is a letter, not a picture",
        "html.jpg": b"<html><body>404</body></html>",
        "noise.png": noise,
        "only-signature.png": good[:8],
        "cut-header.png": good[:20],
        "cut-data.png": good[:50],
        "cut-end.jpg": jpeg.getvalue()[:300],
        "start-only.jpg": jpeg.getvalue()[:2],
        "damaged.png": bytes(damaged),
        "bomb.png": _header(50_000, 50_000),
        "endless-side.png": _header(30_000, 1),
        "no-pixels.png": _header(0, 10),
        "animation.png": gif.getvalue(),
        "document.jpg": b"%PDF-1.7\n" + noise,
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "archive.png": b"PK\x03\x04" + noise,
        "nan.tif": not_a_number.getvalue(),
        "too-many-bytes.png": good + b"\0" * (21 << 20),
    }


def prepare(folder: Path, count: int) -> None:
    """Write ``count`` files: rendered products under many names, and the broken ones spread between them."""
    render_samples(folder / "samples")
    pictures = sorted((folder / "samples").glob("*/test/*/*.png"))
    photos = folder / "photos"
    photos.mkdir()
    bad = broken()
    step = count // len(bad)
    for number in range(count):
        name, data = f"{number:04}.png", b""
        if number % step == step // 2 and bad:
            kind, data = bad.popitem()
            name = f"{number:04}-{kind}"
        (photos / name).write_bytes(data or pictures[number % len(pictures)].read_bytes())
    empty = [p for p in photos.iterdir() if p.name.endswith("empty.png")]
    empty[0].write_bytes(b"")


def resident(process: int) -> int:
    """Resident set of a process in KiB, 0 when it is gone."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")), 0)


def done(lines: Path) -> int:
    """How many images have their line."""
    return lines.read_bytes().count(b"\n") if lines.is_file() else 0


def run(folder: Path, out: Path) -> tuple[list[tuple[int, int]], int, str]:
    """Run the command; return (images done, KiB) samples, its exit code and its stderr."""
    command = [sys.executable, "-m", "zeroflaw", "detect", str(folder / "photos"), "-o", str(out)]
    samples = []
    with (folder / "stderr").open("w+") as errors:
        process = subprocess.Popen(command, stderr=errors, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        while process.poll() is None:
            samples.append((done(out / "predictions.jsonl.part"), resident(process.pid)))
            time.sleep(0.2)
        errors.seek(0)
        return samples, process.returncode, errors.read()


def main() -> None:
    """Print the result as JSON; fail if memory grew by more than a tenth or a broken file went unreported."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, given.count)
        start = time.perf_counter()
        samples, code, errors = run(folder, folder / "out")
        seconds = time.perf_counter() - start
        rows = [json.loads(line) for line in (folder / "out" / "predictions.jsonl").read_text().splitlines()]
    reported = [row for row in rows if "error" in row]
    working = [(count, size) for count, size in samples if 100 <= count < given.count - 25 and size]
    half = len(working) // 2
    first, last = max(s for _, s in working[:half]), max(s for _, s in working[half:])
    result = {
        "files": given.count,
        "exit_code": code,
        "judged": len(rows) - len(reported),
        "reported": len(reported),
        "mib_first_half_after_100": round(first / 1024, 1),
        "mib_second_half": round(last / 1024, 1),
        "mib_peak": round(max(size for _, size in samples) / 1024, 1),
        "seconds": round(seconds, 1),
        "reasons": [f"{Path(row['source']).name[5:]}: {row['error']}" for row in reported],
    }
    print(json.dumps(result, indent=2))
    if len(reported) != len(broken()) or "Traceback" in errors or last > 1.1 * first:
        sys.exit("memory grew, or a broken file was not reported")


if __name__ == "__main__":
    main()
