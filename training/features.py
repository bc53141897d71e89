"""Render pairs and keep what the frozen stem says about them: ``python -m training.features --photos DIR``.

One shard holds 200 pairs (about 80 MB) and is one folder, complete or absent, so a run goes on where it was
interrupted or the disk was full. Pair ``i`` of shard ``k`` is ``render_pair(200 * k + i)``, whichever process
rendered it.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.defects import InvisibleDefectError
from training.pairs import Pair, render_pair
from training.sources import FOLDS, Photos, find_kinds, load_photos, split_kinds
from training.stem_weights import fill_stem, read_weights, weights_path
from zeroflaw.files import write_json
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.configs import StemConfig
from zeroflaw.towers.stem import STRIDE, Stem

SHARD = 200  # pairs
STAMP = "made_of.json"
SIZE = 240  # pixels
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which the stem was trained on
PREPROCESS = Preprocess(image_size=SIZE, mean=MEAN, std=STD, resize="squash")


@lru_cache(maxsize=1)
def _stem() -> Stem:
    return fill_stem(Stem(StemConfig(), 1), read_weights(weights_path())).eval()


@lru_cache(maxsize=1)
def _photos(folder: str, fold: int) -> Photos:
    return load_photos(Path(folder), fold)


@torch.inference_mode()
def stem_features(images: Sequence[NDArray[np.uint8]], batch: int = 8) -> NDArray[np.float16]:
    """Run the stem on images (Y, X, 3): float16 (N, K, R, S)."""
    found = [
        _stem().features(torch.from_numpy(PREPROCESS(images[start : start + batch]))).half()
        for start in range(0, len(images), batch)
    ]
    return torch.cat(found).contiguous().numpy()


def cover(mask: NDArray[np.bool_]) -> NDArray[np.float16]:
    """Return how much of each patch is defective, float16 (P,), from a mask (SIZE, SIZE)."""
    share = F.avg_pool2d(torch.from_numpy(mask).float()[None, None], STRIDE)
    return share.flatten().half().numpy()


def _pair(seed: int, photos: Photos) -> Pair:
    """Render a pair; the rare seed whose defects cannot be seen is replaced by one far from all others."""
    try:
        return render_pair(seed, photos)
    except InvisibleDefectError:
        return render_pair(seed + 10**9, photos)


def write_shard(job: tuple[Path, int, str, int]) -> int:
    """Render one shard into its folder, atomically; returns its number."""
    root, number, folder, fold = job
    photos = _photos(folder, fold)
    torch.set_num_threads(1)
    temporary = root / f".{number:05d}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    pairs = [_pair(seed, photos) for seed in range(SHARD * number, SHARD * (number + 1))]
    images = [image for pair in pairs for image in (pair.clean, pair.defective)]
    np.save(temporary / "features.npy", stem_features(images))
    np.save(temporary / "cover.npy", np.stack([cover(pair.mask) for pair in pairs]))
    facts = [_facts(pair) for pair in pairs]
    (temporary / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    temporary.replace(root / f"{number:05d}")
    return number


def _facts(pair: Pair) -> dict[str, object]:
    return {"kinds": list(pair.kinds), "base": pair.base, "furnished": pair.furnished}


def generator_digest() -> str:
    """Return the SHA-256 of all source files that decide what a pair looks like."""
    folder = Path(__file__).parent
    reached, left = set[str](), ["pairs"]
    while left:  # every module of this folder that `pairs` imports, directly or not
        name = left.pop()
        reached.add(name)
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        found = re.findall(r"^from (?:training|)\.(\w+) import", text, re.MULTILINE)
        found += re.findall(r"^from (?:training|\.) import (\w+)", text, re.MULTILINE)
        left += [other for other in found if other not in reached]
    digest = hashlib.sha256()
    for name in sorted(reached):
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What all shards of a folder have in common.

    Attributes:
        generator: `generator_digest` of what drew them.
        trained: kinds of photographs that went in.
        left_out: kinds that did not, to decide on.
    """

    generator: str
    trained: list[str]
    left_out: list[str]


def read_stamp(root: Path) -> Stamp:
    """Return what the shards under ``root`` are made of."""
    return Stamp(**json.loads((root / STAMP).read_text(encoding="utf-8")))


