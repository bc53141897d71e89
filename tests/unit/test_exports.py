"""Regions in other tools' formats, and predictions as tables."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroflaw.errors import UsageError
from zeroflaw.report.exports import FORMATS, Exports, coco, label_studio, yolo
from zeroflaw.report.tables import COLUMNS, csv_text, rows, to_arrow, to_pandas
from zeroflaw.runtime.prediction import Prediction


def predictions() -> list[Prediction]:
    """Three photos with random maps, one of them without regions."""
    draw = np.random.default_rng(3)
    return [
        Prediction(
            f"set/{number}.png",
            0.25 * number,
            number - 1.5,
            {},
            (40, 60 + number),
            label=number > 1,
            threshold=0.5,
            p_value=0.1,
            map=draw.random((5, 6)).astype(np.float32),
            map_threshold=2.0 if number == 1 else 0.7,
        )
        for number in range(3)
    ]


def written(folder: Path) -> tuple[Exports, list[str]]:
    exports = Exports(folder, FORMATS)
    for prediction in predictions():
        exports.add(prediction, Path(prediction.source).stem)
    return exports, exports.finish()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools and NumPy 2
def test_coco_read_by_its_own_api(tmp_path: Path) -> None:
    api = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    written(tmp_path)
    found = api.COCO(str(tmp_path / "coco.json"))
    assert [cat["name"] for cat in found.loadCats(found.getCatIds())] == ["flaw"]
    for number, prediction in enumerate(predictions(), 1):
        (image,) = found.loadImgs(number)
        assert (image["height"], image["width"]) == prediction.size
        marks = found.loadAnns(found.getAnnIds(imgIds=number))
        union = np.zeros(prediction.size, np.uint8)
        for mark in marks:
            mask = found.annToMask(mark)
            assert mask.sum() == mark["area"]
            across, down = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
            box = [across[0], down[0], across[-1] - across[0] + 1, down[-1] - down[0] + 1]
            assert mark["bbox"] == box
            union += mask
        np.testing.assert_array_equal(union, prediction.mask())
        assert len(marks) == len(prediction.regions())


def test_streamed_files_hold_what_the_functions_return(tmp_path: Path) -> None:
    _, names = written(tmp_path)
    assert names == ["coco.json", "classes.txt", "data.yaml", "label-studio.json"]
    assert json.loads((tmp_path / "coco.json").read_text()) == coco(predictions())
    tasks = json.loads((tmp_path / "label-studio.json").read_text())
    assert tasks == [label_studio(prediction) for prediction in predictions()]
    assert (tmp_path / "labels" / "2.txt").read_text() == yolo(predictions()[2])
    assert (tmp_path / "labels" / "1.txt").read_text() == ""
    assert (tmp_path / "classes.txt").read_text() == "flaw\n"


def test_files_of_no_photos_are_whole(tmp_path: Path) -> None:
    Exports(tmp_path, ["coco", "label-studio", "coco"]).finish()
    assert json.loads((tmp_path / "coco.json").read_text()) == coco([])
    assert json.loads((tmp_path / "label-studio.json").read_text()) == []


def test_yolo_read_by_supervision(tmp_path: Path) -> None:
    readers = pytest.importorskip("supervision", reason="supervision is not installed")
    written(tmp_path)
    images = tmp_path / "images"
    images.mkdir()
    for number, prediction in enumerate(predictions()):
        Image.new("RGB", prediction.size[::-1]).save(images / f"{number}.png")
    found = readers.DetectionDataset.from_yolo(
        str(images), str(tmp_path / "labels"), str(tmp_path / "data.yaml")
    )
    assert found.classes == ["flaw"]
    read = {Path(path).stem: marks for path, marks in found.annotations.items()}
    for number, prediction in enumerate(predictions()):
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (region.box for region in prediction.regions())]
        corners = read[str(number)].xyxy.reshape(-1, 4)
        np.testing.assert_allclose(corners, np.reshape(boxes, (-1, 4)), atol=1e-3)


def test_label_studio_read_by_its_own_interface(tmp_path: Path) -> None:
    reason = "label-studio-sdk is not installed"
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason=reason)
    written(tmp_path)
    ask = interface.LabelInterface(
        '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
        '<Label value="flaw"/></RectangleLabels></View>'
    )
    tasks = json.loads((tmp_path / "label-studio.json").read_text())
    for task, prediction in zip(tasks, predictions(), strict=True):
        (judged,) = task["predictions"]
        assert ask.validate_prediction(judged)
        assert len(judged["result"]) == len(prediction.regions())


@pytest.mark.parametrize("number", [0, 2])
def test_boxes_come_back_from_yolo_and_label_studio(number: int) -> None:
    prediction = predictions()[number]
    height, width = prediction.size
    boxes = [region.box for region in prediction.regions()]
    assert boxes
    read = []
    for line in yolo(prediction).splitlines():
        kind, *shares = line.split()
        assert kind == "0"
        x, y, w, h = (float(share) for share in shares)
        read.append(
            (round((x - w / 2) * width), round((y - h / 2) * height), round(w * width), round(h * height))
        )
    assert read == boxes
    (judged,) = label_studio(prediction)["predictions"]
    values = [box["value"] for box in judged["result"]]
    scale = ((width, "x"), (height, "y"), (width, "width"), (height, "height"))
    assert [tuple(round(v[key] * side / 100) for side, key in scale) for v in values] == boxes
    assert judged["score"] == prediction.score
    assert {box["original_width"] for box in judged["result"]} == {width}


def test_rows_and_csv() -> None:
    found = rows(predictions())
    assert [row["verdict"] for row in found] == ["good", "good", "flawed"]
    assert found[1]["regions"] == found[1]["largest_region_percent"] == 0
    assert found[2]["largest_region_percent"] == max(r.share for r in predictions()[2].regions())
    assert tuple(found[0]) == COLUMNS
    read = list(csv.DictReader(io.StringIO(csv_text(predictions()))))
    assert [float(row["logit"]) for row in read] == [-1.5, -0.5, 0.5]
    assert int(read[2]["regions"]) == len(predictions()[2].regions())
    bare = Prediction("x,y\n.png", 0.5, 0.0, {}, (4, 4))
    (row,) = csv.DictReader(io.StringIO(csv_text([bare])))
    assert row["source"] == "x,y\\n.png"
    assert row["verdict"] == row["regions"] == row["threshold"] == ""


@pytest.mark.parametrize("name", ["=1+1.png", "+a.png", "-a.png", "@a.png"])
def test_names_are_no_formulas_in_a_spreadsheet(name: str) -> None:
    (row,) = csv.DictReader(io.StringIO(csv_text([Prediction(name, 0.5, 0.0, {}, (4, 4))])))
    assert row["source"] == f"./{name}"


def test_tables_of_pandas_and_arrow() -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    frame = to_pandas(predictions())
    assert list(frame.columns) == list(COLUMNS)
    assert frame["score"].tolist() == [0.0, 0.25, 0.5]
    table = to_arrow(predictions())
    assert table.column_names == list(COLUMNS)
    assert table["regions"].to_pylist() == frame["regions"].tolist()
    assert to_arrow([]).schema == table.schema


@pytest.mark.parametrize(("call", "module"), [(to_pandas, "pandas"), (to_arrow, "pyarrow")])
def test_a_missing_library_is_named(call: object, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"needs {module}, .*pip install 'zeroflaw\[table\]'"):
        call(predictions())  # type: ignore[operator]
