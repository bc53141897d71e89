"""Pairs of a flawless picture and the same with a painted defect: the training material of the mini model.

Run as a script it draws a contact sheet: ``python -m training.pairs --count 24 --seed 0 -o sheet.png``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import Camera, carry, jitter, random_camera, shoot
from .defects import InvisibleDefectError, damage
from .distractors import PASSING, distract
from .noise import SIZE, Picture, Rng, chance, pick
from .scenes import Scene, random_scene
from .sources import Photos, load_photos

_SCENES = 4
_CALM = 0.15  # of the pairs are two different flawless views
_PASSING_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class Pair:
    """One training example.

    Attributes:
        clean: the flawless view, uint8 (240, 240, 3), RGB.
        defective: the same thing with its defects, or a second flawless view, uint8 (240, 240, 3), RGB.
        mask: where the defects show in ``defective``, bool (240, 240); empty where that is flawless, too.
        kinds: names of the defects, in the order they were painted; keys of ``training.defects.FLAWS``.
        base: "texture", "object" or "photo".
        furnished: how many sorts of hard flawless structure were drawn on it.
    """

    clean: NDArray[np.uint8]
    defective: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    kinds: tuple[str, ...]
    base: str
    furnished: int


def _shoot(rng: Rng, camera: Camera, picture: Picture) -> NDArray[np.uint8]:
    return shoot(rng, camera, distract(rng, picture, _PASSING_SHARE, PASSING))


def _from_scene(rng: Rng, scene: Scene, kind: str | None) -> Pair | None:
    """Damage and photograph a scene; None where the camera cut the defect away."""
    first = random_camera(rng)
    second = jitter(rng, random_camera(rng) if chance(rng, 0.2) else first)
    good = scene.image if scene.twin is None else scene.twin
    picture, mask, kinds = scene.image, np.zeros((SIZE, SIZE), bool), list[str]()
    if kind is None and chance(rng, _CALM):
        second = random_camera(rng)
        return Pair(
            _shoot(rng, first, good), _shoot(rng, second, picture), mask, (), scene.base, scene.furnished
        )
    for _ in range(1 if kind else pick(rng, (1, 1, 1, 1, 1, 2, 2, 3))):
        harm = damage(rng, scene, picture, second, kind)
        picture, mask = harm.picture, mask | harm.mask
        kinds.append(harm.kind)
    seen = carry(second, mask)
    if int(seen.sum()) < 8:
        return None
    views = _shoot(rng, first, good), _shoot(rng, second, picture)
    return Pair(*views, seen, tuple(kinds), scene.base, scene.furnished)


def render_pair(seed: int, photos: Photos | None, kind: str | None = None) -> Pair:
    """The pair of this seed, always the same for the same photos.

    Args:
        seed: any non-negative number.
        photos: real photographs to build on beside the drawn scenes, or None.
        kind: one kind of defect to paint instead of random ones.

    Raises:
        KeyError: no such kind.
        InvisibleDefectError: several scenes were drawn and no defect could be seen on any.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    problem = "the camera left nothing of it"
    for _ in range(_SCENES):
        try:
            pair = _from_scene(rng, random_scene(rng, photos), kind)
        except InvisibleDefectError as error:
            problem = str(error)
            continue
        if pair is not None:
            return pair
    raise InvisibleDefectError(
        f"Wanted a visible defect for seed {seed}, got none on {_SCENES} scenes; last: {problem}"
    )


def _row(pair: Pair) -> NDArray[np.uint8]:
    overlay = pair.defective.copy()
    overlay[pair.mask] = overlay[pair.mask] // 2 + np.array([127, 0, 0], np.uint8)
    row = np.hstack([pair.clean, pair.defective, overlay])
    cv2.putText(row, ",".join(pair.kinds), (2 * SIZE + 4, 14), 0, 0.45, (255, 255, 0), 1, cv2.LINE_AA)
    return row


def contact_sheet(pairs: list[Pair], columns: int = 3) -> NDArray[np.uint8]:
    """Clean view, defective view and marked defect of every pair, side by side, uint8 RGB."""
    rows = [_row(pair) for pair in pairs]
    rows += [np.zeros_like(rows[0])] * (-len(rows) % columns)
    return np.vstack([np.hstack(rows[at : at + columns]) for at in range(0, len(rows), columns)])


def main() -> None:
    """Draw a contact sheet and say how long a pair took."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=24, help="number of pairs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first pair")
    parser.add_argument("--photos", type=Path, help="folder of photographs of flawless things")
    parser.add_argument("--kind", help="paint only this kind of defect")
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG to write")
    options = parser.parse_args()
    photos = load_photos(options.photos) if options.photos else None
    begin = time.perf_counter()
    pairs = [render_pair(options.seed + index, photos, options.kind) for index in range(options.count)]
    spent = (time.perf_counter() - begin) / options.count
    cv2.imwrite(str(options.output), cv2.cvtColor(contact_sheet(pairs), cv2.COLOR_RGB2BGR))
    print(f"{options.count} pairs, {1000 * spent:.1f} ms each, drawn to {options.output}")


if __name__ == "__main__":
    main()
