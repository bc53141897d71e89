"""Where the thing is on a photograph of one thing on an even ground."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import Picture, Plane, Rng, as_float, blur

_BAND = 4  # pixels along the border that show the ground
_MOST_SPREAD = 14.0  # Lab levels; a ground that varies more is none
_LEAST, _MOST = 0.04, 0.75  # share of the picture that a thing covers


@dataclass(frozen=True, eq=False)
class Outline:
    """A thing that was told from its ground.

    Attributes:
        cover: coverage of the thing (SIZE, SIZE), 0 to 1.
        ground: the colour of the ground, (3,).
    """

    cover: Plane
    ground: NDArray[np.float32]

    def backdrop(self, rng: Rng) -> Picture:
        """The ground alone, as a picture."""
        noise = blur(rng.standard_normal(self.cover.shape, dtype=np.float32), 0.7)
        return as_float(np.clip(self.ground + 1.5 * noise[..., None], 0, 255))


def _border(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = (picture[:_BAND], picture[-_BAND:], picture[:, :_BAND], picture[:, -_BAND:])
    return np.concatenate([side.reshape(-1, picture.shape[-1]) for side in sides])


def _solid(far: Plane, level: float) -> NDArray[np.uint8]:
    """The largest piece that is farther from the ground than ``level``, its holes filled."""
    mask = (far > level).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc), np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    solid = np.zeros_like(mask)
    if contours:
        cv2.drawContours(solid, [max(contours, key=cv2.contourArea)], 0, (1,), cv2.FILLED)
    return solid


def find_outline(picture: Picture) -> Outline | None:
    """Tell the thing on a picture from its ground; None where there is no even ground or no one thing."""
    lab = as_float(cv2.cvtColor(picture.astype(np.uint8), cv2.COLOR_RGB2LAB))
    edge = _border(lab)
    middle = np.median(edge, 0)
    if float(np.percentile(np.abs(edge - middle).max(-1), 80)) > _MOST_SPREAD:
        return None
    far = blur(as_float(np.abs(lab - middle).max(-1)), 1.2)
    level, _ = cv2.threshold(np.clip(far, 0, 255).astype(np.uint8), 0, 1, cv2.THRESH_OTSU)
    solid = _solid(far, max(0.6 * float(level), 9.0))
    on_border = float(_border(as_float(solid)[..., None]).mean())
    if not _LEAST < float(solid.mean()) < _MOST or on_border > 0.3:
        return None
    ground = as_float(np.median(_border(picture), 0))
    return Outline(blur(as_float(solid), 0.8), ground)
