"""A heat map over a photo, on a scale that is the same for every photo.

The colours do not depend on the picture's own highest and lowest values: two pictures can be compared.
The photo below is grey: all colour in the drawing is score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from zeroflaw.errors import UsageError
from zeroflaw.report import colours, drawing
from zeroflaw.report.colours import Pixels

LONGEST = 768
_SHORTEST = 384  # small photos are enlarged to this, so that the writing has room
_EDGE = 12
_BAR = 16
_MARGIN = 96  # right of the photo: bar and numbers
_CAPTION = 34


def overlay(image: Pixels, values: NDArray[np.floating], *, threshold: float | None = None) -> Pixels:
    """Return the photo ``(H, W, 3)`` in grey with the map ``(h, w)`` laid over it, same size as the photo.

    Where the map crosses ``threshold`` a thin white line is drawn.

    Raises:
        UsageError: the shapes are not those of a photo and a map, or the map is not finite.
    """
    if image.ndim != 3 or image.shape[2] != 3 or values.ndim != 2 or 0 in image.shape + values.shape:
        raise UsageError(f"wanted a photo (H, W, 3) and a map (h, w), got {image.shape} and {values.shape}")
    if not np.isfinite(values).all():
        raise UsageError("a map to draw must hold finite numbers; it has NaN or infinity")
    small = Image.fromarray(np.ascontiguousarray(np.clip(values, 0, 1), dtype=np.float32))
    large = small.resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)
    share = np.clip(np.asarray(large), 0, 1)
    grey = (image @ np.array([0.299, 0.587, 0.114]))[:, :, None]
    # The cooler, the more of the photo shows through; light greys are held back so that yellow stays yellow.
    weight = 0.32 + 0.43 * share[:, :, None]
    mixed = (1 - weight) * (25 + 0.85 * grey) + weight * colours.colourise(share)
    picture: Pixels = np.rint(mixed).astype(np.uint8)
    if threshold is not None:
        picture[_outline(share >= threshold)] = 255
    return picture


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the outermost pixels of the regions, without those on the picture's own edge."""
    padded = np.pad(inside, 1, mode="edge")
    picture = Image.fromarray(padded.astype(np.uint8) * 255).filter(ImageFilter.MinFilter(3))
    kernel: NDArray[np.bool_] = np.asarray(picture)[1:-1, 1:-1] > 0
    return inside & ~kernel


def draw_heatmap(
    image: Pixels,
    values: NDArray[np.floating],
    *,
    threshold: float | None = None,
    score: float | None = None,
    label: bool | None = None,
    title: str = "",
) -> Pixels:
    """Return a picture of the photo under its heat map, with a colour bar and a caption, uint8 ``(H, W, 3)``.

    Args:
        image: the photo, uint8 ``(H, W, 3)``; drawn with its longer side between 384 and 768 pixels.
        values: the map, floating point in [0, 1], ``(h, w)`` of any resolution.
        threshold: value of the map whose outline is drawn, also marked on the bar.
        score: score of the whole photo, for the caption.
        label: True if flawed, False if not, None if undecided.
        title: name of the photo, for the caption.

    Raises:
        UsageError: see :func:`overlay`.
    """
    side = min(max(*image.shape[:2], _SHORTEST), LONGEST) if image.size else 0
    panel = overlay(drawing.scaled(image, side) if side else image, values, threshold=threshold)
    height, width = panel.shape[:2]
    tall, wide = max(height, 160), max(width, 240)
    size = (wide + 2 * _EDGE + _MARGIN, tall + 2 * _EDGE + _CAPTION)
    sheet = Image.new("RGB", size, colours.PAPER)
    sheet.paste(Image.fromarray(panel), (_EDGE + (wide - width) // 2, _EDGE + (tall - height) // 2))
    left = wide + 2 * _EDGE
    drawing.colour_bar(sheet, (left, _EDGE + 6, left + _BAR, _EDGE + tall - 6), threshold=threshold)
    page, line, right = ImageDraw.Draw(sheet), size[1] - _EDGE - 6, float(size[0] - _EDGE)
    if label is not None:
        right -= drawing.verdict(page, (right, line), label, size=16) + 12
    if score is not None:
        text = f"score {drawing.number(score, 3)}"
        drawing.write(page, (right, line), text, size=16, anchor="rs")
        right -= drawing.width(text, 16) + 16
    drawing.write(page, (_EDGE, line), title, size=14, colour=colours.FAINT, anchor="ls", room=right - _EDGE)
    return np.asarray(sheet)
