"""``zeroflaw fit`` as a newcomer meets it: wrong flags, interrupted fits, odd files among the photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import run
from zeroflaw.detectors.promptstyler import PromptStyler

SHORT = ("--set", "n_styles=3", "--set", "style_iterations=1", "--set", "epochs=1")


@pytest.fixture
def styler(tiny_backbone: Path) -> list[str]:
    return ["fit", "--detector", "promptstyler", "--backbone", f"local-dir:{tiny_backbone}", *SHORT]


@pytest.fixture
def interrupted(styler: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder of a fit that was interrupted after its first style."""
    learn, calls = PromptStyler._learn_style, []

    def stop(self: PromptStyler, *arguments: object) -> object:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return learn(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(PromptStyler, "_learn_style", stop)
        assert run(*styler, "-o", tmp_path / "out") == 130
    return tmp_path / "out"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--set", "bogus=1"],
        ["--set", "n_styles=0"],
        ["--set", "epochs=many"],
        ["--reference", "photos"],
        ["--normal", "{"],
    ],
)
def test_a_wrong_flag_does_not_cost_an_interrupted_fit(
    wrong: list[str], interrupted: Path, styler: list[str]
) -> None:
    checkpoint = interrupted.with_name("out.checkpoint")
    before = checkpoint.read_bytes()
    assert run(*styler, "--restart", *wrong, "-o", interrupted) == 2
    assert checkpoint.read_bytes() == before


def test_the_same_command_goes_on_and_another_one_is_refused(
    interrupted: Path, styler: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = interrupted.with_name("out.checkpoint")
    assert run(*styler, "--seed", "1", "-o", interrupted) == 2
    assert "belongs to a fit with other values of seed" in capsys.readouterr().err
    assert checkpoint.exists()
    assert run(*styler, "-o", interrupted) == 0
    assert not checkpoint.exists()
    assert run(*styler, "-o", tmp_path / "whole") == 0
    for name in ("head.safetensors", "words.json", "config.json"):
        assert (interrupted / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_files_beside_reference_photos_are_named(
    tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(picture).save(photos / "good.png")
    (photos / "notes.txt").write_text("all of them are good")
    fit = ["fit", "--detector", "winclip-plus", "--backbone", f"local-dir:{tiny_backbone}"]
    assert run(*fit, "--reference", photos, "-o", tmp_path / "one") == 0
    said = capsys.readouterr().err
    assert "notes.txt: skipped, it is not an image file" in said
    assert "1 photo taken for good products" in said
    assert "Images seen: 1 photo of good products" in (tmp_path / "one" / "README.md").read_text()
    assert run(*fit, "--reference", photos, "-o", tmp_path / "two", "--quiet") == 0
    assert capsys.readouterr().err == ""
