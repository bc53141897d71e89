"""Train the image tower, and the last block of the text tower with it: ``python -m training.tower --seed 0``.

The convolutions of the stem are frozen, so training reads their features from disk (`training.features`).
Everything that is drawn depends on the seed and the number of the step only: an interrupted run goes on as if
it had not been interrupted.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm

from training.bank import build_bank
from training.bank_states import Bank, load_student, make_bank
from training.checkpoint import load_checkpoint, save_checkpoint
from training.features import SHARD, Batch, Shards
from training.language import CONFIG as TEXT
from training.language import OUTPUT_DIM, fast_attention
from training.objective import Seen, Truth, Weights, loss, speak
from training.stem_weights import fill_stem, read_weights, weights_path
from training.validation import validate
from zeroflaw.files import atomic, write_json
from zeroflaw.runtime.scores import Windows, make_windows
from zeroflaw.towers.configs import CLIPConfig, StemConfig, VisionConfig
from zeroflaw.towers.model import CLIP
from zeroflaw.towers.stem import Stem

GRID = (15, 15)
CALLED = {
    "blowhole": "hole",
    "pitting": "erode",
    "wear": "erode",
    "knot": "spot",
    "part_missing": "missing",
    "part_moved": "cutpaste",
    "part_turned": "cutpaste",
    "part_deformed": "warp",
    "film": "smear",
    "tarnish": "rust",
    "uneven": "stain",
    "speckled": "spot",
    "foreign": "contamination",
}
"""The captions by which a painted defect goes that has none of its own name."""
LARGE = 0.12  # of the picture
HELD_OUT = 2  # shards that are never trained on
LARGEST_SCALE = math.log(100)  # CLIP's own limit


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the weights, beside the pairs and captions."""

    seed: int = 0  # of everything that is drawn while training
    start: int = 0  # seed of the weights that training starts from: towers of one start can be averaged
    steps: int = 1200
    pairs: int = 16  # per step
    windows: int = 4  # per image and step
    rate: float = 1e-3
    warmup: int = 100
    average: float = 0.998  # of the running mean of all weights, over the second half of the steps
    decay: float = 0.05
    noise: float = 0.15
    scale: float = 10.0  # logit scale at the start
    width: int = 128
    layers: int = 3
    heads: int = 4
    shards: int | None = None
    without: str | None = None  # a base that is left out, to see how the tower does on what it never saw
    photos: float = 0.3  # of the pairs drawn are photographs, and as many are
    textures: float = 0.3  # textures; the rest are objects
    furnished: float = 1.0  # how often a pair is drawn with hard structure on it, relative to others
    large: float = 0.5  # how often a pair is drawn whose flaw covers more than `LARGE`, relative to others
    weights: Weights = field(default_factory=Weights)


def config(recipe: Recipe) -> CLIPConfig:
    """Return the shape of both towers."""
    vision = VisionConfig(
        image_size=240,
        patch_size=16,
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        mlp_width=4 * recipe.width,
        ln_pre=False,
        patch_projection=True,
        stem=StemConfig(),
    )
    return CLIPConfig(embed_dim=OUTPUT_DIM, vision=vision, text=TEXT)


