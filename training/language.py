"""Teach the small text tower what a sentence encoder knows: ``python -m training.language``.

The student (4 causal blocks, width 256) is distilled from all-MiniLM-L6-v2. Three losses:

* cosine to the teacher's embedding, through a 256 x 384 head that is folded away at the end;
* the matrix of similarities in a batch (relational distillation, Park et al., CVPR 2019, section 3.2);
* the teacher's *difference* between texts of one family, which differ in their state only. A cosine alone
  would let the subject drown the state, and the state is what a detector reads.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

import click
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from training.checkpoint import load_checkpoint, save_checkpoint
from training.corpus import held_out_texts, tokenizer_texts, training_families
from training.probes import probe
from training.teacher import EMBED_DIM, Teacher, embed_cached, lexicon
from training.tokenizer import encode, train_tokenizer
from zeroflaw.files import atomic, write_json, write_text
from zeroflaw.towers.configs import TextConfig
from zeroflaw.towers.model import TextTower

CONFIG = TextConfig(context_length=77, vocab_size=6144, width=256, layers=4, heads=4, mlp_width=1024)
OUTPUT_DIM = 256


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the weights, beside the texts."""

    seed: int = 0
    epochs: int = 3
    batch: int = 512
    rate: float = 1.5e-3
    warmup: int = 100
    decay: float = 0.02
    relational: float = 10.0
    difference: float = 1.0


@dataclass(frozen=True)
class Corpus:
    """Training texts as arrays: ids (N, T), ends (N,), teacher (N, 384), family (N,), rising."""

    ids: np.ndarray
    ends: np.ndarray
    teacher: np.ndarray
    family: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)


@dataclass(frozen=True)
class Batch:
    """Some texts: ids (B, T) cut to the longest, ends (B,), teacher (B, 384), family (B,)."""

    ids: Tensor
    ends: Tensor
    teacher: Tensor
    family: Tensor


