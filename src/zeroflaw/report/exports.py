"""Regions in the formats of other tools: COCO, YOLO and Label Studio.

Formats: the data format of the COCO API with uncompressed run lengths; YOLO's text files of normalised boxes;
Label Studio's tasks with predictions, whose boxes are in percent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from zeroflaw._version import __version__
from zeroflaw.images import shown
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.regions import cut_regions, pasted, run_lengths

Format = Literal["coco", "yolo", "label-studio"]
FORMATS: tuple[Format, ...] = ("coco", "yolo", "label-studio")
CATEGORY = "flaw"
LABELS = "labels"
FILES: dict[Format, tuple[str, ...]] = {
    "coco": ("coco.json",),
    "yolo": ("classes.txt", "data.yaml"),
    "label-studio": ("label-studio.json",),
}
_DATA = "path: .\ntrain: images\nval: images\nnames:\n  0: flaw\n"


def coco(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Return regions as a data set of the COCO API, ready for JSON.

    Args:
        predictions: with maps and their thresholds.

    Raises:
        UsageError: a prediction has no map, or its map no threshold.
    """
    images: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    for number, prediction in enumerate(predictions, 1):
        images.append(_coco_image(prediction, number))
        marks += _coco_marks(prediction, number, len(marks) + 1)
    return {"annotations": marks, "images": images} | _coco_frame()


def _coco_frame() -> dict[str, Any]:
    return {
        "categories": [{"id": 1, "name": CATEGORY, "supercategory": CATEGORY}],
        "info": {"description": f"regions found by zeroflaw {__version__}"},
        "licenses": [],
    }


def _coco_image(prediction: Prediction, number: int) -> dict[str, Any]:
    height, width = prediction.size
    return {"id": number, "file_name": shown(prediction.source), "height": height, "width": width}


def _coco_marks(prediction: Prediction, image: int, first: int) -> list[dict[str, Any]]:
    line = prediction.require_map_threshold()
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": 1,
            "bbox": list(region.box),
            "area": region.area,
            "segmentation": {
                "size": list(prediction.size),
                "counts": run_lengths(pasted(inside, region.box, prediction.size)),
            },
            "iscrowd": 0,
            "score": region.peak,
        }
        for number, (region, inside) in enumerate(cut_regions(prediction.resized_map(), line), first)
    ]


def yolo(prediction: Prediction) -> str:
    """Return the boxes of a photo's regions, a line each: class 0, centre, width and height in shares.

    Arguments and errors are those of `coco`.
    """
    height, width = prediction.size
    boxes = [region.box for region in prediction.regions()]
    rows = [((x + w / 2) / width, (y + h / 2) / height, w / width, h / height) for x, y, w, h in boxes]
    return "".join(f"0 {' '.join(f'{share:.6f}' for share in row)}\n" for row in rows)


def label_studio(prediction: Prediction) -> dict[str, Any]:
    """Return a photo's regions as a task whose rectangles a ``RectangleLabels`` named "label" starts from.

    Arguments and errors are those of `coco`.
    """
    height, width = prediction.size
    boxes = [
        {
            "id": f"r{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "x": 100 * region.box[0] / width,
                "y": 100 * region.box[1] / height,
                "width": 100 * region.box[2] / width,
                "height": 100 * region.box[3] / height,
                "rotation": 0,
                "rectanglelabels": [CATEGORY],
            },
            "score": region.peak,
        }
        for number, region in enumerate(prediction.regions(), 1)
    ]
    judged = {"model_version": f"zeroflaw {__version__}", "score": prediction.score, "result": boxes}
    return {"data": {"image": shown(prediction.source)}, "predictions": [judged]}


class Exports:
    """Writes the formats that are asked for, photo by photo; memory grows by a line a photo.

    Args:
        folder: where files go.
        formats: which.
    """

    def __init__(self, folder: Path, formats: Iterable[Format]) -> None:
        self._folder = folder
        self._formats = tuple(dict.fromkeys(formats))
        self._images: list[dict[str, Any]] = []
        self._rows: Counter[str] = Counter()

    def add(self, prediction: Prediction, name: str) -> None:
        """Write the regions of a photo; ``name`` is that of its files, without extension."""
        if "coco" in self._formats:
            self._images.append(_coco_image(prediction, len(self._images) + 1))
            for mark in _coco_marks(prediction, len(self._images), self._rows["coco"] + 1):
                self._put("coco", _text(mark))
        if "label-studio" in self._formats:
            self._put("label-studio", _text(label_studio(prediction)))
        if "yolo" in self._formats:
            path = self._folder / LABELS / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yolo(prediction), encoding="utf-8")

    def finish(self) -> list[str]:
        """Write what is left and return the names of the files, but not of those of single photos."""
        if "coco" in self._formats:
            self._put("coco", f"], {_text({'images': self._images} | _coco_frame())[1:]}", last=True)
        if "label-studio" in self._formats:
            self._put("label-studio", "]", last=True)
        if "yolo" in self._formats:
            (self._folder / "classes.txt").write_text(f"{CATEGORY}\n", encoding="utf-8")
            (self._folder / "data.yaml").write_text(_DATA, encoding="utf-8")
        return [name for kind in self._formats for name in FILES[kind]]

    def _put(self, kind: Format, text: str, *, last: bool = False) -> None:
        """Add to the list in a JSON file, or end it."""
        start = '{"annotations": [' if kind == "coco" else "["
        before = "," * (not last) if self._rows[kind] else start
        with (self._folder / FILES[kind][0]).open("a", encoding="utf-8") as stream:
            stream.write(f"{before}\n{text}{chr(10) * last}")
        self._rows[kind] += 1


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)