def new_clip(recipe: Recipe, work: Path, sample: Tensor) -> CLIP:
    """Return the towers as training starts; ``sample`` are features (N, K, R, S) to standardise by."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.start)
        clip = CLIP(config(recipe))
    clip.text = load_student(work)
    clip.text.requires_grad_(False)
    for part in (clip.text.blocks[-1], clip.text.ln_final):
        part.requires_grad_(True)
    clip.text.projection.requires_grad_(True)
    stem = fill_stem(stem_of(clip), read_weights(weights_path()))
    stem.mean.copy_(sample.mean((0, 2, 3)))
    stem.std.copy_(sample.std((0, 2, 3)) + 1e-3)
    clip.logit_scale.data.fill_(math.log(recipe.scale))
    return clip


def stem_of(clip: CLIP) -> Stem:
    """Return the patch embedding of a tower that has a stem."""
    stem = clip.vision.patch_embedding
    assert isinstance(stem, Stem)
    return stem


def see(clip: CLIP, features: Tensor, windows: Windows | None) -> Seen:
    """Embed stem features (B, K, R, S): images, windows and patches."""
    with torch.autocast("cpu", torch.bfloat16), fast_attention():
        tokens = stem_of(clip).embed(features) + clip.vision.patch_positions(GRID)
        image, patches, _ = clip.vision.all_tokens(tokens, ())
        seen = image[:, :0, None] if windows is None else clip.vision.window_embeddings(tokens, windows)
    return Seen(image, seen, patches)


def augment(batch: Batch, noise: float, rng: np.random.Generator) -> Batch:
    """Mirror and transpose the grid at random, and scale every feature of every image by its own factor."""
    features, cover = batch.features, batch.cover
    if rng.random() < 0.5:
        features, cover = features.flip(3), cover.flip(2)
    if rng.random() < 0.5:
        features, cover = features.flip(2), cover.flip(1)
    if rng.random() < 0.5:
        features, cover = features.transpose(2, 3), cover.transpose(1, 2)
    gain = torch.from_numpy(noise * rng.standard_normal((*features.shape[:2], 1, 1), np.float32))
    return Batch(features * (1 + gain), cover, batch.pairs)


def draw_windows(cover: Tensor, count: int, rng: np.random.Generator) -> Windows:
    """Draw windows of 2 x 2 or 3 x 3 patches; half of them hold a defect of some image of the batch."""
    every = make_windows(GRID, int(rng.integers(2, 4)))
    places = rng.integers(0, len(every.index), count)
    hot = np.flatnonzero(cover.flatten(1).amax(0).numpy() > 0.1)
    for number in range(count // 2 if len(hot) else 0):
        holding = np.flatnonzero(every.cover[:, rng.choice(hot)])
        places[number] = rng.choice(holding)
    return Windows(every.index[places], every.cover[places])


def schedule(
    recipe: Recipe,
    bases: NDArray[np.str_],
    areas: NDArray[np.float32],
    furnished: NDArray[np.bool_],
    first: int,
) -> list[NDArray[np.int64]]:
    """Return the pairs of every step, drawn by the recipe's shares from number ``first`` on.

    Args:
        recipe: what decides.
        bases: of every pair, "photo", "texture" or "object".
        areas: share of the picture that the flaw of every pair covers.
        furnished: whether hard structure was drawn on the scene of every pair.
        first: pairs before it are held out.
    """
    weights = np.where(areas > LARGE, recipe.large, 1.0)
    weights[furnished] *= recipe.furnished
    weights[:first] = 0
    shares = {"photo": recipe.photos, "texture": recipe.textures}
    for base in ("photo", "texture", "object"):
        share = shares.get(base, 1 - sum(shares.values())) * (base != recipe.without)
        weights[bases == base] *= share / max(weights[bases == base].sum(), 1e-9)
    rng = np.random.default_rng([recipe.seed, 1])
    drawn = rng.choice(len(weights), (recipe.steps, recipe.pairs), p=weights / weights.sum())
    return list(drawn)


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to one fiftieth."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    return recipe.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))


class Trainer:
    """Towers, optimiser and position in the schedule, with checkpoints."""

    def __init__(self, recipe: Recipe, shards: Shards, bank: Bank, clip: CLIP, folder: Path) -> None:
        self.recipe, self.shards, self.bank, self.clip, self.folder = recipe, shards, bank, clip, folder
        self.checkpoint = folder / "checkpoint.safetensors"
        self.held_out = HELD_OUT * SHARD
        self.trained = {name: p for name, p in clip.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.trained.values(), recipe.rate, (0.9, 0.98), weight_decay=recipe.decay, fused=True
        )
        groups = list(bank.groups)
        first = [next(iter(fact["kinds"]), None) for fact in shards.facts]  # type: ignore[call-overload]
        self.kinds = np.array([groups.index(CALLED.get(kind, kind)) if kind else -1 for kind in first])
        self.averages = {name: p.detach().clone() for name, p in self.trained.items()}
        self.step = 0

    def run(self, every: int = 250) -> dict[str, float]:
        """Train to the end of the schedule, from a checkpoint where there is one; returns the validation."""
        bases = np.array([str(fact["base"]) for fact in self.shards.facts])
        furnished = np.array([bool(fact["furnished"]) for fact in self.shards.facts])
        steps = schedule(self.recipe, bases, self.shards.areas, furnished, self.held_out)
        if self.checkpoint.is_file():
            self.resume()
        bar = tqdm(total=len(steps), initial=self.step, desc=f"towers {self.recipe.seed}", mininterval=5)
        for pairs in steps[self.step :]:
            parts = self.update(self.shards.read(pairs))
            self.average()
            self.step += 1
            bar.update()
            if self.step % 25 == 0:
                text = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
                bar.set_postfix_str(f"{text} scale {self.clip.logit_scale.exp().item():.1f}", refresh=False)
            if self.step % every == 0:
                self.save()
                bar.write(f"{self.step} {self.validate()}")
        bar.close()
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(self.averages[name])
        return self.validate()

    @torch.no_grad()
    def average(self) -> None:
        """Take the weights as they are into the running mean, which begins half-way."""
        share = 1 - self.recipe.average if self.step > self.recipe.steps // 2 else 1.0
        for name, parameter in self.trained.items():
            self.averages[name].lerp_(parameter, share)

    def update(self, batch: Batch) -> dict[str, float]:
        """Make one step; returns the terms of the loss."""
        rng = np.random.default_rng([self.recipe.seed, 2, self.step])
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.recipe)
        batch = augment(batch, self.recipe.noise, rng)
        windows = draw_windows(batch.cover, self.recipe.windows, rng)
        covers = batch.cover.flatten(1)
        truth = Truth(
            (covers.amax(1) > 0).float(),
            covers[:, windows.index].amax(-1),
            covers,
            self.kinds[batch.pairs],
        )
        said = speak(self.bank, self.clip.text, truth.kinds, rng)
        seen = see(self.clip, batch.features, windows)
        total, parts = loss(seen, truth, said, self.clip.logit_scale.exp(), self.recipe.weights)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimiser.step()
        self.clip.logit_scale.data.clamp_(max=LARGEST_SCALE)
        return parts

    def validate(self) -> dict[str, float]:
        """Measure on the held-out pairs; with ``without``, also on pairs of the base that was left out."""
        pairs = np.arange(self.held_out)
        if self.recipe.without:
            facts = self.shards.facts
            pairs = np.array([n for n in range(len(facts)) if facts[n]["base"] == self.recipe.without][:400])
        return validate(self.clip, self.shards, pairs, self.bank, see)

    def save(self) -> None:
        """Write parameters, their running means, moments and step, atomically."""
        save_checkpoint(
            self.checkpoint, self.trained, self.optimiser, self.step, self.recipe, averages=self.averages
        )

    def resume(self) -> None:
        """Continue from the checkpoint.

        Raises:
            ValueError: the checkpoint was written with another recipe.
        """
        self.step = load_checkpoint(
            self.checkpoint, self.trained, self.optimiser, self.recipe, averages=self.averages
        )


def train(recipe: Recipe, work: Path, folder: Path) -> dict[str, float]:
    """Train towers into ``folder`` (model.safetensors, recipe.json, report.json); returns the validation."""
    shards = Shards(work / "features", recipe.shards)
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    sample = shards.read(np.random.default_rng(0).permutation(len(shards))[:200]).features
    clip = new_clip(recipe, work, sample)
    bank = make_bank(clip.text, tokenizer, build_bank(0))
    found = Trainer(recipe, shards, bank, clip, folder).run()
    with atomic(folder / "model.safetensors") as temporary:
        save_file({name: value.contiguous() for name, value in clip.state_dict().items()}, temporary)
    write_json(folder / "recipe.json", {**asdict(recipe), "pairs trained on": len(shards) - HELD_OUT * SHARD})
    write_json(folder / "report.json", found)
    return found


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("training/work"), show_default=True)
@click.option("--name", help="Name of the folder below WORK; towers-seedN if not given.")
@click.option("--seed", default=Recipe.seed, show_default=True)
@click.option("--set", "changes", multiple=True, metavar="NAME=JSON", help="Change a number of the recipe.")
@click.option("--threads", default=2, show_default=True, help="Processor threads.")
def main(work: Path, name: str | None, seed: int, changes: tuple[str, ...], threads: int) -> None:
    """Train both towers together and validate them on pairs they were not trained on."""
    torch.set_num_threads(threads)
    values = {key: json.loads(value) for key, _, value in (change.partition("=") for change in changes)}
    if "weights" in values:
        values["weights"] = Weights(**values["weights"])
    recipe = Recipe(seed=seed, **values)
    found = train(recipe, work, work / (name or f"tower-seed{seed}"))
    click.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
