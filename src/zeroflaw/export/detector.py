"""A whole detector as one ONNX graph: pixels in, log-odds, named scores and map out, for any language."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.detectors.opening import shared_backbone
from zeroflaw.errors import OutputError, UsageError
from zeroflaw.export.graphs import DetectorGraph
from zeroflaw.export.int8 import checked_int8, require_enough
from zeroflaw.export.place import require_place
from zeroflaw.export.resizing import with_resizing
from zeroflaw.export.tower import graph
from zeroflaw.files import write_files
from zeroflaw.images import read_image
from zeroflaw.runtime.memory import MemoryScorer
from zeroflaw.runtime.onnx_engine import open_onnx
from zeroflaw.runtime.preprocess import Pixels
from zeroflaw.runtime.scorer import TextScorer
from zeroflaw.runtime.scores import expit
from zeroflaw.runtime.stream import Progress, batches
from zeroflaw.runtime.tower import test_pictures
from zeroflaw.towers.backbone import Backbone

MODEL = "detector.onnx"
WITH_RESIZE = "detector-with-resize.onnx"
INT8 = "detector-int8.onnx"
RECORD = "detector.json"
TOLERANCE = 1e-3  # log-odds; of float32 sums over thousands of numbers
_SIZES = (150, 200), (97, 501), (288, 384), (1024, 640)  # on both sides of what towers see, none square


def export_detector(
    detector: BackboneDetector[Any],
    folder: Path,
    *,
    with_resize: bool = False,
    int8: Sequence[Any] = (),
    progress: Progress | None = None,
) -> None:
    """Write a fitted detector as a folder that needs nothing of zeroflaw to be run.

    The folder holds ``detector.onnx`` (and ``detector-with-resize.onnx``, ``detector-int8.onnx``),
    ``detector.json`` with what goes in and comes out and the threshold, a model card, and pictures with
    expected outputs for tests.

    Args:
        detector: of words (rwda, clip, shift-words, promptstyler) or of good photos (memory).
        folder: which appears whole or not at all, in place of an earlier one.
        with_resize: also write a graph that takes pictures of any size.
        int8: photos, as `Detector.predict` takes them; where there are some, also write a graph whose linear
            layers are in 8 bits, if it says of these photos what the first says.
        progress: called with what is being done, steps done and steps in all.

    Raises:
        UsageError: this kind of detector cannot be a graph, there are too few photos, or the folder holds
            something else.
        ImageError: a photo cannot be read.
        OutputError: a graph does not give what the detector gives, or the folder cannot be written.
    """
    require_place(folder)
    scorer = detector.scorer_
    if not isinstance(scorer, TextScorer | MemoryScorer):
        raise UsageError(
            f"a {detector.name} detector cannot be one graph: export writes those of words (rwda, clip, "
            "shift-words, promptstyler) and of good photos (memory)"
        )
    if detector.tile:
        raise UsageError(
            f"a graph judges whole pictures, and this detector judges tiles of {detector.tile} pixels, whose "
            "threshold would not hold; export one that was made without tile"
        )
    step = progress or (lambda *_: None)
    backbone = shared_backbone(detector.backbone, "cpu", "float32")
    module = DetectorGraph(backbone, scorer).eval()
    if int8:
        require_enough(len(int8))
    looked = [_resized(backbone, module, [read_image(photo) for photo in some]) for some in batches(int8, 8)]
    images = test_pictures()
    resized = _resized(backbone, module, images)
    step("graph", 0, 2)
    backbone.embed_images(images)  # fills the caches of index tensors, which tracing would fill otherwise
    batch = torch.export.Dim("batch")
    names = ["logit", "scores", "map"]
    example = {name: torch.from_numpy(part[:2]) for name, part in resized.items()}
    data = graph(module, example, {name: {0: batch} for name in example}, names)
    step("graph", 1, 2)
    expected = _expected(detector, images, module.judge.names)
    worst = _difference(data, resized, expected)
    if worst > TOLERANCE:
        raise OutputError(
            f"the graph differs from the detector by {worst:.1e} in log-odds or maps, and {TOLERANCE:.0e} is "
            "the most; nothing was written"
        )
    files = {MODEL: data}
    record = _record(detector, backbone, module, worst)
    if with_resize:
        files[WITH_RESIZE] = with_resizing(data, module.inputs)
        record["with_resize"] = _with_resize_record(detector, files[WITH_RESIZE])
    if int8:
        files[INT8], agreement = checked_int8(data, looked)
        record["int8"] = {"file": INT8, "compared_on_photos": asdict(agreement)}
    files |= _vectors(resized, expected, record)
    files["README.md"] = _card(detector, module, worst).encode()
    files[RECORD] = (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
    write_files(folder, files, "the graph", OutputError)
    step("graph", 2, 2)


def _resized(
    backbone: Backbone, module: DetectorGraph, images: Sequence[Any]
) -> dict[str, npt.NDArray[np.uint8]]:
    """Return pictures as the inputs of the graph, uint8 (B, S, S, 3) by name."""
    return {
        name: np.stack([replace(backbone.preprocess, image_size=size).resized(image) for image in images])
        for name, size in module.inputs.items()
    }


def _record(
    detector: BackboneDetector[Any], backbone: Backbone, module: DetectorGraph, worst: float
) -> dict[str, Any]:
    """Return what ``detector.json`` says of the graph and of the threshold."""
    record: dict[str, Any] = {
        "schema": 1,
        "detector": detector.name,
        "backbone": {"name": backbone.name, "sha256": backbone.sha256, "licence": backbone.licence},
        "inputs": {
            name: {"type": "uint8", "shape": ["batch", size, size, 3], "channels": "RGB"}
            for name, size in module.inputs.items()
        },
        "resize": {
            "filter": f"Pillow {backbone.preprocess.interpolation}",
            "shape": backbone.preprocess.resize,
        },
        "outputs": {
            "logit": "log-odds of the score, (batch,)",
            "scores": {"shape": ["batch", len(module.judge.names)], "names": module.judge.names},
            "map": "anomaly of each patch from 0 to 1, (batch, rows, columns)",
        },
        "tolerance": {"measured": worst, "allowed": TOLERANCE},
        "preprocess": asdict(backbone.preprocess),
    }
    calibration = detector.calibration_
    if calibration is not None:
        hot = calibration.map_threshold
        record["threshold"] = {
            "logit": calibration.threshold,
            "map": hot,
            "map_score": None if hot is None else float(expit(hot)),
            "from": calibration.sentence(),
        }
    return record


def _with_resize_record(detector: BackboneDetector[Any], data: bytes) -> dict[str, Any]:
    """Return what ``detector.json`` says of the graph that resizes: by how much it differs, at most."""
    images = _hard_to_resize()
    logit = drawn = 0.0
    run = open_onnx(data, "float32", None)
    for image, expected in zip(images, detector.predict(images, maps=True), strict=True):
        inputs: dict[str, npt.NDArray[Any]] = {"image": image[None]}
        found = run(inputs, ("logit", "map"))
        assert expected.map is not None
        logit = max(logit, abs(float(found[0][0]) - expected.logit))
        drawn = max(drawn, float(np.abs(found[1][0] - expected.map).max()))
    return {
        "input": {"image": {"type": "uint8", "shape": ["batch", "height", "width", 3], "channels": "RGB"}},
        "differs_by": logit,
        "map_differs_by": drawn,
        "measured_on": {
            "what": "noise, grain on soft colours, and fine stripes, in each of these sizes (height, width); "
            "the largest difference counts",
            "sizes": _SIZES,
        },
        "because": "the resizing inside the graph is not Pillow's to the last digit",
    }


def _hard_to_resize() -> list[Pixels]:
    """Return pictures with fine structure, some to be made larger and some smaller."""
    random, found = np.random.default_rng(0), []
    for height, width in _SIZES:
        noise = random.integers(0, 256, (height, width, 3), np.uint8)
        soft = np.asarray(Image.fromarray(noise[:9, :9]).resize((width, height)), np.float64)
        grain = np.clip(soft + random.normal(0, 8, soft.shape), 0, 255).astype(np.uint8)
        rows, columns = np.ogrid[:height, :width]
        stripes = np.uint8(20) + np.uint8(200) * ((columns // 2 + rows // 3) % 2).astype(np.uint8)
        found += [noise, grain, np.repeat(stripes[:, :, None], 3, 2)]
    return found


def _expected(
    detector: BackboneDetector[Any], images: Sequence[Any], names: Sequence[str]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return what the detector says: log-odds (N,), named scores (N, names), maps (N, rows, columns)."""
    found = list(detector.predict(images, maps=True))
    maps = [prediction.map for prediction in found]
    assert all(drawn is not None for drawn in maps)
    scores = [[prediction.scores[name] for name in names] for prediction in found]
    return np.array([p.logit for p in found]), np.array(scores), np.stack(maps)  # type: ignore[arg-type]


