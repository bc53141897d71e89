"""Speed, side by side in one run, as ratios: what `make bench` prints and writes into docs/performance.md.

    python benchmarks/bench.py                       # everything
    python benchmarks/bench.py --quick               # without the ten thousand photos
    python benchmarks/bench.py engines command       # only some parts; the page stays as it is
    python benchmarks/bench.py --earlier CHECKOUT    # the command also against an earlier checkout
    python benchmarks/bench.py --side SIDE/bin/python   # also against open_clip and anomalib

Two ways to do the same are timed in turn, so that a change of the machine's load hits both; the ratio is that
of the medians, and its spread that of the single rounds. Weights of the CLIP shapes are random: time does not
depend on them. What cannot be measured stands in the table with the reason. How to make the environment of
``--side`` stands in benchmarks/anomalib_windows.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from sklearn.neural_network import MLPClassifier

import memory
import metrics
import text_embedding
import zeroflaw
from zeroflaw.detectors.heads import FNNTraining
from zeroflaw.detectors.network import train_fnn
from zeroflaw.detectors.opening import open_tower
from zeroflaw.errors import reason
from zeroflaw.export.tower import export_tower
from zeroflaw.lab.metrics import PixelMetrics
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
MARK, END = "<!-- measured -->", "<!-- end of what was measured -->"
ROUNDS = 5
SOME, MANY = 500, 10_000
PATIENCE = 600.0  # seconds for all of them


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: what, the two sides in seconds, and the ratio other / ours with its spread."""

    what: str
    ours: str
    other: str = ""
    ratio: str = ""


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
    one, two = map(statistics.median, times)
    return one, two, spread(*times)


def spread(ours: Sequence[float], other: Sequence[float]) -> str:
    """Return the ratio of the medians, other / ours, and the range of that of the rounds."""
    each = [b / a for a, b in zip(ours, other, strict=True)]
    ratio = statistics.median(other) / statistics.median(ours)
    return f"{ratio:.2f} ({min(each):.2f}–{max(each):.2f})"


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
                partial(tower.embed, some[:count], request),
                partial(reference.embed, some[:count], request),
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
            for what, count, request in (("encode 4", 4, plain), ("window maps of 1", 1, windows)):
                yield row(
                    f"{SHAPE}, {what}: openvino {dtype} / our torch",
                    partial(tower.embed, some[:count], request),
                    partial(backbone.embed, some[:count], request),
                    3,
                )


SIDE = """
import sys, time
import torch
try:
    torch.ops.torchvision.nms
except AttributeError:  # a build of torch for processors; declared, and not used
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
import open_clip
model = open_clip.create_model(sys.argv[1]).eval()
pixels = torch.randn(4, 3, model.visual.image_size[0], model.visual.image_size[1])
print("ready", flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    with torch.inference_mode():
        model.encode_image(pixels)
    print(time.perf_counter() - begin, flush=True)
"""


