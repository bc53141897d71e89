"""Fixtures that tests of several rooms share: a tiny random backbone, so that no test needs a download."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, trainers

import odd_addresses  # noqa: F401  # before the package imports readers by name
from short_fits import Workshop
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.catalogue import WeightsRecord
from zeroflaw.towers.configs import CLIPConfig, TextConfig, VisionConfig
from zeroflaw.towers.folder import save_folder
from zeroflaw.towers.model import CLIP
from zeroflaw.towers.tokenizer import END, START, WORD_END, Tokenizer

# Several test processes share few cores; threads that wait for each other cost more than they bring here.
torch.set_num_threads(1)

CORPUS = (
    "a photo of a flawless object without flaw or defect or damage for visual inspection in a factory "
    "a blurry bad good cropped bright dark low resolution image of the small large damaged broken scratch "
    "cracked perfect unblemished bottle cable capsule carpet grid hazelnut leather metal nut pill screw tile "
    "toothbrush transistor wood zipper there is something in this scene jpeg corrupted close up black white"
)


def tiny_config(*, aligned: bool = False, vocab_size: int = 1024) -> CLIPConfig:
    """Two blocks a tower, 32 wide, a 6 x 6 grid."""
    shape = {"width": 32, "layers": 2, "heads": 2, "mlp_width": 64}
    return CLIPConfig(
        embed_dim=24,
        vision=VisionConfig(image_size=48, patch_size=8, patch_projection=aligned, **shape),
        text=TextConfig(context_length=77, vocab_size=vocab_size, **shape),
    )


def random_model(config: CLIPConfig, seed: int = 0) -> CLIP:
    """Return a model with seeded random weights, large enough for the layers to matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = CLIP(config)
    model = model.to_empty(device="cpu")
    for name, tensor in model.state_dict().items():
        torch.nn.init.normal_(tensor, 0.0, _spread(name, tensor), generator=generator)
        if ".ln_" in name and name.endswith("weight"):
            tensor.add_(1.0)
    model.logit_scale.data.fill_(math.log(100))
    return model.eval().requires_grad_(False)


def _spread(name: str, tensor: torch.Tensor) -> float:
    return 0.1 if tensor.ndim < 2 or "ln_" in name else 1.5 * tensor[0].numel() ** -0.5


def write_clip_vocabulary(folder: Path, merges: int = 300) -> Path:
    """Train a few hundred merges and write vocab.json and merges.txt in CLIP's layout."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    encoder = tokenizers.Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    size = 2 * len(alphabet) + merges
    trainer = trainers.BpeTrainer(vocab_size=size, end_of_word_suffix=WORD_END, show_progress=False)
    encoder.train_from_iterator([CORPUS] * 4, trainer)
    pairs = json.loads(encoder.to_str())["model"]["merges"][:merges]
    tokens = [*alphabet, *(letter + WORD_END for letter in alphabet), *("".join(pair) for pair in pairs)]
    tokens = list(dict.fromkeys(tokens))
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _no_shared_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's own cache, and from the network."""
    monkeypatch.setenv("ZEROFLAW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def clip_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vocab.json and merges.txt of a few hundred merges."""
    return write_clip_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def _tiny_folder(folder: Path, vocabulary: Path, *, aligned: bool) -> Path:
    config = tiny_config(aligned=aligned)
    tokenizer = Tokenizer.read(vocabulary, context_length=config.text.context_length)
    record = WeightsRecord(name="tiny", licence="Apache-2.0", source="random numbers", revision="1")
    save_folder(folder, random_model(config), tokenizer, Preprocess(image_size=48), record)
    return folder


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory, clip_vocabulary: Path) -> Path:
    """A weights folder of a tiny random CLIP with a 6 x 6 grid; load it as ``local-dir:PATH``."""
    return _tiny_folder(tmp_path_factory.mktemp("weights") / "tiny", clip_vocabulary, aligned=False)


@pytest.fixture(scope="session")
def tiny_aligned_backbone(tmp_path_factory: pytest.TempPathFactory, clip_vocabulary: Path) -> Path:
    """The same with a projection of its own for patch tokens, as the bundled model has."""
    return _tiny_folder(tmp_path_factory.mktemp("weights") / "tiny-aligned", clip_vocabulary, aligned=True)


@pytest.fixture(scope="session")
def workshop(
    tiny_backbone: Path, tiny_aligned_backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> Workshop:
    """Makes detectors of every kind whose fits are short."""
    return Workshop(tiny_backbone, tiny_aligned_backbone, tmp_path_factory.mktemp("workshop"))
