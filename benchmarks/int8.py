"""What 8 bits keep and bring: a detector's exact graph beside its graphs in 8 bits, on photos.

    python benchmarks/int8.py PHOTOS [PHOTOS ...]              # the bundled detector
    python benchmarks/int8.py PHOTOS --detector ./my-product --calibrate GOOD-PHOTOS

``dynamic`` is what ``zeroflaw export --int8`` writes. The others are what it does not do, and why: with the
convolutions in 8 bits, too; and static, with ranges fixed beforehand on the photos of ``--calibrate``. Times
are of the processor, medians of rounds in turn, exact / 8 bits: above 1, 8 bits are faster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import zeroflaw
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.export import int8
from zeroflaw.export.detector import MODEL, export_detector
from zeroflaw.export.tower import quiet, singled
from zeroflaw.images import find_images, read_image
from zeroflaw.runtime.onnx_engine import open_onnx
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.runtime.stream import batches

ROUNDS = 15


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, photos: list[np.ndarray]) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = inputs(photos)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def inputs(photos: list[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Yield photos of one size, eight at a time, as a graph takes them."""
    return ({"pixels": np.stack(some)} for some in batches(photos, 8))


def dynamic(data: bytes, *kinds: str) -> bytes:
    """Return a graph whose nodes of these kinds are in 8 bits, with ranges found while it runs."""
    usual = int8.ROUNDED
    try:
        int8.ROUNDED = kinds  # type: ignore[assignment]
        return int8.in_int8(data)
    finally:
        int8.ROUNDED = usual


def static(data: bytes, photos: list[np.ndarray], *kinds: str) -> bytes:
    """Return the same with ranges that are fixed beforehand, on photos."""
    with tempfile.TemporaryDirectory() as folder, quiet(""):
        whole, ready, done = (Path(folder) / f"{name}.onnx" for name in ("whole", "ready", "done"))
        onnx.save(singled(onnx.load_from_string(data)), whole)
        quant_pre_process(str(whole), str(ready), skip_symbolic_shape=True)
        nodes = [node.name for node in int8.of_tower(onnx.load(ready).graph) if node.op_type in kinds]
        quantize_static(
            ready,
            done,
            _Photos(photos),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
        return done.read_bytes()


def ratio(one: bytes, other: bytes, photos: list[np.ndarray], count: int) -> float:
    """Return how many times faster the second graph is on so many photos."""
    graphs = [open_onnx(data, "float32", None) for data in (one, other)]
    given = {"pixels": np.stack(photos[:count])}
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for graph, found in zip(graphs, times, strict=True):
            begin = time.process_time()
            graph(given, ("logit", "map"))
            found.append(time.process_time() - begin)
    first, second = map(statistics.median, times)
    return first / second


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--detector", default="rwda")
    parser.add_argument("--calibrate", nargs="*", default=())
    options = parser.parse_args()
    detector: Any = zeroflaw.load(options.detector)
    assert isinstance(detector, BackboneDetector)
    preprocess: Preprocess = detector.backbone_.preprocess
    looked, known = (
        [preprocess.resized(read_image(path)) for path in find_images(paths).paths] if paths else []
        for paths in (tuple(options.photos), tuple(options.calibrate))
    )
    with tempfile.TemporaryDirectory() as folder:
        export_detector(detector, Path(folder) / "graph")
        exact = (Path(folder) / "graph" / MODEL).read_bytes()
    ways: dict[str, Callable[[], bytes]] = {
        "dynamic, linear layers (`--int8`)": lambda: dynamic(exact, "MatMul"),
        "dynamic, convolutions, too": lambda: dynamic(exact, "MatMul", "Conv"),
    }
    if known:
        ways["static, linear layers"] = lambda: static(exact, known, "MatMul")
        ways["static, convolutions"] = lambda: static(exact, known, "Conv")
        ways["static, both"] = lambda: static(exact, known, "MatMul", "Conv")
    print(f"{len(looked)} photos, {len(known)} to calibrate\n")
    print("| 8 bits | same peak | maps | log-odds | ranks | 1 photo | 8 photos | MB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, make in ways.items():
        data = make()
        found = int8.compare(exact, data, inputs(looked))
        print(
            f"| {name} | {found.same_peak:.3f} | {found.maps:.4f} | {found.logit:.2f} | {found.ranks:.4f} | "
            f"{ratio(exact, data, looked, 1):.2f} | {ratio(exact, data, looked, 8):.2f} | "
            f"{len(data) / 1e6:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
