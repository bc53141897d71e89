"""Judge photos with an exported detector: onnxruntime, numpy and Pillow, nothing of zeroflaw.

python judge.py FOLDER [PHOTO...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def check(session: onnxruntime.InferenceSession, folder: Path, record: dict) -> None:
    """Compare the graph's answers about the test pictures with those it must give."""
    vectors = record["vectors"]
    pixels = {
        name: np.fromfile(folder / said["file"], np.uint8).reshape(said["shape"])
        for name, said in vectors["inputs"].items()
    }
    found = session.run(["logit", "scores", "map"], pixels)
    worst = max(
        float(np.abs(one - np.array(vectors[name])).max())
        for one, name in zip(found, ("logit", "scores", "map"), strict=True)
    )
    if worst > record["tolerance"]["allowed"]:
        sys.exit(f"the graph gives other answers here: they differ by {worst:.1e}")
    print(f"test pictures: answers differ by at most {worst:.1e}", file=sys.stderr)


def read(photo: Path) -> Image.Image:
    """Return a photo in RGB, upright, as zeroflaw reads it; what it reads in ways of its own is refused."""
    picture = Image.open(photo)
    deep = any("16" in str(tile[3]) for tile in picture.tile)  # of which Pillow keeps the upper 8 bits
    plain = picture.mode in ("1", "L", "P", "RGB", "CMYK") and not picture.has_transparency_data
    if picture.format not in ("PNG", "JPEG", "MPO", "WEBP", "BMP") or deep or not plain:
        sys.exit(
            f"{photo}: this program would read it otherwise than zeroflaw does; save it as a PNG or JPEG of "
            "8 bits without transparency"
        )
    return ImageOps.exif_transpose(picture).convert("RGB")


def judge(session: onnxruntime.InferenceSession, record: dict, photo: Path) -> dict:
    """Return log-odds and named scores of a photo, and the verdict where there is a threshold."""
    if record["resize"]["shape"] != "squash":
        sys.exit("this detector cuts the centre out of photos; see 'preprocess' in detector.json")
    picture = read(photo)
    kind = Image.Resampling[record["preprocess"]["interpolation"].upper()]
    pixels = {
        name: np.asarray(picture.resize(said["shape"][1:3][::-1], kind))[None]
        for name, said in record["inputs"].items()
    }
    logit, scores, _ = session.run(["logit", "scores", "map"], pixels)
    said = {"photo": str(photo), "logit": float(logit[0])}
    said |= dict(zip(record["outputs"]["scores"]["names"], map(float, scores[0]), strict=True))
    if "threshold" in record:
        said["anomalous"] = said["logit"] >= record["threshold"]["logit"]
    return said


def main() -> None:
    """Check the graph, then judge the photos."""
    folder, *photos = map(Path, sys.argv[1:])
    record = json.loads((folder / "detector.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(folder / "detector.onnx", providers=["CPUExecutionProvider"])
    check(session, folder, record)
    for photo in photos:
        print(json.dumps(judge(session, record, photo)))


if __name__ == "__main__":
    main()
