"""An exported tower gives what torch gives, on every engine, and says what is wrong with its folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import zeroflaw
from zeroflaw.detectors.opening import exported, open_tower
from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.export.tower import export_tower
from zeroflaw.runtime import onnx_engine
from zeroflaw.runtime.features import FeatureRequest, ImageFeatures
from zeroflaw.runtime.onnx_engine import BUNDLED, RECORD, EngineName, OnnxTower
from zeroflaw.runtime.tower import ImageTower, default_sizes, embed
from zeroflaw.towers.weights import load_backbone

# OpenVINO needs instructions that the processor has, or that are told to be there.
OLD = os.environ.get("ONEDNN_MAX_CPU_ISA") == "SSE41"
# It takes half precision by what the processor has, whatever it was told.
NO_HALF = "ONEDNN_MAX_CPU_ISA" in os.environ
ENGINES: tuple[EngineName, ...] = ("onnx",) if OLD else ("onnx", "openvino")


@pytest.fixture(scope="module")
def tiny(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageTower, Path]:
    """A CLIP without a stem, and its export."""
    folder = tmp_path_factory.mktemp("exported") / "tower"
    backbone = load_backbone(f"local-dir:{tiny_backbone}", device="cpu")
    export_tower(backbone, folder)
    return backbone, folder


def pictures(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (90 + 30 * n, 200, 3), np.uint8) for n in range(count)]


def assert_same(one: ImageFeatures, other: ImageFeatures) -> None:
    close = {"atol": 1e-4, "rtol": 1e-4}
    assert one.grid == other.grid
    np.testing.assert_allclose(other.image, one.image, **close)
    if one.patches is not None:
        assert other.patches is not None
        np.testing.assert_allclose(other.patches, one.patches, **close)
    for name in ("windows", "layers", "patch_features"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_allclose(theirs[key], ours[key], **close)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [1, 3])
def test_the_bundled_tower_is_that_of_the_bundled_weights(engine: EngineName, count: int) -> None:
    backbone, tower = load_backbone("mini", device="cpu"), OnnxTower(BUNDLED, engine)
    request = FeatureRequest(
        windows=((2, 1), (3, 2)), patches=True, layers=(1, 3), patch_sizes=default_sizes(tower)
    )
    assert_same(backbone.embed(pictures(count), request), tower.embed(pictures(count), request))
    for name in ("sha256", "fingerprint", "licence", "embed_dim", "image_size", "patch_size", "layers"):
        assert getattr(tower, name) == getattr(backbone, name), f"export the bundled tower again: {name}"
    assert (tower.width, tower.patch_width) == (backbone.width, backbone.patch_width)
    assert (tower.has_aligned_patches, tower.name) == (True, "mini")
    assert tower.grid == backbone.grid


@pytest.mark.parametrize("engine", ENGINES)
def test_a_clip_without_a_stem(tiny: tuple[ImageTower, Path], engine: EngineName) -> None:
    backbone, folder = tiny
    tower = OnnxTower(folder, engine)
    for sizes in (default_sizes(backbone), (default_sizes(backbone)[1],), ()):
        request = FeatureRequest(windows=((2, 1),), patches=True, layers=(2,), patch_sizes=sizes)
        assert_same(backbone.embed(pictures(3), request), tower.embed(pictures(3), request))


def test_tiles_are_embedded_one_by_one(tiny: tuple[ImageTower, Path]) -> None:
    backbone, folder = tiny
    request = FeatureRequest(patches=True, tile=True, patch_sizes=default_sizes(backbone)[:1])
    found = embed(OnnxTower(folder), pictures(2), request)
    assert len(found.image) == 5  # 90 x 200: three tiles; 120 x 200: two
    assert len(found.patch_features[default_sizes(backbone)[0]]) == 2
    assert_same(embed(backbone, pictures(2), request), found)


@pytest.mark.skipif(NO_HALF, reason="OpenVINO does not run bfloat16 without AVX-512")
def test_openvino_in_half_precision_is_near() -> None:
    request = FeatureRequest(patches=True)
    exact, half = OnnxTower(BUNDLED), OnnxTower(BUNDLED, "openvino", "bfloat16")
    difference = np.abs(exact.embed(pictures(2), request).image - half.embed(pictures(2), request).image)
    assert difference.max() < 0.1


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / RECORD).unlink(), "does not exist"),
        (lambda folder: (folder / RECORD).write_text("[]"), "must hold a JSON object"),
        (lambda folder: _set(folder, schema=99), "has schema 99"),
        (lambda folder: _set(folder, layers=0), "layers"),
        (lambda folder: (folder / "blocks.onnx").unlink(), "blocks.onnx"),
        (lambda folder: (folder / "blocks.onnx").write_bytes(b"x"), "is damaged"),
        (lambda folder: (folder / "tables.safetensors").write_bytes(b"x"), "is damaged"),
    ],
)
def test_a_damaged_folder_is_refused(
    tiny: tuple[ImageTower, Path], tmp_path: Path, harm: object, said: str
) -> None:
    folder = tmp_path / "tower"
    shutil.copytree(tiny[1], folder)
    harm(folder)  # type: ignore[operator]
    with pytest.raises(WeightsError, match=said):
        OnnxTower(folder).embed(pictures(1), FeatureRequest())


def test_a_graph_that_no_engine_can_run_is_refused(tiny: tuple[ImageTower, Path], tmp_path: Path) -> None:
    folder = tmp_path / "tower"
    shutil.copytree(tiny[1], folder)
    (folder / "blocks.onnx").write_bytes(b"not a graph")
    record = json.loads((folder / RECORD).read_text())
    digest = hashlib.sha256(b"not a graph").hexdigest()
    record["sha256_of_files"]["blocks.onnx"] = digest
    (folder / RECORD).write_text(json.dumps(record))
    for engine in ENGINES:
        with pytest.raises(WeightsError, match=f"cannot be run by {engine}"):
            OnnxTower(folder, engine).embed(pictures(1), FeatureRequest())


def _set(folder: Path, **changes: object) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, **changes}))


def test_an_interrupt_while_an_engine_is_imported_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> object:
        raise ImportError("initialization failed") from KeyboardInterrupt()  # as extension modules say it

    monkeypatch.setattr(onnx_engine, "open_onnx", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(OnnxTower(BUNDLED), [np.zeros((16, 16, 3), np.uint8)], FeatureRequest())


def test_parts_of_a_batch_at_the_same_time_say_what_one_batch_says() -> None:
    wanted = FeatureRequest(patches=True, windows=((2, 1),), patch_sizes=(64, 240))
    one, several = (OnnxTower(BUNDLED, threads=count) for count in (1, 3))
    expected, found = embed(one, pictures(5), wanted), embed(several, pictures(5), wanted)
    assert (list(one._shares), list(several._shares)) == ([], [1])
    np.testing.assert_allclose(found.image, expected.image, atol=1e-5)
    np.testing.assert_allclose(found.patches, expected.patches, atol=1e-5)
    np.testing.assert_allclose(found.windows[2, 1], expected.windows[2, 1], atol=1e-5)
    for size in wanted.patch_sizes:
        np.testing.assert_allclose(found.patch_features[size], expected.patch_features[size], atol=1e-5)


def test_patches_alone_leave_out_most_of_a_tower() -> None:
    wanted = FeatureRequest(patch_sizes=(64, 240))
    whole, some = (OnnxTower(BUNDLED, threads=1) for _ in range(2))
    expected = embed(whole, pictures(2), wanted)
    found = embed(some, pictures(2), replace(wanted, image=False))
    assert found.image.shape == (2, 0)
    assert (set(whole._open), set(some._open)) == ({"stem", "tokens", "blocks"}, {"stem"})
    for size in wanted.patch_sizes:
        np.testing.assert_allclose(found.patch_features[size], expected.patch_features[size], atol=1e-5)


def test_an_engine_that_fails_while_it_runs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes, dtype: str, threads: int | None) -> onnx_engine.Graph:
        def run(inputs: object, outputs: object) -> list[np.ndarray]:
            raise RuntimeError("first line\nno such instruction")

        return run

    monkeypatch.setattr(onnx_engine, "open_onnx", broken)
    with pytest.raises(UsageError, match=r"onnx cannot run the graphs of mini.*no such instruction.*doctor"):
        OnnxTower(BUNDLED).embed(pictures(1), FeatureRequest())


SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
from zeroflaw.errors import UsageError
from zeroflaw.runtime.features import FeatureRequest
from zeroflaw.runtime.onnx_engine import BUNDLED, OnnxTower

tower, picture = OnnxTower(BUNDLED, sys.argv[1]), np.zeros((32, 32, 3), np.uint8)
tower.embed([picture], FeatureRequest())
lines = open("/proc/self/status").read().splitlines()
used = next(int(line.split()[1]) for line in lines if line.startswith("VmSize")) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)
try:
    tower.embed([picture] * 60, FeatureRequest())
except UsageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by Linux's means")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_shortage_of_memory_is_told_as_such(engine: EngineName) -> None:
    program = [sys.executable, "-c", SHORT_OF_MEMORY, engine]
    said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert re.match(r"there is not enough memory to run mini on \d+ photos or windows at a time", said), said
    assert "engine" not in said


def test_what_was_not_exported_is_refused(tiny: tuple[ImageTower, Path], tiny_backbone: Path) -> None:
    backbone, folder = tiny
    with pytest.raises(UsageError, match=r"exported for photos of .* pixels, got \d+; export it again"):
        OnnxTower(folder).embed(pictures(1), FeatureRequest(patch_sizes=(backbone.patch_size * 5,)))
    with pytest.raises(UsageError, match="counted from 1 to"):
        OnnxTower(folder).embed(pictures(1), FeatureRequest(layers=(99,)))
    with pytest.raises(UsageError, match="computes in float32"):
        OnnxTower(folder, "onnx", "bfloat16")
    name = f"local-dir:{tiny_backbone}"
    with pytest.raises(UsageError, match=r"was not exported.*zeroflaw export local-dir:"):
        open_tower(name, "onnx", "auto", "float32")
    assert exported("local-dir:~nosuchuser/x") is None
    with pytest.raises(UsageError, match="runs on processors, not on cuda"):
        open_tower("mini", "onnx", "cuda", "float32")
    assert isinstance(open_tower(f"local-dir:{folder}", "auto", "auto", "float32"), OnnxTower)


def test_a_saved_detector_runs_on_the_export_of_its_backbone(
    tiny: tuple[ImageTower, Path], tiny_backbone: Path, tmp_path: Path
) -> None:
    fitted = zeroflaw.ClipPair(backbone=f"local-dir:{tiny_backbone}", device="cpu").fit()
    fitted.save(tmp_path / "saved")
    moved = zeroflaw.load(tmp_path / "saved", backbone=f"local-dir:{tiny[1]}")
    wanted = [p.logit for p in fitted.predict(pictures(2), maps=True)]
    assert [p.logit for p in moved.predict(pictures(2), maps=True)] == pytest.approx(wanted, abs=1e-3)


PROGRAM = """
import sys
sys.modules["torch"] = None  # an import of it fails
import numpy as np, zeroflaw
random = np.random.default_rng(0)
good = [random.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(5)]
assert zeroflaw.detect(good[0], maps=True).map is not None
memory = zeroflaw.Memory().fit(reference=good)
memory.save(sys.argv[1])
assert zeroflaw.load(sys.argv[1]).predict([good[0]]).__next__().label is not None
assert len(list(zeroflaw.Mutual().fit().predict(good))) == 5
for folder in sys.argv[2:]:  # text-trained detectors, whose modules train on torch
    loaded = zeroflaw.load(folder)
    found = next(iter(loaded.predict([good[0]], maps=True)))
    assert found.map is not None and found.logit, folder
    try:
        loaded.fit()
    except zeroflaw.UsageError as error:
        assert "pip install" in str(error), error
    else:
        raise AssertionError("it was fitted without torch")
try:
    zeroflaw.RWDA(normal=("fine",)).fit()
except zeroflaw.UsageError as error:
    assert "pip install 'zeroflaw[fit]'" in str(error), error
else:
    raise AssertionError("it was fitted without torch")
"""


def test_scoring_memories_and_folders_need_no_torch(tmp_path: Path) -> None:
    fitted = {
        "styles": zeroflaw.PromptStyler(n_styles=2, style_iterations=1, epochs=1),
        "words": zeroflaw.ShiftWords(
            n_diversity=2, n_distribution=3, steps=1, word_batch=2, compared=2, epochs=1, least_order=0
        ),
        "winclip": zeroflaw.WinCLIP(),
    }
    for name, detector in fitted.items():
        detector.fit().save(tmp_path / name)
    folders = [str(tmp_path / name) for name in ("saved", *fitted)]
    program = [sys.executable, "-c", PROGRAM, *folders]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
