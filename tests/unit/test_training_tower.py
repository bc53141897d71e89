"""The joint training, piece by piece, on made-up features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("cv2", reason="the extra 'train' is not installed")
pytest.importorskip("scipy", reason="the extra 'train' is not installed")

from training.bank_states import Bank, last, until_last
from training.features import Batch, cover, render
from training.objective import Said, Seen, Truth, Weights, loss
from training.sources import read_register
from training.tower import Recipe, Trainer, augment, config, draw_windows, learning_rate, schedule, stem_of
from training.validation import auroc

from zeroflaw.towers.model import CLIP, TextConfig, TextTower


def _unit(*shape, seed=0):
    return torch.nn.functional.normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1
    )


def test_two_halves_of_the_text_tower_are_the_whole():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = TextTower(
            TextConfig(context_length=9, vocab_size=20, width=8, layers=3, heads=2, mlp_width=16), 4
        )
    ids, ends = (
        torch.randint(0, 20, (3, 9), generator=torch.Generator().manual_seed(0)),
        torch.tensor([8, 3, 5]),
    )
    torch.testing.assert_close(last(tower, until_last(tower, ids), ends), tower(ids, ends))


def test_bank_draws_only_from_the_group():
    bank = Bank(torch.zeros(9, 1, 1), torch.zeros(9), torch.zeros(9, 1), {"a": range(4), "b": range(4, 9)})
    rows = bank.draw(np.random.default_rng(0), "b", 200)
    assert set(rows) == {4, 5, 6, 7, 8}


def test_cover_is_the_defective_share_of_a_patch():
    mask = np.zeros((240, 240), bool)
    mask[16:32, 0:8] = True
    share = cover(mask)
    assert share.shape == (225,)
    assert share[15] == 0.5
    assert share.sum() == 0.5


def test_augmentation_moves_features_and_cover_together():
    marks = torch.zeros(4, 1, 15, 15)
    marks[:, 0, 2, 11] = 1
    for seed in range(8):
        rng = np.random.default_rng(seed)
        moved = augment(Batch(marks, marks[:, 0], np.arange(2)), 0.0, rng)
        torch.testing.assert_close(moved.features[:, 0], moved.cover)


def test_half_of_the_windows_hold_a_defect():
    covers = torch.zeros(2, 15, 15)
    covers[1, 7, 7] = 1
    for seed in range(5):
        windows = draw_windows(covers, 8, np.random.default_rng(seed))
        assert windows.cover[:4, 7 * 15 + 7].all()


def test_schedule_is_repeatable_and_draws_by_the_recipes_shares():
    bases = np.array(["photo", "texture", "object", "object"] * 50)
    areas = np.where(np.arange(200) % 8 < 4, 0.01, 0.5).astype(np.float32)
    furnished = np.arange(200) % 40 > 31
    recipe = Recipe(steps=500, pairs=16, photos=0.5, textures=0.2, furnished=0.1, large=0.5)
    first, second = (np.concatenate(schedule(recipe, bases, areas, furnished, 20)) for _ in range(2))
    assert (first == second).all()
    assert len(first) == 8000
    assert first.min() >= 20  # the rest is held out
    for base, share in (("photo", 0.5), ("texture", 0.2), ("object", 0.3)):
        assert (bases[first] == base).mean() == pytest.approx(share, abs=0.02)
    counts = np.bincount(first, minlength=200)
    plain, large, hard = ~furnished & (areas < 0.1), ~furnished & (areas > 0.1), furnished & (areas < 0.1)
    objects = (bases == "object") & (np.arange(200) >= 20)
    assert counts[objects & large].mean() == pytest.approx(0.5 * counts[objects & plain].mean(), rel=0.15)
    assert counts[objects & hard].mean() == pytest.approx(0.1 * counts[objects & plain].mean(), rel=0.4)


def test_schedule_leaves_out_a_base():
    bases = np.array(["photo", "texture", "object"] * 9)
    drawn = schedule(Recipe(steps=9, without="photo"), bases, np.zeros(27), np.zeros(27, bool), 3)
    assert set(bases[np.concatenate(drawn)]) == {"texture", "object"}


def test_learning_rate_rises_and_falls():
    recipe = Recipe(steps=100, warmup=10, rate=1.0)
    rates = [learning_rate(step, recipe) for step in range(100)]
    assert int(np.argmax(rates)) in (9, 10)
    assert rates[-1] < 0.05


def test_loss_is_smaller_where_embeddings_tell_the_truth():
    said = Said(
        _unit(6, 8),
        _unit(6, 8, seed=1),
        _unit(2, 4, 8, seed=2),
        np.array([3, 5]),
        _unit(4, 2, 8, seed=3),
        torch.zeros(()),
    )
    direction = torch.nn.functional.normalize((said.anomalous.mean(0) - said.normal.mean(0)), dim=-1)
    truth = Truth(
        torch.tensor([0.0, 1.0, 0.0, 1.0]),
        torch.tensor([[0.0], [1], [0], [1]]),
        torch.tensor([[0.0] * 3, [1] * 3] * 2),
        np.array([3, -1]),
    )
    sign = 2 * truth.image - 1
    right = Seen(
        sign[:, None] * direction,
        sign[:, None, None] * direction,
        (sign[:, None, None] * direction).expand(-1, 3, -1),
    )
    wrong = Seen(-right.image, -right.windows, -right.patches)
    good, terms = loss(right, truth, said, torch.tensor(10.0), Weights())
    bad, worse = loss(wrong, truth, said, torch.tensor(10.0), Weights())
    assert good < bad
    assert all(terms[name] < worse[name] for name in ("image", "window", "patch", "top", "align"))


@pytest.mark.parametrize(
    ("scores", "wanted"), [([0, 1, 2, 3], 1.0), ([1, 1, 1, 1], 0.5), ([3, 2, 1, 0], 0.0)]
)
def test_auroc(scores, wanted):
    assert auroc(np.array([False, False, True, True]), np.array(scores, np.float32)) == wanted


def test_shards_of_another_generator_are_refused(tmp_path):
    for kind in list(read_register())[:9]:
        (tmp_path / "photos" / kind).mkdir(parents=True)
        (tmp_path / "photos" / kind / "0.png").touch()
    (tmp_path / "made_of.json").write_text('{"generator": "another", "trained": [], "left_out": []}')
    with pytest.raises(ValueError, match="remove the folder"):
        render(tmp_path, tmp_path / "photos", 1)


class Made:
    """Eight pairs whose second picture has a bright patch, but for one, which is flawless."""

    facts = [  # noqa: RUF012
        {"kinds": ["scratch"] if n else [], "base": "object", "furnished": 0} for n in range(8)
    ]
    areas = np.full(8, 0.01, np.float32)

    def read(self, pairs):
        rng = np.random.default_rng(pairs)
        features = torch.from_numpy(rng.standard_normal((2 * len(pairs), 424, 15, 15), np.float32))
        covers = torch.zeros(2 * len(pairs), 15, 15)
        for row, pair in enumerate(pairs):
            if self.facts[pair]["kinds"]:
                covers[2 * row + 1, 3:6, 4] = 1
                features[2 * row + 1, :, 3:6, 4] += 2
        return Batch(features, covers, pairs)


def trainer(folder):
    """Towers of one narrow block on made pairs, always the same; nothing is held out."""
    recipe = Recipe(steps=8, pairs=4, windows=2, width=16, layers=1, heads=2, warmup=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = CLIP(config(recipe))
        text = torch.randn(4000, 3, 256)
    names = ["normal", "anomalous", "scratch", "neutral", "neutral_pairs_a", "neutral_pairs_b"]
    groups = {name: range(600 * n, 600 * (n + 1)) for n, name in enumerate(names)}
    original = torch.nn.functional.normalize(text[:, 0], dim=-1)
    bank = Bank(text.half(), torch.full((4000,), 2), original, groups)
    for frozen in (clip.text, stem_of(clip).first, stem_of(clip).stages):
        frozen.requires_grad_(False)
    made = Trainer(recipe, Made(), bank, clip, folder)
    made.held_out = 0
    made.validate = dict
    return made


def test_interrupted_training_goes_on_to_the_same_averaged_weights(tmp_path):
    whole, first, second = trainer(tmp_path / "a"), trainer(tmp_path / "b"), trainer(tmp_path / "b")
    whole.run()
    for pairs in schedule(first.recipe, np.array(["object"] * 8), Made.areas, np.zeros(8, bool), 0)[:6]:
        first.update(first.shards.read(pairs))
        first.average()
        first.step += 1
    first.save()
    second.run()
    assert second.step == 8
    for name, value in whole.trained.items():
        torch.testing.assert_close(second.trained[name], value, atol=1e-5, rtol=1e-4)


def test_the_running_mean_begins_half_way(tmp_path):
    made = trainer(tmp_path)
    name = next(iter(made.trained))
    for step, value in ((0, 1.0), (4, 2.0), (5, 3.0)):
        made.step = step
        made.trained[name].data.fill_(value)
        made.average()
    share = 1 - made.recipe.average
    assert made.averages[name].flatten()[0].item() == pytest.approx(2 + share)
