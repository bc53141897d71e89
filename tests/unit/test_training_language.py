"""Batches, losses, checkpoints and the folded head of the text tower's distillation."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch

pytest.importorskip("training.language", reason="the training recipe is not beside the tests")

from safetensors.torch import load_file
from training import language
from training.language import Batch, Corpus, Recipe, Trainer, batches, fold_head, gather, losses, new_tower
from training.probes import auroc, ridge

from zeroflaw.towers.model import TextConfig, TextTower

SMALL = TextConfig(context_length=12, vocab_size=40, width=16, layers=2, heads=2, mlp_width=32)


@pytest.fixture
def corpus():
    rng = np.random.default_rng(0)
    family = np.sort(rng.integers(0, 40, 100))
    ends = rng.integers(2, 12, 100)
    teacher = rng.normal(size=(100, 384)).astype(np.float16)
    return Corpus(rng.integers(0, 40, (100, 12)).astype(np.uint16), ends, teacher, family)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(language, "CONFIG", SMALL)


def test_batches_have_one_size_and_no_row_twice(corpus):
    found = batches(corpus, 16, Random(0))
    assert [len(rows) for rows in found] == [16] * 6
    rows = np.concatenate(found)
    assert len(set(rows.tolist())) == len(rows)
    again = batches(corpus, 16, Random(0))
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_gather_keeps_all_tokens_and_rounds_the_length_up(corpus):
    rows = np.array([3, 50, 7])
    batch = gather(corpus, rows)
    assert batch.ids.shape[1] >= corpus.ends[rows].max() + 1
    assert batch.ids.shape[1] % 4 == 0
    assert torch.allclose(batch.teacher.norm(dim=-1), torch.ones(3))


def _batch(teacher: torch.Tensor, family: list[int]) -> Batch:
    nothing = torch.zeros(len(teacher), dtype=torch.long)
    return Batch(nothing[:, None], nothing, teacher, torch.tensor(family))


def test_losses_vanish_for_the_teacher_and_count_what_is_missed():
    teacher = torch.nn.functional.normalize(
        torch.randn(4, 384, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    batch = _batch(teacher, [0, 0, 1, 2])
    assert [round(float(part), 5) for part in losses(teacher, batch)] == [0, 0, 0]
    same = teacher[[0, 0, 2, 3]]  # the one family has lost its difference
    assert float(losses(same, batch)[2]) == pytest.approx(1.0)
    assert float(losses(same, _batch(teacher, [0, 1, 2, 3]))[2]) == 0.0


def test_interrupted_training_ends_in_the_same_weights(corpus, small, tmp_path):
    recipe = Recipe(epochs=2, batch=16, warmup=2)
    whole = Trainer(corpus, recipe, tmp_path / "whole.safetensors").run(every=100)
    part = Trainer(corpus, recipe, tmp_path / "part.safetensors")
    schedule = part.schedule()
    part.refresh()
    for rows in schedule[:5]:
        with language.fast_attention():
            part.update(gather(corpus, rows), len(schedule))
        part.step += 1
    part.save()
    resumed = Trainer(corpus, recipe, tmp_path / "part.safetensors").run()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(whole.projection, new_tower(0).projection)


def test_checkpoint_of_another_recipe_is_refused(corpus, small, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    Trainer(corpus, Recipe(epochs=1, batch=50), path).run()
    assert "tower.projection" in load_file(path)
    with pytest.raises(ValueError, match="remove the file"):
        Trainer(corpus, Recipe(epochs=2, batch=50), path).run()


def test_folded_head_keeps_every_cosine():
    tower = TextTower(SMALL, 384).eval()
    folded = TextTower(SMALL, 16).eval()
    folded.load_state_dict(fold_head(tower, 16))
    ids, ends = torch.arange(24).reshape(2, 12), torch.tensor([11, 6])
    with torch.inference_mode():
        wide, narrow = tower(ids, ends), folded(ids, ends)
    assert torch.allclose(wide @ wide.T, narrow @ narrow.T, atol=1e-5)


def test_ridge_and_auroc_find_a_direction_that_is_there():
    rng = np.random.default_rng(1)
    labels = np.repeat([0.0, 1.0], 100)
    x = rng.normal(size=(200, 8))
    x[:, 2] += 6 * labels
    weights, offset = ridge(x, labels)
    assert int(np.abs(weights).argmax()) == 2
    assert ((x @ weights + offset > 0.5) == (labels == 1)).mean() > 0.97
    assert auroc(x @ weights, labels) > 0.99
    assert auroc(np.zeros(200), labels) == 0.5
