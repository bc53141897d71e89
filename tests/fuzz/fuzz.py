"""Change valid inputs at random and hand them in: all that may come back is an error of zeroflaw's own.

    python tests/fuzz/fuzz.py --minutes 10                # every target; make fuzz
    python tests/fuzz/fuzz.py --minutes 1 images words    # some of them

An input that takes more than `SECONDS` of processor time, or more than `MEBIBYTES` beyond what was used, is a
failure, too. Failing inputs are written into ``tests/fuzz/found/``, which git ignores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import random_model, tiny_config
from pictures import dicom_file, encoded, photo, png16, ramp, tiff
from zeroflaw import bands
from zeroflaw.detectors import load, open_fitted, read_words
from zeroflaw.errors import ZeroflawError
from zeroflaw.export.tower import export_tower
from zeroflaw.images import read_picture
from zeroflaw.lab.benchmark.grid import read_grid
from zeroflaw.lab.datasets import open_dataset
from zeroflaw.masks import open_mask
from zeroflaw.runtime.features import FeatureRequest
from zeroflaw.runtime.onnx_engine import OnnxTower
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.backbone import Backbone, Bundle
from zeroflaw.towers.catalogue import WeightsRecord
from zeroflaw.towers.folder import load_folder
from zeroflaw.towers.weights import load_backbone

SECONDS, MEBIBYTES = 2.0, 300
FOUND = Path(__file__).parent / "found"
BUNDLED_DETECTOR = Path(__file__).parents[2] / "src" / "zeroflaw" / "detectors" / "bundled" / "rwda"
WORDS = b'normal = ["flawless"]\nanomalous = ["damaged", "{} with a scratch"]\ntemplate = "a photo of a {}"\n'
GRID = b"""
[[detectors]]
name = "clip"
[detectors.parameters]
object = "nut"

[[datasets]]
name = "mvtec-ad"

corruptions = ["none", "brightness:2"]
seeds = [0, 1]
"""
TABLE = b"image,label,split,mask\na.png,good,test,\nb.png,scratch,test,m.png\n'c d.png',1,train,\n"
HOSTILE = (
    b"\0",
    b"\xff" * 4,
    b"9" * 30,
    b"-1",
    b"1e999",
    b"NaN",
    b"{}",
    b"[]",
    b'"',
    b"\n",
    b"../",
    b"\xed\xa0\x80",
)


NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\1\0\0")


@dataclass(frozen=True)
class Target:
    """A door: what makes valid inputs, each a set of files, and what opens them in their folder."""

    seeds: Callable[[], Sequence[dict[str, bytes]]]
    open: Callable[[Path], object]


def pictures() -> list[bytes]:
    """Return small pictures in every format that is read."""
    found = [encoded(photo(), kind) for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")]
    found += [
        encoded(photo(), "JPEG", progressive=True),
        png16(ramp(1023)),
        tiff(ramp(4095).astype(np.uint16)),
    ]
    found.append(encoded(photo().convert("P"), "PNG", transparency=0))
    shades = ramp(4095).astype(np.uint16)
    found += [dicom_file(shades, stored=12), dicom_file(shades, stored=12, rle=True)]
    return found


def read_bands(path: Path) -> object:
    """Read a picture in bands, as if it were large."""
    with mock.patch.multiple(bands, LARGE=1, _BAND=100):
        return [part.shape for part in bands.open_bands(path)]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, with small ones first."""
    paths = sorted(
        (path for path in folder.iterdir() if path.is_file()), key=lambda path: path.stat().st_size
    )
    return {path.name: path.read_bytes() for path in paths}


def open_table(folder: Path) -> object:
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    with chdir(folder):
        return [record for category in open_dataset("in.csv", "csv") for record in category.test]


def calibrated_detector() -> dict[str, bytes]:
    """Return the files of a small memory, which has a calibration."""
    made = open_fitted("memory", {"sizes": [64], "words_weight": 0}, reference=small_photos(6))
    with tempfile.TemporaryDirectory() as place:
        made.save(Path(place) / "saved")
        return files_of(Path(place) / "saved")


def small_tower() -> dict[str, bytes]:
    """Return the files of an exported tower that is quick to open."""
    record = WeightsRecord(name="tiny", sha256="0" * 64)
    tokenizer = load_backbone("mini", device="cpu").tokenizer
    made = Bundle(random_model(tiny_config(aligned=False)), tokenizer, Preprocess(image_size=48), record)
    with tempfile.TemporaryDirectory() as place:
        export_tower(Backbone.on(made, device="cpu"), Path(place) / "tower")
        return files_of(Path(place) / "tower")


def small_photos(count: int) -> list[np.ndarray]:
    """Return pictures of noise."""
    return list(np.random.default_rng(0).integers(0, 256, (count, 48, 48, 3), np.uint8))


def judge(folder: Path) -> object:
    """Open a saved detector and judge a picture."""
    return list(load(folder).predict(small_photos(1), maps=True))


def run_tower(folder: Path) -> object:
    return OnnxTower(folder).embed([np.zeros((32, 32, 3), np.uint8)], FeatureRequest(patches=True))


