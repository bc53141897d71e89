"""The loop in which something is learned: interrupted fits go on to the same end, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from zeroflaw.detectors.training import Checkpoint, Learning, epoch
from zeroflaw.errors import DetectorError, UsageError

IDENTITY = {"seed": 0, "weights": "abc"}


def learn(path: Path | None = None, *, stop: int = 99, factor: float = 1.0, **settings: Any) -> Tensor:
    """Learn seven numbers from noisy copies of their target, in six rounds; stop before a round."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(7, generator=generator).requires_grad_()
    fixed = torch.arange(7.0)
    learning = Learning(
        {"vectors": vectors, "fixed": fixed},
        lambda moving: torch.optim.Adam(moving, lr=0.1),
        generator,
        seed=0,
    )

    def one() -> None:
        if learning.done == stop:
            raise KeyboardInterrupt
        noisy = fixed + torch.randn(7, generator=generator)
        learning.step({"distance": factor * (vectors - noisy).square().sum(), "size": vectors.norm()})

    checkpoint = None if path is None else Checkpoint(path, IDENTITY)
    learning.run(6, one, checkpoint=checkpoint, **settings)
    return vectors.detach()


@pytest.mark.parametrize(("every", "stop"), [(1, 1), (1, 5), (2, 3), (4, 3)])
def test_an_interrupted_fit_ends_with_the_same_bytes(every: int, stop: int, tmp_path: Path) -> None:
    path, told = tmp_path / "kept", []
    with pytest.raises(KeyboardInterrupt):
        learn(path, stop=stop, every=every)
    found = learn(path, every=every, progress=lambda *step: told.append(step))
    assert torch.equal(found, learn())
    assert told[-1] == (6, 6)
    assert len(told) == 6 - stop // every * every
    assert torch.equal(learn(path), found)  # a finished fit is not fitted again


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_told(factor: float) -> None:
    with pytest.raises(
        UsageError, match=rf"step 1: .*distance {factor}, size .*seed 0\); use a smaller lear"
    ):
        learn(factor=factor)


def test_batches_of_an_epoch() -> None:
    generator = torch.Generator().manual_seed(0)
    assert [len(rows) for rows in epoch(7, 3, generator)] == [3, 3, 1]
    whole = list(epoch(7, 3, generator, least=2))
    assert [len(rows) for rows in whole] == [3, 3]
    assert len(set(torch.cat(whole).tolist())) == 6


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoint:
    """A checkpoint of a fit."""
    checkpoint = Checkpoint(tmp_path / "fit.checkpoint", IDENTITY)
    checkpoint.save({"styles": torch.arange(6.0).reshape(2, 3), "epoch": torch.tensor(4)})
    return checkpoint


def rewrite(path: Path, tensors: dict[str, Tensor], **said: str) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    save_file(tensors, path, metadata={**metadata, **said})


def test_what_was_kept_comes_back(kept: Checkpoint) -> None:
    found = kept.load()
    assert found is not None
    assert torch.equal(found["styles"], torch.arange(6.0).reshape(2, 3))
    assert int(found["epoch"]) == 4
    kept.path.unlink()
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
    rewrite(kept.path, tensors, **{"zeroflaw-checkpoint": "no JSON"})
    with pytest.raises(DetectorError, match="is damaged"):
        kept.load()


def test_files_of_others_are_refused(kept: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="other values of epochs, seed; delete it"):
        Checkpoint(kept.path, {**IDENTITY, "seed": 1, "epochs": 2}).load()
    save_file({"x": torch.ones(1)}, kept.path, metadata={"other": json.dumps({})})
    with pytest.raises(DetectorError, match="is no checkpoint of a fit"):
        kept.load()
    (tmp_path / "file").touch()
    with pytest.raises(DetectorError, match="cannot be written to"):
        Checkpoint(tmp_path / "file" / "kept", {}).save({})