def _run(data: bytes, inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    return list(open_onnx(data, "float32", None)(inputs, ("logit", "scores", "map")))


def _difference(
    data: bytes, resized: Mapping[str, npt.NDArray[Any]], expected: Sequence[npt.NDArray[Any]]
) -> float:
    """Return the largest difference from what is expected, at one image and at all of them a batch."""
    worst = 0.0
    for count in (1, len(expected[0])):
        found = _run(data, {name: part[:count] for name, part in resized.items()})
        pairs = zip(expected, found, strict=True)
        worst = max(worst, *(float(np.abs(one[:count] - other).max()) for one, other in pairs))
    return worst


def _vectors(
    resized: Mapping[str, npt.NDArray[np.uint8]], expected: Sequence[npt.NDArray[Any]], record: dict[str, Any]
) -> dict[str, bytes]:
    """Return pictures and expected outputs as files that any language can read; ``record`` names them."""
    files = {f"vectors-{name}.bin": part.tobytes() for name, part in resized.items()}
    record["vectors"] = {
        "inputs": {
            name: {"file": f"vectors-{name}.bin", "shape": list(part.shape)} for name, part in resized.items()
        },
        "logit": expected[0].tolist(),
        "scores": expected[1].tolist(),
        "map": np.round(expected[2].astype(np.float64), 7).tolist(),
    }
    return files


def _card(detector: BackboneDetector[Any], module: DetectorGraph, worst: float) -> str:
    sizes = " and ".join(f"`{name}` ({size} x {size})" for name, size in module.inputs.items())
    return (
        f"{detector.card_}\n# As an ONNX graph\n\n`{MODEL}` takes {sizes}: uint8, RGB, (batch, height, "
        f"width, 3), resized as `{RECORD}` says. It gives `logit`, `scores` and `map`; on the test pictures "
        f"they differ from the detector's by at most {worst:.1e}. `{RECORD}` also holds the threshold, where "
        "there is one, and what the test pictures in `vectors-*.bin` must give.\n"
    )