def batches(corpus: Corpus, size: int, rng: Random) -> list[np.ndarray]:
    """Return the row numbers of one epoch in random batches of ``size`` texts of similar length.

    Families are shuffled, then sorted by length in stretches of 40 batches; what is left over waits for
    another epoch. Every batch has the same size, because a new shape costs the matrix library a new kernel.
    """
    first = np.flatnonzero(np.r_[True, corpus.family[1:] != corpus.family[:-1]])
    longest = np.maximum.reduceat(corpus.ends, first)
    bounds = np.r_[first, len(corpus)]
    order = np.array(rng.sample(range(len(first)), len(first)))
    stretch = max(1, round(40 * size * len(first) / len(corpus)))
    parts = [order[start : start + stretch] for start in range(0, len(order), stretch)]
    families = np.concatenate([part[np.argsort(longest[part], kind="stable")] for part in parts])
    rows = np.concatenate([np.arange(bounds[f], bounds[f + 1]) for f in families])
    found = np.split(rows[: len(rows) // size * size], len(rows) // size)
    rng.shuffle(found)
    return found


def gather(corpus: Corpus, rows: np.ndarray) -> Batch:
    """Return the rows as tensors, token ids cut to the longest of them, rounded up to a multiple of four."""
    ends = corpus.ends[rows]
    length = (int(ends.max()) + 4) // 4 * 4
    return Batch(
        torch.from_numpy(corpus.ids[rows, :length].astype(np.int64)),
        torch.from_numpy(ends),
        F.normalize(torch.from_numpy(corpus.teacher[rows]).float(), dim=-1),
        torch.from_numpy(corpus.family[rows]),
    )


def losses(student: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cosine, the relational and the difference loss of unit embeddings (B, 384).

    The difference loss is the share of the teacher's squared differences that the student misses.
    """
    teacher = batch.teacher
    cosine = 1 - (student * teacher).sum(-1).mean()
    relational = (student @ student.T - teacher @ teacher.T).square().mean()
    i, j = torch.triu(batch.family[:, None] == batch.family, 1).nonzero(as_tuple=True)
    wanted = teacher[i] - teacher[j]
    missed = (student[i] - student[j] - wanted).square().sum()
    return cosine, relational, missed / wanted.square().sum().clamp_min(1e-6)


def new_tower(seed: int) -> TextTower:
    """Return a freshly initialised tower with the 384-wide head of the distillation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = TextTower(CONFIG, EMBED_DIM)
        # Torch draws embeddings from N(0, 1), fifty times what the blocks add to them.
        nn.init.normal_(tower.token_embedding.weight, std=0.02)
    return tower


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to one hundredth."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    return recipe.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def fast_attention() -> AbstractContextManager[None]:
    """Plain attention, summed in bfloat16: on prompts of ten tokens twice as fast as the blocked kernel."""
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # holds for the processor, too
    return sdpa_kernel(SDPBackend.MATH)


class Trainer:
    """Tower, optimiser and position in the schedule, with checkpoints.

    Weights and moments are float32; forward and backward run in a bfloat16 copy of the tower, which on a
    processor with AMX takes about a third of the time of automatic mixed precision.
    """

    def __init__(self, corpus: Corpus, recipe: Recipe, checkpoint: Path) -> None:
        self.corpus, self.recipe, self.checkpoint = corpus, recipe, checkpoint
        self.tower = new_tower(recipe.seed)
        self.copy = copy.deepcopy(self.tower).to(torch.bfloat16)
        self.names = [name for name, _ in self.tower.named_parameters()]
        self.optimiser = torch.optim.AdamW(
            self.tower.parameters(), recipe.rate, (0.9, 0.98), weight_decay=recipe.decay, fused=True
        )
        self.step = 0

    def schedule(self) -> list[np.ndarray]:
        """Return the row numbers of every step of the training; the same for the same recipe."""
        rng = Random(f"batches {self.recipe.seed}")
        return [
            rows for _ in range(self.recipe.epochs) for rows in batches(self.corpus, self.recipe.batch, rng)
        ]

    def run(self, every: int = 500) -> TextTower:
        """Train to the end of the schedule, from a checkpoint where there is one; returns the tower."""
        schedule = self.schedule()
        if self.checkpoint.is_file():
            self.resume()
        self.refresh()
        bar = tqdm(total=len(schedule), initial=self.step, desc="text tower", unit="step", mininterval=5)
        for rows in itertools.islice(schedule, self.step, None):
            with fast_attention():
                parts = self.update(gather(self.corpus, rows), len(schedule))
            self.step += 1
            bar.update()
            if self.step % 50 == 0:
                bar.set_postfix_str(
                    "cosine {:.3f} relations {:.5f} differences {:.3f}".format(*parts), refresh=False
                )
            if self.step % every == 0 or self.step == len(schedule):
                self.save()
        bar.close()
        return self.tower

    def update(self, batch: Batch, steps: int) -> list[float]:
        """Make one step; returns the three losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, steps, self.recipe)
        parts = losses(self.copy(batch.ids, batch.ends), batch)
        total = parts[0] + self.recipe.relational * parts[1] + self.recipe.difference * parts[2]
        total.backward()
        for fast, exact in zip(self.copy.parameters(), self.tower.parameters(), strict=True):
            exact.grad = None if fast.grad is None else fast.grad.float()
            fast.grad = None
        nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
        self.optimiser.step()
        self.refresh()
        return [float(part.detach()) for part in parts]

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the weights into the bfloat16 copy."""
        for fast, exact in zip(self.copy.parameters(), self.tower.parameters(), strict=True):
            fast.copy_(exact)

    def save(self) -> None:
        """Write tower, moments and step, atomically."""
        parameters = dict(self.tower.named_parameters())
        save_checkpoint(self.checkpoint, parameters, self.optimiser, self.step, self.recipe)

    def resume(self) -> None:
        """Continue from the checkpoint.

        Raises:
            ValueError: the checkpoint was written with another recipe.
        """
        parameters = dict(self.tower.named_parameters())
        self.step = load_checkpoint(self.checkpoint, parameters, self.optimiser, self.recipe)


def fold_head(tower: TextTower, embed_dim: int = OUTPUT_DIM) -> dict[str, Tensor]:
    """Return the tower's state with the head W (256, 384) replaced by a (256, ``embed_dim``) projection.

    Cosines only see W Wᵀ; its largest eigenvectors scaled by the roots of their eigenvalues have the same
    products, exactly so for ``embed_dim`` = 256.
    """
    head = tower.projection.detach().double()
    values, vectors = torch.linalg.eigh(head @ head.T)
    projection = (vectors * values.clamp_min(0).sqrt()).flip(1)[:, :embed_dim]
    state = {name: value.detach().clone() for name, value in tower.state_dict().items()}
    return state | {"projection": projection.float().contiguous()}


class Student:
    """A tower with its tokenizer: texts in, float32 unit embeddings (N, E) out."""

    def __init__(self, tower: TextTower, tokenizer: Tokenizer) -> None:
        self.tower, self.tokenizer = tower.eval(), tokenizer

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], batch: int = 512) -> np.ndarray:
        """Embed texts."""
        parts = []
        for start in range(0, len(texts), batch):
            ids, ends = encode(self.tokenizer, texts[start : start + batch], CONFIG.context_length)
            parts.append(self.tower(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(ends)))
        return torch.cat(parts).numpy()


def load_corpus(work: Path, tokenizer: Tokenizer, families: Sequence[Sequence[str]]) -> Corpus:
    """Tokenise the families and fetch the teacher's embeddings of their texts."""
    texts = [text for family in families for text in family]
    ids, ends = encode(tokenizer, texts, CONFIG.context_length)
    family = np.repeat(np.arange(len(families)), [len(family) for family in families])
    return Corpus(ids, ends, embed_cached(work, texts), family)


def measure(work: Path, student: Student, known: set[str]) -> dict[str, dict[str, float]]:
    """Return held-out cosines by sort of text, and the probes of student and teacher."""
    teacher = partial(Teacher(work), bf16=True)
    cosines = {}
    for name, texts in held_out_texts(0, lexicon(), known).items():
        cosines[name] = float((student(texts) * teacher(texts)).sum(1).mean())
    return {"cosine to the teacher": cosines, "student": probe(student), "teacher": probe(teacher)}


def prepare(work: Path, seed: int) -> tuple[Tokenizer, list[list[str]]]:
    """Train the tokenizer, write it, and draw the training families."""
    known = lexicon()
    tokenizer = train_tokenizer(tokenizer_texts(seed, known))
    write_text(work / "tokenizer.json", tokenizer.to_str(pretty=False))
    return tokenizer, training_families(seed, known)


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("training/work"), show_default=True)
@click.option("--seed", default=Recipe.seed, show_default=True)
@click.option("--epochs", default=Recipe.epochs, show_default=True)
@click.option("--batch", default=Recipe.batch, show_default=True, help="Texts in a step.")
@click.option("--threads", default=1, show_default=True, help="Processor threads.")
def main(work: Path, seed: int, epochs: int, batch: int, threads: int) -> None:
    """Distil the text tower: WORK/text_student.safetensors, WORK/tokenizer.json and WORK/text_report.json."""
    torch.set_num_threads(threads)
    tokenizer, families = prepare(work, seed)
    recipe = Recipe(seed=seed, epochs=epochs, batch=batch)
    tower = Trainer(
        load_corpus(work, tokenizer, families), recipe, work / "text_checkpoint.safetensors"
    ).run()
    with atomic(work / "text_student.safetensors") as temporary:
        save_file(fold_head(tower), temporary, {"config": str(asdict(CONFIG)), "recipe": str(asdict(recipe))})
    report = measure(work, Student(tower, tokenizer), {text for family in families for text in family})
    write_json(work / "text_report.json", {"recipe": asdict(recipe), **report})
    for title, values in report.items():
        click.echo(title)
        click.echo("\n".join(f"  {name:32s} {value:.4f}" for name, value in values.items()))


if __name__ == "__main__":
    main()
