"""Speed, side by side in one run, as ratios: what `make bench` prints and writes into docs/performance.md.

    python benchmarks/bench.py                       # everything, about ten minutes on two free cores
    python benchmarks/bench.py engines command       # only some parts
    python benchmarks/bench.py --earlier CHECKOUT    # the command also against an earlier checkout

Two ways to do the same are timed in turn, so that a change of the machine's load hits both; the ratio is that
of the medians, and its spread that of the single rounds. Weights of the CLIP shapes are random: time does not
depend on them. What is not installed is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import zeroflaw
from zeroflaw.detectors.opening import open_tower
from zeroflaw.export.tower import export_tower
from zeroflaw.lab.samples import render_samples
from zeroflaw.runtime.features import FeatureRequest
from zeroflaw.runtime.onnx_engine import OnnxTower
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.backbone import Backbone, Bundle
from zeroflaw.towers.catalogue import WeightsRecord, find_model
from zeroflaw.towers.model import CLIP
from zeroflaw.towers.weights import load_backbone

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
SHAPE = "ViT-B-16-plus-240/laion400m_e31"
ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: what, the two sides in seconds, and the ratio other / ours with its spread."""

    what: str
    ours: str
    other: str
    ratio: str


def in_turn(
    ours: Callable[[], object], other: Callable[[], object], rounds: int = ROUNDS
) -> tuple[float, float, str]:
    """Time two calls in turn; returns the medians, and the ratio other / ours as text."""
    ours(), other()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, found in zip((ours, other), times, strict=True):
            begin = time.perf_counter()
            call()
            found.append(time.perf_counter() - begin)
    each = [b / a for a, b in zip(*times, strict=True)]
    one, two = (statistics.median(found) for found in times)
    return one, two, f"{two / one:.2f} ({min(each):.2f}–{max(each):.2f})"


def row(what: str, ours: Callable[[], object], other: Callable[[], object], rounds: int = ROUNDS) -> Row:
    """Return the comparison of two calls."""
    one, two, ratio = in_turn(ours, other, rounds)
    return Row(what, f"{1000 * one:.0f} ms", f"{1000 * two:.0f} ms", ratio)


def photos(count: int, side: int = 512) -> list[np.ndarray]:
    """Return soft pictures, as photos are."""
    small = np.random.default_rng(0).integers(0, 256, (count, 9, 9, 3), np.uint8)
    return [np.asarray(Image.fromarray(one).resize((side, side))) for one in small]


