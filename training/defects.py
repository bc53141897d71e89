"""The register of defects, which of them suit a scene, and the check that what was painted can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from . import flaws_areas as areas
from . import flaws_lines as lines
from . import flaws_shape as shape
from . import flaws_whole as whole
from .camera import Camera, tone
from .canvas import Flaw, Zoned, find_spot
from .noise import Picture, Plane, Rng, as_float, blur, chance
from .scenes import METALLIC, ROUGH, WOODEN, Scene

FLAWS: dict[str, Flaw] = {
    "scratch": lines.scratch,
    "crack": lines.crack,
    "cut": lines.cut,
    "fibre": lines.fibre,
    "split": lines.split,
    "hole": areas.hole,
    "blowhole": areas.blowhole,
    "pitting": areas.pitting,
    "dent": areas.dent,
    "stain": areas.stain,
    "spot": areas.spot_of_colour,
    "contamination": areas.contamination,
    "smear": areas.smear,
    "glue": areas.glue,
    "rust": areas.rust,
    "erode": areas.erode,
    "wear": areas.wear,
    "knot": areas.knot,
    "swap": areas.swap,
    "cutpaste": areas.cutpaste,
    "print": areas.misprint,
    "film": whole.film,
    "tarnish": whole.tarnish,
    "uneven": whole.uneven,
    "speckled": whole.speckled,
    "foreign": whole.foreign,
    "missing": shape.missing,
    "edge": shape.edge,
    "warp": shape.warp,
    "part_missing": shape.part_missing,
    "part_moved": shape.part_moved,
    "part_turned": shape.part_turned,
    "part_deformed": shape.part_deformed,
}
"""Every kind of defect by its name."""

KINDS = tuple(FLAWS)
PART_KINDS = ("part_missing", "part_moved", "part_turned", "part_deformed")
_LIKELY = {
    WOODEN: ("knot", "crack", "split", "stain", "hole"),
    ROUGH: ("blowhole", "crack", "erode", "pitting", "missing"),
    METALLIC: ("rust", "tarnish", "film", "pitting", "scratch", "wear", "dent"),
}
_FIRM_KINDS = (*PART_KINDS, "split", "missing", "edge", "warp", "cutpaste", "knot")  # never half transparent
_FAINT_SHARE = 0.25  # of the other kinds are weakened
_HOLE_AREA = 500  # pixels
_LEAST_AREA = 12  # pixels
_LEAST_CHANGE = 5.0  # grey levels, after light smoothing
_LEAST_CONTRAST = 1.8  # times the roughness of the surface
_TRIES = 12
_TRIES_OF_A_KIND = 3  # so that kinds which are hard to see do not die out


class InvisibleDefectError(RuntimeError):
    """Every try to paint a visible defect failed; the scene or the kind cannot show one."""


@dataclass(frozen=True, eq=False)
class Damage:
    """A picture with one more defect, where it shows (SIZE, SIZE; bool), and of which kind it is."""

    picture: Picture
    mask: NDArray[np.bool_]
    kind: str


def choose_kind(rng: Rng, scene: Scene) -> str:
    """A kind that suits the scene: parts go wrong where there are some, metal rusts, wood splits."""
    if scene.parts and chance(rng, 0.3):
        return str(rng.choice(PART_KINDS))
    for materials, kinds in _LIKELY.items():
        if scene.material in materials and chance(rng, 0.3):
            return str(rng.choice(kinds))
    weights = np.array([0.25 if kind in PART_KINDS or kind == "knot" else 1.0 for kind in KINDS])
    return str(rng.choice(KINDS, p=weights / weights.sum()))


def _fill(mask: NDArray[np.uint8]) -> None:
    """Close small holes in place: what a defect encloses belongs to it, but not what a long loop does."""
    contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for index, contour in enumerate(contours):
        if tree[0, index, 3] >= 0 and cv2.contourArea(contour) < _HOLE_AREA:
            cv2.drawContours(mask, contours, index, (1,), cv2.FILLED)


def visible_change(before: Picture, after: Picture) -> NDArray[np.bool_]:
    """Where two pictures (before any camera) visibly differ: small gaps closed, single specks dropped."""
    change = blur(np.abs(after - before).max(-1), 0.8)
    mask = (change > _LEAST_CHANGE).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc), np.uint8)
    _fill(mask)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = np.zeros(count, bool)
    keep[1:] = stats[1:, cv2.CC_STAT_AREA] >= 4
    return np.asarray(keep[labels])


def _stands_out(before: Picture, after: Picture, mask: NDArray[np.bool_], noise: float) -> bool:
    """Whether the change is more than the roughness of the surface and the noise of the camera hide."""
    if int(mask.sum()) < _LEAST_AREA:
        return False
    grey = as_float(before.mean(-1))
    rough: Plane = np.abs(grey - blur(grey, 2.0))
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    change = np.abs(blur(after - before, 1.0)).max(-1)[mask]
    strong = float(np.percentile(change, 75))
    return strong > max(8.0, 2.0 * noise, _LEAST_CONTRAST * float(rough[near].mean()))


def _mask(
    before: Picture, painted: Picture | Zoned, camera: Camera
) -> tuple[Picture, NDArray[np.bool_], bool]:
    """The painted picture, where it differs in the camera's tones, and whether that stands out."""
    after = painted.picture if isinstance(painted, Zoned) else painted
    seen = tone(camera, after)
    mask = visible_change(before, seen)
    if isinstance(painted, Zoned):
        mask = mask & painted.zone
    return after, mask, _stands_out(before, seen, mask, camera.noise)


def damage(rng: Rng, scene: Scene, picture: Picture, camera: Camera, kind: str | None = None) -> Damage:
    """Paint one defect, of the given kind or of one that suits, redrawing it until this camera can show it.

    Raises:
        KeyError: no such kind.
        InvisibleDefectError: none of a bounded number of tries could be seen.
    """
    before = tone(camera, picture)
    for attempt in range(_TRIES):
        if attempt % _TRIES_OF_A_KIND == 0:
            name = kind or choose_kind(rng, scene)
        spot = find_spot(rng, scene, picture, on_border=name == "edge")
        painted = FLAWS[name](rng, scene, picture, spot)
        if name not in _FIRM_KINDS and not isinstance(painted, Zoned) and chance(rng, _FAINT_SHARE):
            painted = as_float(picture + (painted - picture) * rng.uniform(0.3, 0.75))
        after, mask, visible = _mask(before, painted, camera)
        if visible:
            return Damage(after, mask, name)
    raise InvisibleDefectError(
        f"Wanted a visible {kind or 'defect'} on a {scene.material}, got none in {_TRIES} tries."
    )
