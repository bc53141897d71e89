"""What JPEG draft mode, decoding at a half, a quarter or an eighth, would bring, and what it would change.

    python benchmarks/jpeg_draft.py PHOTOS [PHOTOS ...]

Photos are enlarged to sizes of cameras, once as they are and once with grain, scratches of one pixel and a
raster ("sharp"), and saved as JPEG. Each is decoded whole, and at the smallest scale that leaves so many
times the pixels a side that the bundled tower sees; both are resized as usual and judged by words.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time

import numpy as np
from PIL import Image

import zeroflaw
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.images import find_images, read_image
from zeroflaw.runtime.preprocess import Pixels, Preprocess

SIZES = ((2048, 2048), (4000, 3000), (8000, 6000))
TIMES = (2, 4, 8)  # as many pixels a side as the tower sees, at least


def made(photo: Pixels, size: tuple[int, int], seed: int, *, sharp: bool) -> bytes:
    """Return a photo as JPEG of another size, perhaps with details as small as a pixel."""
    picture = Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC)
    if sharp:
        random, (wide, tall) = np.random.default_rng(seed), size
        values = np.asarray(picture, np.int16) + random.normal(0, 12, (tall, wide, 1)).astype(np.int16)
        for _ in range(60):
            along, angle = np.arange(random.integers(wide // 20, wide // 5)), 2 * np.pi * random.random()
            x = np.clip((random.integers(0, wide) + along * np.cos(angle)).astype(int), 0, wide - 1)
            y = np.clip((random.integers(0, tall) + along * np.sin(angle)).astype(int), 0, tall - 1)
            values[y, x] += int(random.integers(-150, 150))
        values += (20 * (np.arange(wide) // 4 % 2)).astype(np.int16)[None, :, None]
        picture = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=92)
    return stream.getvalue()


def small(data: bytes, preprocess: Preprocess, least: int | None) -> tuple[Pixels, float, int]:
    """Return what the tower sees of a JPEG, the seconds it took, and the width it was decoded to."""
    begin = time.perf_counter()
    picture = Image.open(io.BytesIO(data))
    if least is not None:
        picture.draft("RGB", (least, least))
    seen = preprocess.resized(np.asarray(picture.convert("RGB")))
    return seen, time.perf_counter() - begin, picture.size[0]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--count", type=int, default=5, help="photos of each size")
    options = parser.parse_args()
    detector = zeroflaw.load("rwda")
    assert isinstance(detector, BackboneDetector)
    preprocess: Preprocess = detector.backbone_.preprocess
    paths = find_images(tuple(options.photos)).paths
    chosen = [read_image(path) for path in paths[:: max(1, len(paths) // options.count)][: options.count]]
    print("| picture | decoded to | log-odds move by, mean (most) | maps | decoding and resizing |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        for sharp in (False, True):
            files = [made(photo, size, seed, sharp=sharp) for seed, photo in enumerate(chosen)]
            whole = [small(data, preprocess, None) for data in files]
            wanted = list(detector.predict([seen for seen, _, _ in whole], maps=True))
            for times in TIMES:
                found = [small(data, preprocess, times * preprocess.image_size) for data in files]
                if found[0][2] == size[0]:
                    continue
                judged = list(detector.predict([seen for seen, _, _ in found], maps=True))
                pairs = list(zip(wanted, judged, strict=True))
                moved = [abs(one.logit - other.logit) for one, other in pairs]
                maps = [float(np.abs(one.map - other.map).mean()) for one, other in pairs]  # type: ignore[operator]
                before, after = (statistics.median(spent for _, spent, _ in side) for side in (whole, found))
                print(
                    f"| {size[0]} x {size[1]}{', sharp' if sharp else ''} | {found[0][2]} wide | "
                    f"{statistics.mean(moved):.3f} ({max(moved):.3f}) | {statistics.mean(maps):.4f} | "
                    f"{before:.2f} s → {after:.2f} s |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
