"""Golden outputs: what every verb says of rendered samples with the bundled model, written to JSON files.

    python tests/golden/make.py                # writes all files beside this one
    python tests/golden/make.py evaluate fit-clip   # only some parts

It goes through the command line and the public names of ``zeroflaw`` alone, so that it runs on any edition of
the package: whatever is moved or rewritten inside, the outputs must stay. Parts that change on purpose are
listed in ``expected_to_change.json`` with the reason, until they are made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import runpy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

import zeroflaw

HERE = Path(__file__).parent
PRODUCTS = ("disk", "plate")
JUDGED = tuple(f"set/{product}/test/{kind}/000.png" for product in PRODUCTS for kind in ("good", "flawed"))
FEW_PAIRS = ("--set", "n_pairs=200", "--set", "epochs=4")
FEW_STYLES = ("--set", "n_styles=6", "--set", "style_iterations=4", "--set", "epochs=4")
FEW_WORDS = (
    *("--set", "n_diversity=6", "--set", "n_distribution=8", "--set", "steps=6"),
    *("--set", "word_batch=8", "--set", "compared=4", "--set", "epochs=4", "--set", "least_order=0"),
)
REFERENCES = ("--reference", "set/disk/test/good/002.png", "--reference", "set/disk/test/good/003.png")
AUXILIARY = ("--auxiliary", "auxiliary")

# Every preset that the bundled model can serve; the bundled detector `rwda` is a part of its own.
DETECTORS: Mapping[str, tuple[str, ...]] = {
    **{f"rwda-{head}": FEW_PAIRS for head in ("fnn", "mean-difference", "logistic", "lda")},
    **{f"clip{kind}": () for kind in ("", "-ac", "-ac-templates", "-ensemble")},
    **{f"winclip{kind}": () for kind in ("", "-anomalib", "-zqhang", "-caoyunkang", "-mala")},
    **{f"winclip-plus{kind}": REFERENCES for kind in ("", "-anomalib", "-caoyunkang", "-mala")},
    **{f"shift-words{kind}": FEW_WORDS for kind in ("", "-k2", "-k3", "-diversity", "-no-distribution")},
    "promptstyler": FEW_STYLES,
    "anomalyclip": (*AUXILIARY, "--set", "epochs=1", "--set", "n_ctx=4", "--set", "deep_depth=2"),
    "acr": (*AUXILIARY, "--set", "iterations=2", "--set", "tasks=2", "--set", "shots=4"),
}
# Options that presets do not show.
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "rwda+known-object": ("rwda", *FEW_PAIRS, "--object", "metal_nut"),
    "rwda+own-words": ("rwda", *FEW_PAIRS, "--normal", "intact", "--anomalous", "{} with a dent"),
    "rwda+windows": ("rwda", *FEW_PAIRS, "--set", "map_from=windows", "--set", "window_sizes=2,4"),
    "rwda+fusion-b": ("rwda", *FEW_PAIRS, "--set", "fusion=B", "--seed", "7"),
    "clip+known-object": ("clip", "--object", "metal nut"),
    "winclip+known-object": ("winclip", "--object", "metal_nut"),
    "promptstyler+fusion": ("promptstyler", *FEW_STYLES, "--set", "fusion=style=0.5,prompt_part=0.5"),
}


def run(*arguments: object) -> str:
    """Run the command in this process and return what it prints; a failure is an error."""
    raw, before = io.BytesIO(), sys.argv
    out = io.TextIOWrapper(raw, encoding="utf-8")
    sys.argv = ["zeroflaw", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_module("zeroflaw", run_name="__main__", alter_sys=False)
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"{' '.join(sys.argv)} ended with {stop.code}") from stop
    finally:
        sys.argv = before
    out.flush()
    return raw.getvalue().decode()


def rounded(value: Any) -> Any:
    """Return a JSON value with numbers of seven digits, which keeps the files small."""
    if isinstance(value, float | np.floating):
        return float(f"{value:.7g}")
    if isinstance(value, Mapping):
        return {str(key): rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return value


def lines(text: str) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


# What is measured, each in a folder with the samples in it.


def prepare() -> None:
    """Draw two products into the current folder, and an auxiliary data set of two more; render the samples.

    The products are drawn with whole numbers alone: rendered samples differ between processors by a grey
    level here and there, and a detector that judges batches shows it.
    """
    for seed, product in enumerate(PRODUCTS):
        _draw(Path("set", product), seed, good=6, flawed=6)
    for seed, product in enumerate(("gear", "washer"), 7):
        _draw(Path("auxiliary", product), seed, good=2, flawed=2, train=4)
    run("samples", "samples", "-q")


def _draw(folder: Path, seed: int, *, good: int, flawed: int, train: int = 0) -> None:
    random = np.random.default_rng(seed)
    for kind, count in (("train/good", train), ("test/good", good), ("test/flawed", flawed)):
        for number in range(count):
            picture, mask = _picture(seed, random, flawed=kind == "test/flawed")
            _save(picture, folder / kind / f"{number:03}.png")
            if mask.any():
                _save(mask, folder / f"ground_truth/flawed/{number:03}_mask.png")


def _save(pixels: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _picture(seed: int, random: np.random.Generator, *, flawed: bool) -> tuple[Any, Any]:
    """Draw a grained disk or plate, with a scratch or a stain where it is flawed, and the mask of that."""
    y, x = np.mgrid[:160, :176].astype(np.int64)
    from_centre = (y - 80) ** 2 + (x - 88 - random.integers(-3, 4)) ** 2
    body = from_centre < 64**2 if seed % 2 == 0 else np.maximum(abs(y - 80), abs(x - 88)) < 60
    grain = random.integers(-6, 7, (160, 176))
    tint = np.array([150, 130, 110]) + random.integers(-4, 5, 3) + 9 * seed
    inside = tint + (from_centre // 400 + grain)[..., None] + 12 * ((x // 16 + y // 16) % 2)[..., None]
    picture = np.where(body[..., None], inside, 60 + y[..., None] // 4)
    mask = np.zeros((160, 176), dtype=bool)
    if flawed:
        top, left, slope = random.integers(50, 90, 3)
        scratch = abs((x - left) * (slope - 70) - (y - top) * 20) < 45
        stain = (y - top) ** 2 + 2 * (x - left) ** 2 < 140
        mask = (scratch & (abs(y - top) < 20) if random.integers(2) else stain) & body
        picture = np.where(mask[..., None], picture // 3 + np.array([30, 15, 0]), picture)
    return picture.clip(0, 255).astype(np.uint8), 255 * mask.astype(np.uint8)


def judged(detector: Any, images: list[str]) -> dict[str, Any]:
    """Predict, with maps."""
    return {
        Path(p.source).as_posix(): {
            "score": p.score,
            "logit": p.logit,
            "scores": dict(p.scores),
            "map": {
                "shape": list(p.map.shape),
                "mean": p.map.mean(dtype=np.float64),
                "max": p.map.max(),
                "corners": [p.map[y, x] for y in (0, -1) for x in (0, -1)],
            },
        }
        for p in detector.predict(images, maps=True)
    }


def fitted(preset: str, *options: str) -> dict[str, Any]:
    """Fit through the command, load what it saved, and predict."""
    run("fit", "--detector", preset, *options, "-o", "fitted", "-q", "--overwrite")
    whole = sorted(path.as_posix() for path in Path("set/plate/test").rglob("*.png"))
    found = judged(zeroflaw.load("fitted"), whole if preset == "acr" else list(JUDGED))
    return dict(list(found.items())[:4])


def bundled() -> dict[str, Any]:
    """Predict with the bundled detector: from Python, and from the command."""
    return {
        "predict": judged(zeroflaw.load("rwda"), list(JUDGED)),
        "detect": [
            {**row, "source": Path(row["source"]).as_posix()}
            for row in lines(run("detect", *JUDGED, "--threshold", "0.5", "-q"))
        ],
    }


def evaluate() -> list[dict[str, Any]]:
    """Measure two detectors, clean and under one corruption."""
    which = ["--detector", "rwda", "--detector", "winclip"]
    shifts = ["--corruption", "none", "--corruption", "gaussian_noise:3"]
    run("evaluate", "set", *which, *shifts, "--bootstrap", "50", "-o", "evaluated", "-q")
    return _rows("evaluated")


def benchmark() -> list[dict[str, Any]]:
    """Run a tiny grid: a sweep, two seeds, references, known objects."""
    Path("grid.toml").write_text(
        'title = "Tiny"\nseeds = [0, 1]\n[[datasets]]\nroot = "set"\ncategories = ["disk"]\n'
        '[[detectors]]\nname = "rwda"\nparameters = {epochs = 1}\nsweep = {n_pairs = [20, 40]}\n'
        '[[detectors]]\nname = "clip"\nobject = "known"\nseeds = [0]\n',
        encoding="utf-8",
    )
    run("benchmark", "grid.toml", "-o", "measured", "-q")
    return _rows("measured")


_KEPT = (
    *("dataset", "category", "detector", "label", "seed", "corruption", "object", "images", "anomalous"),
    *("unreadable", "without_mask", "image_auroc", "image_aupr", "image_aupr_trapezoid", "image_f1max"),
    *("image_auroc_interval", "pixel_auroc", "pixel_aupr", "pixel_f1max", "pixel_pro"),
)


def _rows(folder: str) -> list[dict[str, Any]]:
    rows = json.loads(Path(folder, "metrics.json").read_text(encoding="utf-8"))["rows"]
    return [{name: row[name] for name in _KEPT if name in row} for row in rows]


def corrupt() -> dict[str, Any]:
    """Corrupt a picture in every way: the digest of the pixels, from Python and from the command."""
    names = ("brightness", "contrast", "defocus_blur", "gaussian_noise")
    picture = zeroflaw.read_image(JUDGED[1])
    flags = [flag for name in names for flag in ("--corruption", name)]
    run("corrupt", "set/disk/test/flawed", "corrupted", *flags, "--severity", "2", "--seed", "5", "-q")
    written = sorted(Path("corrupted").rglob("*.png"))
    return {
        "python": {
            f"{name}-{severity}": _digest(zeroflaw.corrupt(picture, name, severity, seed=1, key="x"))
            for name in names
            for severity in range(1, 6)
        },
        "command": {
            path.relative_to("corrupted").as_posix(): _digest(zeroflaw.read_image(path)) for path in written
        },
    }


def _digest(pixels: Any) -> str:
    return hashlib.sha256(np.asarray(pixels).tobytes()).hexdigest()


def samples() -> dict[str, Any]:
    """Render products: the mean of each channel of some of the pictures, and the pixels of their masks."""
    files = sorted(Path("samples").rglob("000*.png"))
    return {path.as_posix(): np.asarray(Image.open(path)).mean((0, 1)).tolist() for path in files}


def listed(verb: str) -> list[dict[str, Any]]:
    """List data sets, detectors or models; summaries are sentences that may be said better."""
    rows = lines(run(verb, "--json"))
    return [{key: value for key, value in row.items() if key != "summary"} for row in rows]


def convert() -> dict[str, Any]:
    """Convert a tiny random CLIP in the layout of Hugging Face, and predict with it."""
    _write_hugging_face(Path("theirs"))
    run("convert", "theirs", "ours", "-q")
    options = ("--backbone", "local-dir:ours")
    return {
        "clip": fitted("clip", *options),
        "winclip": fitted("winclip", *options),
        "rwda": fitted("rwda", *options, *FEW_PAIRS),
        "winclip-plus": fitted("winclip-plus", *options, *REFERENCES),
    }


def _write_hugging_face(folder: Path) -> None:
    """Write seeded random weights, 32 wide, two blocks a tower, a 6 x 6 grid, a vocabulary of bytes."""
    names, merges = _vocabulary()
    width, blocks, words = 32, 2, len(names)
    shapes: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "text_projection.weight": (24, width),
        "visual_projection.weight": (24, width),
        "text_model.embeddings.token_embedding.weight": (words, width),
        "text_model.embeddings.position_embedding.weight": (77, width),
        "vision_model.embeddings.class_embedding": (width,),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 8, 8),
        "vision_model.embeddings.position_embedding.weight": (37, width),
    }
    layers = {"self_attn.k_proj": (width, width), "self_attn.v_proj": (width, width)}
    layers |= {"self_attn.q_proj": (width, width), "self_attn.out_proj": (width, width)}
    layers |= {"mlp.fc1": (2 * width, width), "mlp.fc2": (width, 2 * width)}
    norms = ["text_model.final_layer_norm", "vision_model.pre_layrnorm", "vision_model.post_layernorm"]
    for tower in ("text_model", "vision_model"):
        for number in range(blocks):
            block = f"{tower}.encoder.layers.{number}"
            norms += [f"{block}.layer_norm1", f"{block}.layer_norm2"]
            for name, shape in layers.items():
                shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
    shapes |= {f"{norm}.{kind}": (width,) for norm in norms for kind in ("weight", "bias")}
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in sorted(shapes.items()):
        drawn = random.standard_normal(shape) * (0.1 if len(shape) < 2 else np.prod(shape[1:]) ** -0.5)
        weights[name] = np.asarray(drawn + (name in [f"{norm}.weight" for norm in norms]), dtype=np.float32)
    weights["logit_scale"] = np.array(4.6052, dtype=np.float32)
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tower = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": blocks}
    tower |= {"num_attention_heads": 2, "hidden_act": "quick_gelu"}
    text = {"vocab_size": words, "max_position_embeddings": 77}
    text |= {"bos_token_id": words - 2, "eos_token_id": words - 1}
    config = {
        "model_type": "clip",
        "projection_dim": 24,
        "vision_config": {**tower, "image_size": 48, "patch_size": 8},
        "text_config": {**tower, **text},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    images = {"do_resize": True, "size": {"shortest_edge": 48}, "do_center_crop": True, "resample": 3}
    images |= {"crop_size": {"height": 48, "width": 48}, "do_normalize": True, "do_rescale": True}
    images |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    numbered = {name: number for number, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(numbered), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def _vocabulary() -> tuple[list[str], list[str]]:
    """Return tokens and merges: every byte, and what leads to some words of the usual prompts."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in (*printable, *range(256, 512 - len(printable)))]
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in ("photo", "the", "for", "visual", "inspection", "cropped", "object", "normal", "damaged"):
        for end in range(2, len(word) + 1):
            last = word[end - 1] + ("</w>" if end == len(word) else "")
            merges.append(f"{word[: end - 1]} {last}")
            names.append(word[: end - 1] + last)
    merges = list(dict.fromkeys(merges))
    return [*dict.fromkeys(names), "<|startoftext|>", "<|endoftext|>"], merges


PARTS: Mapping[str, Callable[[], Any]] = {
    "bundled": bundled,
    "evaluate": evaluate,
    "benchmark": benchmark,
    "corrupt": corrupt,
    "samples": samples,
    "convert": convert,
    **{verb: (lambda verb=verb: listed(verb)) for verb in ("datasets", "detectors", "models")},
    **{f"fit-{name}": (lambda n=name, o=options: fitted(n, *o)) for name, options in DETECTORS.items()},
    **{f"fit-{name}": (lambda o=options: fitted(*o)) for name, options in VARIANTS.items()},
}


def measure(part: str) -> Any:
    """Return one part of the outputs, rounded, in a current folder that was prepared."""
    return rounded(PARTS[part]())


def main(parts: list[str]) -> None:
    """Measure parts, or all, and write their files."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare()
        for part in parts or PARTS:
            start = time.perf_counter()
            text = json.dumps(measure(part), ensure_ascii=False, indent=1)
            (HERE / f"{part}.json").write_text(text + "\n", encoding="utf-8")
            print(part, f"{time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
