"""``zeroflaw doctor`` and ``zeroflaw export``: what they say, and what they refuse."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import run
from zeroflaw.runtime.onnx_engine import OnnxTower, shared_tower

OLD = os.environ.get("ONEDNN_MAX_CPU_ISA") == "SSE41"  # without AVX2 OpenVINO does not run


def test_doctor_examines_every_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["engines"]) == {"onnx", "openvino", "torch"}
    running = {name: said for name, said in found["engines"].items() if said["works"]}
    assert set(found["engines"]) - set(running) == ({"openvino"} if OLD else set())
    assert all(said["agrees"] and said["images a second"] > 0 for said in running.values())
    assert found["packages"]["numpy"] == np.__version__
    assert run("doctor") == 0
    assert "engine onnx: " in capsys.readouterr().out


def test_doctor_tells_of_wrong_answers_and_missing_engines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxTower, "answers", property(lambda self: np.zeros((3, 256), np.float32)))
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setenv("ZEROFLAW_CACHE", "off")
    shared_tower.cache_clear()
    assert run("doctor") == 4
    said = capsys.readouterr().out
    shared_tower.cache_clear()
    assert "engine onnx: " in said
    assert "GIVES OTHER ANSWERS" in said
    assert (
        "the engine openvino needs openvino, which is not installed; pip install 'zeroflaw[openvino]'" in said
    )
    assert "cache: off" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("export", "rwda", "-o", "{there}"), 2, "is there already"),
        (("export", "rwda", "-o", "{new}", "--size", "320"), 2, "--size is for a backbone"),
        (("export", "mini", "-o", "{new}", "--with-resize"), 2, "--with-resize is for a detector"),
        (("export", "mini", "-o", "{new}", "--int8", "{there}"), 2, "--int8 is for a detector"),
        (("export", "rwda", "-o", "{new}", "--int8", "{there}"), 2, "on at least 20 photos, got 1"),
        (("export", "mini", "-o", "{new}", "--size", "250"), 2, "multiple of 16"),
        (("export", "memory", "-o", "{new}"), 2, "must be fitted first"),
        (("export", "nothing", "-o", "{new}"), 4, "a backbone must be one of"),
    ],
)
def test_what_cannot_be_exported(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "there" / "photo.png")
    places = {"there": tmp_path / "there", "new": tmp_path / "new"}
    assert run(*(argument.format(**places) for argument in arguments)) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_exported_backbone_serves_a_detector(
    tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"local-dir:{tiny_backbone}"
    assert run("export", name, "-o", tmp_path / "tower", "-q") == 0
    assert run("fit", "--detector", "clip", "--backbone", name, "-o", tmp_path / "saved", "-q") == 0
    assert run("samples", tmp_path / "samples", "-q") == 0
    photo = next((tmp_path / "samples").rglob("*.png"))
    found = []
    for backbone in (name, f"local-dir:{tmp_path / 'tower'}"):
        capsys.readouterr()
        assert run("detect", photo, "--detector", tmp_path / "saved", "--backbone", backbone, "-q") == 0
        found.append(json.loads(capsys.readouterr().out)["logit"])
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_what_was_fitted_in_half_precision_judges_in_single(
    tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ("fit", "--detector", "clip", "--backbone", f"local-dir:{tiny_backbone}", "-q")
    assert run(*fit, "-o", tmp_path / "single") == 0
    assert run(*fit, "--set", "dtype=bfloat16", "-o", tmp_path / "half") == 0
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")

    def judged(*words: str | Path) -> float:
        capsys.readouterr()
        assert run("detect", tmp_path / "photo.png", "-q", "--detector", *words) == 0
        return float(json.loads(capsys.readouterr().out)["logit"])

    single, half = judged(tmp_path / "single"), judged(tmp_path / "half")
    moved = judged(tmp_path / "half", "--set", "dtype=float32")
    assert moved not in (single, half)  # words as they were fitted, the photo in all digits
    assert moved == pytest.approx(single, abs=0.5)
    assert run("detect", tmp_path / "photo.png", "--detector", tmp_path / "half", "--set", "seed=1") == 2
    assert "--set cannot change the saved detector" in capsys.readouterr().err
    assert run("detect", tmp_path / "photo.png", "--detector", tmp_path / "half", "--set", "dtype=int8") != 0
    assert "dtype" in capsys.readouterr().err