def _stamp(root: Path, stamp: Stamp) -> None:
    """Note what the shards under ``root`` are made of, and refuse to mix two sorts of them."""
    if not (root / STAMP).exists():
        write_json(root / STAMP, asdict(stamp))
    if read_stamp(root) != stamp:
        raise ValueError(
            f"wanted shards under {root} by this generator from these kinds of photographs, got others; "
            "remove the folder"
        )


def render(root: Path, photos: Path, shards: int, *, processes: int = 2, fold: int = 0) -> None:
    """Write the shards 0 to ``shards - 1`` that are missing under ``root``; ``fold`` says what is left out.

    Raises:
        ValueError: the photographs are not as `training.sources.load_photos` wants them, or the shards that
            are there were drawn by another generator or from other kinds.
    """
    trained, left_out = split_kinds(find_kinds(photos), fold)
    _stamp(root, Stamp(generator_digest(), trained, left_out))
    jobs = [(root, n, str(photos), fold) for n in range(shards) if not (root / f"{n:05d}").exists()]
    if not jobs:
        return
    # Forked workers would inherit the parent's thread pools in an unknown state.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        done = tqdm(pool.imap_unordered(write_shard, jobs), total=len(jobs), desc="render", unit="shard")
        for _ in done:
            pass


@dataclass(frozen=True)
class Batch:
    """Some pairs as the training wants them.

    Attributes:
        features: clean and defective images by turns, float32 (2 N, K, R, S).
        cover: defective share of every patch, 0 for the clean ones, float32 (2 N, R, S).
        pairs: numbers of the pairs, (N,).
    """

    features: Tensor
    cover: Tensor
    pairs: NDArray[np.int64]


class Shards:
    """All shards under a folder as one sequence of pairs, read from disk as needed."""

    def __init__(self, root: Path, limit: int | None = None) -> None:
        self.folders = sorted(path for path in root.iterdir() if path.name.isdigit())[:limit]
        if not self.folders:
            raise FileNotFoundError(
                f"wanted shards under {root}, found none; run python -m training.features"
            )
        self._features = [np.load(path / "features.npy", mmap_mode="r") for path in self.folders]
        self._cover = np.stack([np.load(path / "cover.npy") for path in self.folders])  # (shards, SHARD, P)

    def __len__(self) -> int:
        return SHARD * len(self.folders)

    @cached_property
    def facts(self) -> list[dict[str, object]]:
        """What each pair shows: its defects' ``kinds`` and its ``base``."""
        read = (json.loads((path / "facts.json").read_text(encoding="utf-8")) for path in self.folders)
        return [fact for shard in read for fact in shard]

    @cached_property
    def areas(self) -> NDArray[np.float32]:
        """Share of the picture that each pair's flaw covers."""
        return np.asarray(self._cover.astype(np.float32).mean(-1).ravel(), np.float32)

    def read(self, pairs: NDArray[np.int64]) -> Batch:
        """Read the pairs with these numbers."""
        places = [divmod(int(pair), SHARD) for pair in pairs]
        features = np.stack([self._features[s][2 * i : 2 * i + 2] for s, i in places])  # (N, 2, K, R, S)
        covers = np.zeros((len(pairs), 2, *features.shape[-2:]), np.float32)
        covers[:, 1] = np.stack([self._cover[s, i] for s, i in places]).reshape(-1, *features.shape[-2:])
        flat = torch.from_numpy(features.astype(np.float32)).flatten(0, 1)
        return Batch(flat, torch.from_numpy(covers).flatten(0, 1), pairs)


@click.command()
@click.option(
    "--photos", type=click.Path(exists=True, path_type=Path), required=True, help="Real photographs."
)
@click.option("--work", type=click.Path(path_type=Path), default=Path("training/work"), show_default=True)
@click.option("--pairs", default=18_000, show_default=True, help="How many pairs, a multiple of 200.")
@click.option("--processes", default=2, show_default=True)
@click.option(
    "--fold", default=0, show_default=True, help=f"Which of {FOLDS} parts of the kinds is left out."
)
def main(photos: Path, work: Path, pairs: int, processes: int, fold: int) -> None:
    """Render pairs and write their stem features."""
    try:
        render(work / "features", photos, pairs // SHARD, processes=processes, fold=fold)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