def engines() -> Iterator[Row]:
    """The bundled tower on every engine, against torch."""
    request, some = FeatureRequest(patches=True), photos(8)
    reference = load_backbone("mini", device="cpu")
    for engine, dtype in (("onnx", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")):
        tower = open_tower("mini", engine, "cpu", dtype)  # type: ignore[arg-type]
        for count in (1, 8):
            yield row(
                f"bundled tower, {count} photo{'s' * (count != 1)}: {engine} {dtype} / torch",
                lambda tower=tower, count=count: tower.embed(some[:count], request),  # type: ignore[misc]
                lambda count=count: reference.embed(some[:count], request),  # type: ignore[misc]
            )


def random_clip() -> Backbone:
    """Return a CLIP of a published shape with random weights."""
    model = find_model(SHAPE)
    assert model.config is not None
    torch.manual_seed(0)
    record = WeightsRecord(name=f"{SHAPE} (random weights)", sha256="0" * 64)
    tokenizer = load_backbone("mini", device="cpu").tokenizer
    preprocess = Preprocess(image_size=model.config.vision.image_size)
    return Backbone.on(Bundle(CLIP(model.config), tokenizer, preprocess, record), device="cpu")


def clip() -> Iterator[Row]:
    """Encoding and window maps of a CLIP: torch against the machine's products, transformers, OpenVINO."""
    backbone, some = random_clip(), photos(4, 240)
    plain, windows = FeatureRequest(), FeatureRequest(windows=((2, 1), (3, 1)))
    vision = backbone.model.config.vision
    tokens, width = 4 * (1 + backbone.grid[0] * backbone.grid[1]), vision.width
    x, weights = torch.randn(tokens, width), [torch.randn(width, n * width) for n in (3, 1, 4)]
    last = torch.randn(4 * width, width)

    def products() -> None:
        """The matrix products of the blocks, and nothing else."""
        with torch.inference_mode():
            for _ in range(vision.layers):
                for weight in weights:
                    y = x @ weight
                _ = y @ last

    yield row(
        f"{SHAPE}, encode 4: ours / bare matrix products", lambda: backbone.embed(some, plain), products, 3
    )
    if importlib.util.find_spec("transformers"):
        import transformers

        config = transformers.CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=vision.mlp_width,
            num_hidden_layers=vision.layers,
            num_attention_heads=vision.heads,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
        )
        theirs: Any = transformers.CLIPVisionModel(config)
        theirs.eval()
        pixels = backbone.pixels(some)

        def encode() -> None:
            with torch.inference_mode():
                theirs(pixels)

        yield row(f"{SHAPE}, encode 4: ours / transformers", lambda: backbone.embed(some, plain), encode, 3)
    with tempfile.TemporaryDirectory() as folder:
        export_tower(backbone, Path(folder) / "tower")
        for dtype in ("float32", "bfloat16"):
            tower = OnnxTower(Path(folder) / "tower", "openvino", dtype)
            for what, request in (("encode 4", plain), ("window maps of 4", windows)):
                yield row(
                    f"{SHAPE}, {what}: openvino {dtype} / our torch",
                    lambda tower=tower, request=request: tower.embed(some, request),  # type: ignore[misc]
                    lambda request=request: backbone.embed(some, request),  # type: ignore[misc]
                    3,
                )


def text() -> Iterator[Row]:
    """Embedding text in half precision against single."""
    backbone = random_clip()
    half = dataclasses.replace(
        backbone, model=CLIP(backbone.model.config).bfloat16().eval(), dtype=torch.bfloat16
    )
    prompts = [f"a photo of a {word} part {number}" for number in range(64) for word in ("normal", "broken")]
    os.environ["ZEROFLAW_CACHE"] = "off"
    yield row(
        f"{SHAPE}, 128 prompts: bfloat16 / float32",
        lambda: half.embed_texts(prompts),
        lambda: backbone.embed_texts(prompts),
        3,
    )


def command(earlier: Path | None) -> Iterator[Row]:
    """The command on one photo, and on many with and without pictures; processor time and wall."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        render_samples(place / "samples")
        many = sorted((place / "samples").rglob("*.png"))[:100]
        for number, path in enumerate(many):
            Image.open(path).convert("RGB").resize((512, 512)).save(place / f"{number:03}.jpg")
            path.unlink()
        sides = [Path(zeroflaw.__file__).parents[1]] + ([earlier / "src"] if earlier else [])
        drawn = ["-o", str(place / "out"), "--overwrite"]
        for what, arguments in (
            ("one photo", [str(place / "000.jpg")]),
            (f"{len(many)} photos", [str(place / "*.jpg")]),
            (f"{len(many)} photos, -o", [str(place / "*.jpg"), *drawn]),
        ):
            rounds = [[_spent(side, arguments) for side in sides] for _ in range(3)]
            by_side = zip(*rounds, strict=True)
            times = [[statistics.median(values) for values in zip(*side, strict=True)] for side in by_side]
            said = [f"{used:.2f} s processor, {wall:.2f} s wall" for used, wall in times]
            ratio = ""
            if earlier:
                ratio = " / ".join(f"{b / a:.2f}" for a, b in zip(*times, strict=True))
            yield Row(f"detect, {what}: this / earlier", said[0], said[1] if earlier else "", ratio)


def _spent(source: Path, arguments: list[str]) -> tuple[float, float]:
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run(
        [sys.executable, "-m", "zeroflaw", "detect", *arguments, "-q"],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - begin


def sizes() -> Iterator[Row]:
    """One JPEG of several sizes: time and peak memory of the command."""
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((512, 512), (2048, 2048), (4000, 3000), (8000, 6000)):
            path = Path(folder) / f"{width}.jpg"
            small = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
            Image.fromarray(small).resize((width, height)).save(path, quality=90)
            program = (
                "import resource, sys; from zeroflaw.cli.main import main\n"
                f"try: main(['detect', {str(path)!r}, '-q'])\n"
                "except SystemExit: pass\n"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)"
            )
            begin = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            spent = time.perf_counter() - begin
            yield Row(
                f"detect, one JPEG of {width} x {height}",
                f"{spent:.2f} s",
                f"{done.stderr.split()[-1]} MiB",
                "",
            )


PARTS: dict[str, Callable[..., Iterator[Row]]] = {
    "engines": engines,
    "clip": clip,
    "text": text,
    "command": command,
    "sizes": sizes,
}


def main() -> None:
    """Measure, print, and write the page where everything was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all of them where none is named")
    parser.add_argument("--earlier", type=Path, help="a checkout to compare the command with")
    options = parser.parse_args()
    lines = [
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, Python "
        f"{platform.python_version()}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}.",
        "",
        "| what | ours | other | ratio (spread) |",
        "|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name in options.parts or PARTS:
        arguments: list[Any] = [options.earlier] if name == "command" else []
        for found in PARTS[name](*arguments):
            lines.append(f"| {found.what} | {found.ours} | {found.other} | {found.ratio} |")
            print(lines[-1], flush=True)
    if not options.parts:
        head = PAGE.read_text(encoding="utf-8").partition("<!-- measured -->")[0]
        PAGE.write_text(head + "<!-- measured -->\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