def files_named(name: str, *files: bytes) -> Callable[[], Sequence[dict[str, bytes]]]:
    """Return what returns inputs of one file each."""
    return lambda: [{name: data} for data in files]


WEIGHTS = Path(__file__).parents[2] / "src" / "zeroflaw" / "towers" / "mini"
TARGETS = {
    "images": Target(files_named("in", *pictures()), lambda folder: read_picture(folder / "in")),
    "bands": Target(files_named("in", *pictures()), lambda folder: read_bands(folder / "in")),
    "masks": Target(
        files_named("in.png", *pictures()), lambda folder: open_mask(folder / "in.png", (17, 23))
    ),
    "detectors": Target(lambda: [files_of(BUNDLED_DETECTOR), calibrated_detector()], judge),
    "weights": Target(lambda: [files_of(WEIGHTS)], load_folder),
    "towers": Target(lambda: [small_tower()], run_tower),
    "words": Target(files_named("in.toml", WORDS), lambda folder: read_words("rwda", folder / "in.toml")),
    "grids": Target(files_named("in.toml", GRID), lambda folder: read_grid(folder / "in.toml")),
    "tables": Target(files_named("in.csv", TABLE), open_table),
}


def changed(data: bytes, draw: random.Random) -> bytes:
    """Return data with one to eight random changes."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        place = draw.randrange(len(found) + 1)
        # Headers decide most: half of the changes lie in the first hundred bytes.
        if draw.random() < 0.5:
            place = min(place, draw.randrange(100))
        kind = draw.randrange(6)
        if kind == 0 and place < len(found):
            found[place] ^= 1 << draw.randrange(8)
        elif kind == 1 and place < len(found):
            found[place] = draw.randrange(256)
        elif kind == 2:
            del found[place : place + draw.choice((1, 4, 64, len(found)))]
        elif kind == 3:
            found[place:place] = draw.choice(HOSTILE)
        elif kind == 4:
            found[place:place] = found[place : place + draw.choice((1, 8, 256))] * draw.choice((1, 2, 100))
        else:
            found[place : place + 4] = draw.choice(
                (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\1\0\0")
            )
    return bytes(found)


def changed_files(seed: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    """Change one of the files, small ones more often; digests are sometimes made right again."""
    names = list(seed)
    name = names[min(draw.randrange(len(names)), draw.randrange(len(names)))]
    found = {**seed, name: changed(seed[name], draw)}
    if draw.random() < 0.1:
        del found[draw.choice(names)]
    for config in ("config.json", "tower.json"):
        if config in found and draw.random() < 0.5:
            found[config] = _with_digests(found, config)
    return found


def _with_digests(files: dict[str, bytes], config: str) -> bytes:
    """Let a configuration name the digests that its files have, so that what they hold is looked at."""
    try:
        said = json.loads(files[config])
        for key in ("sha256", "sha256_of_files"):
            for name in said.get(key, {}):
                said[key][name] = hashlib.sha256(files[name]).hexdigest()
    except (ValueError, AttributeError, TypeError, KeyError):
        return files[config]
    return json.dumps(said).encode()


def try_one(target: Target, files: dict[str, bytes]) -> str | None:
    """Hand in one input; returns what is wrong with what happened, or None."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                target.open(folder)
        except ZeroflawError:
            pass
        except Exception:
            return traceback.format_exc()
        spent = time.process_time() - begin
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if spent > SECONDS:
        return f"it took {spent:.1f} s"
    return f"it took {grown:.0f} MiB" if grown > MEBIBYTES else None


def fuzz(name: str, *, seed: int, seconds: float = 0.0, runs: int = 0) -> tuple[int, list[str]]:
    """Try changed inputs for a time, or a number of them; returns how many, and what went wrong."""
    target, draw, end = TARGETS[name], random.Random(f"{name} {seed}"), time.monotonic() + seconds
    seeds = target.seeds()
    for valid in seeds:
        if wrong := try_one(target, valid):
            return 1, [f"a valid input: {wrong}"]
    done, wrongs = 0, []
    while done < runs or time.monotonic() < end:
        files = changed_files(draw.choice(seeds), draw)
        done += 1
        if wrong := try_one(target, files):
            place = FOUND / f"{name}-{seed}-{done}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            for file, data in files.items():
                (place / file).write_bytes(data)
            wrongs.append(f"{place.name}: {wrong}")
    return done, wrongs


def main() -> None:
    """Fuzz, say what was found, and leave with 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS])
    parser.add_argument("--minutes", type=float, default=10, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    failed = False
    for name in options.targets or TARGETS:
        done, wrongs = fuzz(name, seed=options.seed, seconds=60 * options.minutes)
        print(f"{name}: {done} inputs, {len(wrongs)} failures (seed {options.seed})", flush=True)
        for wrong in wrongs:
            print(f"  {wrong}", flush=True)
        failed |= bool(wrongs)
    sys.exit(failed)


if __name__ == "__main__":
    main()
