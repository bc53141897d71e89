"""Checkpoints of interrupted fits: whole, their own, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zeroflaw.detectors.training import Checkpoint
from zeroflaw.errors import DetectorError, UsageError


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoint:
    """A checkpoint of a fit with seed 0."""
    checkpoint = Checkpoint(tmp_path / "fit.checkpoint", {"seed": 0})
    checkpoint.save({"styles": torch.arange(6.0).reshape(2, 3), "epoch": torch.tensor(4)})
    return checkpoint


def rewrite(path: Path, tensors: dict[str, torch.Tensor], **said: str) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    save_file(tensors, path, metadata={**metadata, **said})


def test_what_was_kept_comes_back(kept: Checkpoint) -> None:
    found = kept.load()
    assert found is not None
    assert torch.equal(found["styles"], torch.arange(6.0).reshape(2, 3))
    assert int(found["epoch"]) == 4
    kept.remove()
    assert kept.load() is None


def test_every_flipped_bit_is_found(kept: Checkpoint) -> None:
    whole = kept.path.read_bytes()
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 4
        kept.path.write_bytes(data)
        with pytest.raises(DetectorError, match=r"damaged|cannot be read|no checkpoint"):
            kept.load()


def test_a_changed_missing_or_new_tensor_is_found(kept: Checkpoint) -> None:
    tensors = load_file(kept.path)
    for changed in (
        {**tensors, "epoch": torch.tensor(5)},
        {"epoch": tensors["epoch"]},
        {**tensors, "more": torch.ones(1)},
        {**tensors, "styles": tensors["styles"].reshape(3, 2)},
    ):
        rewrite(kept.path, changed)
        with pytest.raises(DetectorError, match=r"is damaged.*delete it to start again"):
            kept.load()


def test_an_identity_that_was_edited_is_found(kept: Checkpoint) -> None:
    rewrite(kept.path, load_file(kept.path), **{"zeroflaw-checkpoint": "no JSON"})
    with pytest.raises(DetectorError, match="is damaged"):
        kept.load()


def test_another_fit_is_named(kept: Checkpoint) -> None:
    with pytest.raises(UsageError, match="other values of epochs, seed; delete it"):
        Checkpoint(kept.path, {"seed": 1, "epochs": 2}).load()


def test_other_files_are_no_checkpoint(kept: Checkpoint) -> None:
    save_file({"x": torch.ones(1)}, kept.path, metadata={"other": json.dumps({})})
    with pytest.raises(DetectorError, match="is no checkpoint of a fit"):
        kept.load()