def side(python: Path | None) -> Iterator[Row]:
    """open_clip and anomalib, which live in an environment of their own."""
    whats = (f"{SHAPE}, encode 4: ours / open_clip", f"{SHAPE}, window maps: anomalib / ours")
    if python is None:
        for what in whats:
            yield Row(what, "skipped: no environment for it was given (--side)")
        return
    backbone, some = random_clip(), photos(4, 240)
    started = [str(python), "-c", SIDE, SHAPE.split("/")[0]]
    with subprocess.Popen(
        started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        if other.stdout.readline().strip() != "ready":
            yield Row(whats[0], f"skipped: {python} cannot import open_clip")
        else:
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(4):
                begin = time.perf_counter()
                backbone.embed(some, FeatureRequest())
                ours.append(time.perf_counter() - begin)
                print(file=other.stdin, flush=True)
                theirs.append(float(other.stdout.readline()))
            mine, other_one = (f"{1000 * statistics.median(times[1:]):.0f} ms" for times in (ours, theirs))
            yield Row(whats[0], mine, other_one, spread(ours[1:], theirs[1:]))  # the first warms both
        other.stdin.close()
    program = [str(python), str(ROOT / "benchmarks" / "anomalib_windows.py"), "--photos", "1", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        yield Row(whats[1], f"skipped: {done.stderr.strip().splitlines()[-1][:100]}")
        return
    times = json.loads(done.stdout)["seconds"]
    base = times.pop("anomalib float32")
    for name, spent in times.items():
        mine, other_one = (f"{statistics.median(values):.2f} s" for values in (spent, base))
        yield Row(f"{SHAPE}, window maps of 1: ours, {name} / anomalib", mine, other_one, spread(spent, base))


def text() -> Iterator[Row]:
    """Embedding text: against all 77 tokens of every prompt in transformers, and in half precision."""
    found = text_embedding.measure(
        1024, 128, 256, text_embedding.open_tokenizer(text_embedding.find_merges())
    )
    plain, count = float(found["seconds_plain"]), found["prompts"]  # type: ignore[arg-type]
    for dtype, key in (("float32", ""), ("bfloat16", "_bfloat16")):
        spent = float(found[f"seconds_ours{key}"])  # type: ignore[arg-type]
        yield Row(
            f"{SHAPE}, {count} prompts: ours {dtype} / transformers (128 of them, scaled up)",
            f"{spent:.1f} s",
            f"{plain:.1f} s",
            f"{plain / spent:.1f}",
        )


def learning() -> Iterator[Row]:
    """Pixel metrics and the training of the FNN, against scikit-learn."""
    made = [metrics.made_up(number, 256) for number in range(60)]

    def ours() -> None:
        found = PixelMetrics()
        for values, mask in made:
            found.update(values, mask)
        found.result()

    def theirs() -> None:
        values, masks = (np.concatenate([one[side].ravel() for one in made]) for side in (0, 1))
        roc_auc_score(masks, values)
        average_precision_score(masks, values)
        precision_recall_curve(masks, values)

    yield row("pixel metrics of 60 maps, ours with PRO / scikit-learn without", ours, theirs, 3)
    how, random = FNNTraining(epochs=3), np.random.default_rng(0)
    x = random.normal(size=(4000, 512)).astype(np.float32)
    x[2000:, :8] += 0.5
    y = np.repeat([0, 1], 2000)
    halves = torch.from_numpy(x[:2000]), torch.from_numpy(x[2000:])

    def perceptron() -> None:
        network = MLPClassifier(
            how.hidden, alpha=0, batch_size=how.batch_size, max_iter=how.epochs, tol=0, n_iter_no_change=99
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            network.fit(x, y)

    yield row(
        "training of the FNN, 4,000 x 512, 3 epochs: ours / scikit-learn",
        lambda: train_fnn(*halves, how, 0),
        perceptron,
        3,
    )


def command(earlier: Path | None) -> Iterator[Row]:
    """The command on one photo, and on many with and without pictures; processor time and wall."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        render_samples(place / "samples")
        drawings = sorted((place / "samples").rglob("*.png"))
        for number in range(SOME):
            drawing = drawings[number % len(drawings)]
            Image.open(drawing).convert("RGB").resize((512, 512)).save(place / f"{number:03}.jpg")
        sides = [Path(zeroflaw.__file__).parents[1]] + ([earlier / "src"] if earlier else [])
        drawn = ["-o", str(place / "out"), "--overwrite"]
        for what, arguments in (
            ("one photo", [str(place / "000.jpg")]),
            (f"{SOME} photos", [str(place / "*.jpg")]),
            (f"{SOME} photos, -o", [str(place / "*.jpg"), *drawn]),
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


_MEASURED = """
import runpy, sys
try: runpy.run_module("zeroflaw", run_name="__main__", alter_sys=True)
except SystemExit as stop: assert not stop.code, stop.code
lines = open("/proc/self/status").read().splitlines()  # getrusage counts what the parent had before exec
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024, file=sys.stderr)
"""


def sizes(earlier: Path | None) -> Iterator[Row]:
    """One JPEG of several sizes: time and peak memory of the command."""
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((512, 512), (2048, 2048), (4000, 3000), (8000, 6000)):
            path = Path(folder) / f"{width}.jpg"
            small = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
            Image.fromarray(small).resize((width, height)).save(path, quality=90)
            said, medians = [], []
            for source in [ROOT / "src"] + ([earlier / "src"] if earlier else []):
                spent, mebibytes = [], 0
                for _ in range(3):
                    begin = time.perf_counter()
                    done = subprocess.run(
                        [sys.executable, "-c", _MEASURED, "detect", str(path), "-q"],
                        env={**os.environ, "PYTHONPATH": str(source)},
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    spent.append(time.perf_counter() - begin)
                    mebibytes = int(done.stderr.split()[-1])
                medians.append(statistics.median(spent))
                said.append(f"{medians[-1]:.2f} s, {mebibytes} MiB")
            ratio = f"{medians[1] / medians[0]:.2f}" if earlier else ""
            what = f"detect, one JPEG of {width} x {height}, time and peak memory: this / earlier"
            yield Row(what, said[0], said[1] if earlier else "", ratio)


def many() -> Iterator[Row]:
    """Memory over ten thousand photos: the same few pictures under many names."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "photos").mkdir()
        for number, photo in enumerate(photos(20, 96)):
            Image.fromarray(photo).save(place / f"{number}.jpg")
        for number in range(MANY):
            (place / "photos" / f"{number:05}.jpg").hardlink_to(place / f"{number % 20}.jpg")
        with (place / "lines").open("w") as lines:
            process = subprocess.Popen(
                [sys.executable, "-m", "zeroflaw", "detect", str(place / "photos"), "-q"],
                stdout=lines,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
            begin, seen = time.perf_counter(), []
            while process.poll() is None and time.perf_counter() - begin < PATIENCE:
                seen.append((memory.done(place / "lines"), memory.resident(process.pid)))
                time.sleep(0.2)
            spent, stopped = time.perf_counter() - begin, process.poll() is None
            process.kill()
            process.wait()
        count = memory.done(place / "lines")
        if not stopped and (process.returncode or count != MANY):
            raise RuntimeError(f"the command ended with {process.returncode} after {count} photos")
    early = max(kib for done, kib in seen if done <= count // 10) / 1024
    late = max(kib for done, kib in seen if done > count // 2) / 1024
    yield Row(
        f"detect, {count:,} photos of 96 x 96 in {spent:.0f} s: memory in the first tenth / the second half",
        f"{early:.0f} MiB",
        f"{late:.0f} MiB",
        f"{late / early:.2f}",
    )


def machine() -> str:
    """Say in one line what was measured on."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*: (.+)", facts, re.M)
    flags = {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"} & set(facts.split())
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = ("torch", "onnxruntime", "openvino", "transformers", "scikit-learn", "numpy", "pillow")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{model[1] if model else platform.machine()} ({', '.join(sorted(flags))}), {os.cpu_count()} "
        f"processors, {size:.0f} GiB, {platform.system()}, Python {platform.python_version()}, {versions}, "
        f"{time.strftime('%Y-%m-%d')}; ratios are of one run, when it began with a load of {load}."
    )


PARTS = ("engines", "clip", "side", "text", "learning", "command", "sizes", "many")


def measured(name: str, options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of a part; where it fails, a row that says so."""
    found: dict[str, Callable[[], Iterator[Row]]] = {
        "engines": engines,
        "clip": clip,
        "side": partial(side, options.side),
        "text": text,
        "learning": learning,
        "command": partial(command, options.earlier),
        "sizes": partial(sizes, options.earlier),
        "many": many,
    }
    if name == "many" and options.quick:
        yield Row(f"detect, {MANY:,} photos: memory", "skipped: --quick")
        return
    try:
        yield from found[name]()
    except Exception as error:  # the other parts go on; main ends with an error
        options.failed.append(name)
        yield Row(name, f"failed: {reason(error).splitlines()[-1]}")


def write_page(lines: Sequence[str]) -> None:
    """Put what was measured between its marks in docs/performance.md."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE} must hold {MARK} and {END}; put them back")
    PAGE.write_text(f"{before}{MARK}\n\n" + "\n".join(lines) + f"\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure, print, and write the page where everything was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all of them where none is named")
    parser.add_argument("--earlier", type=Path, help="a checkout to compare the command with")
    parser.add_argument("--side", type=Path, help="a Python that has open_clip and anomalib")
    parser.add_argument("--quick", action="store_true", help=f"without {MANY:,} photos")
    options = parser.parse_args(namespace=argparse.Namespace(failed=[]))
    os.environ["ZEROFLAW_CACHE"] = "off"
    lines = [machine(), "", "| what | ours | other | ratio (spread) |", "|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for name in options.parts or PARTS:
        for found in measured(name, options):
            lines.append(f"| {found.what} | {found.ours} | {found.other} | {found.ratio} |")
            print(lines[-1], flush=True)
    if not options.parts:
        write_page(lines)
    if options.failed:
        raise SystemExit(f"these parts failed: {', '.join(options.failed)}")


if __name__ == "__main__":
    main()
