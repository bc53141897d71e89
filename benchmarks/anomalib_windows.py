"""Windows of a CLIP (shape ViT-B/16+ 240, random weights): ours on every engine against anomalib's WinCLIP.

anomalib wants packages in versions of its own, so this runs in one of its own, outside of the checkout:

    python -m venv side
    side/bin/pip install 'anomalib==2.7.*' 'open_clip_torch<2.26.1' torch
    side/bin/pip install -c constraints.txt onnx onnxruntime onnxscript openvino pydantic scipy tokenizers
    PYTHONPATH=src side/bin/python benchmarks/anomalib_windows.py

Weights are drawn once, by open_clip, and shared; what both sides find must be equal before anything is timed.
Both are given the same normalised pixels and return embeddings of the image, of all windows of 2 x 2 and
3 x 3 tokens, and of the patches; ours also on OpenVINO, where patches come with the image. They are
timed in turn. torchvision, which anomalib imports, has two operators that a build of torch for processors
may lack; they are declared, and not used.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zeroflaw.export.tower import export_tower
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.onnx_engine import OnnxTower
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.backbone import Backbone, Bundle
from zeroflaw.towers.catalogue import WeightsRecord, find_model
from zeroflaw.towers.layouts import rename
from zeroflaw.towers.model import CLIP
from zeroflaw.towers.weights import load_backbone

SHAPE = "ViT-B-16-plus-240"
WINDOWS = ((2, 1), (3, 1))
CLOSE = 1e-4  # of embeddings of length one, in single precision


def declare_operators() -> None:
    """Let torchvision be imported beside a torch that lacks its operators."""
    try:
        torch.ops.torchvision.nms  # noqa: B018  looking it up is what fails
    except AttributeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        globals()["_library"] = library  # operators live as long as it does


def their_model() -> Any:
    """Return anomalib's WinCLIP with random weights, without words."""
    declare_operators()
    from anomalib.models.image.winclip import torch_model

    torch_model.PRETRAINED = None  # nothing is downloaded
    torch.manual_seed(0)
    model = torch_model.WinClipModel()
    return model.eval().requires_grad_(False)


def our_backbone(theirs: Any, dtype: str) -> Backbone:
    """Return the same weights in our towers."""
    found = find_model(f"{SHAPE}/laion400m_e31")
    assert found.config is not None
    model = CLIP(found.config)
    model.load_state_dict(rename(theirs.clip.state_dict()))
    tokenizer = load_backbone("mini", device="cpu").tokenizer
    record = WeightsRecord(name=f"{SHAPE} (random weights)", sha256="0" * 64)
    preprocess = Preprocess(image_size=found.config.vision.image_size)
    return Backbone.on(Bundle(model, tokenizer, preprocess, record), device="cpu", dtype=dtype)


def their_features(model: Any, pixels: torch.Tensor) -> list[np.ndarray]:
    """Return their embeddings of image and windows, (B, E) and (B, W, E), of length one."""
    with torch.inference_mode():
        image, windows, _ = model.encode_image(pixels)
    return [torch.nn.functional.normalize(part.float(), dim=-1).numpy() for part in (image, *windows)]


def our_features(found: ImageFeatures) -> list[np.ndarray]:
    """Return the same of ours."""
    return [found.image, *(found.windows[key] for key in WINDOWS)]


def difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Return the largest difference of embeddings."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def main() -> None:
    """Compare, time in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=2, help="a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print times and differences instead of a table")
    options = parser.parse_args()
    theirs = their_model()
    plain, half = (our_backbone(theirs, dtype) for dtype in ("float32", "bfloat16"))
    random = np.random.default_rng(0)
    side = plain.image_size
    photos = list(random.integers(0, 256, (options.photos, side, side, 3), np.uint8))
    pixels = plain.pixels(photos)
    request = FeatureRequest(windows=WINDOWS, patches=True)
    wanted = their_features(theirs, pixels)
    with tempfile.TemporaryDirectory() as folder:
        export_tower(plain, Path(folder) / "tower")
        ways: dict[str, Callable[[], list[np.ndarray]]] = {
            "anomalib float32": lambda: their_features(theirs, pixels),
            "torch float32": lambda: our_features(plain.embed(photos, request)),
            "torch bfloat16": lambda: our_features(half.embed(photos, request)),
        }
        for engine, dtype in (("onnx", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")):
            tower = OnnxTower(Path(folder) / "tower", engine, dtype)  # type: ignore[arg-type]
            ways[f"{engine} {dtype}"] = lambda tower=tower: our_features(tower.embed(photos, request))  # type: ignore[misc]
        differs = {name: difference(wanted, way()) for name, way in ways.items()}  # and all are warm
        wrong = [name for name, far in differs.items() if far > CLOSE and "float32" in name]
        if wrong:
            raise SystemExit(f"these do not give the same embeddings: {', '.join(wrong)} ({differs})")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                begin = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - begin)
    if options.json:
        print(json.dumps({"photos": options.photos, "seconds": times, "differs_by": differs}))
        return
    base = times["anomalib float32"]
    print(f"{options.photos} photos, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| window embeddings by | seconds | times as fast as anomalib (spread) | differs by |")
    print("|---|---|---|---|")
    for name, spent in times.items():
        each = [a / b for a, b in zip(base, spent, strict=True)]
        print(
            f"| {name} | {statistics.median(spent):.2f} | {statistics.median(each):.2f} "
            f"({min(each):.2f}–{max(each):.2f}) | {differs[name]:.0e} |"
        )


if __name__ == "__main__":
    main()
