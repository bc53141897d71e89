"""A heat map over a photo, on a scale that is the same for every photo.

The colours do not depend on the picture's own highest and lowest values: two pictures can be compared. Where
the smallest anomalous value of the map is known, the scale is anchored there: below it the photo stays as it
is, above it colour sets in and the regions are outlined. Where it is not known, the whole photo is grey under
a veil of colour, so that all colour in the drawing is score.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation, gaussian_filter

from zeroflaw.bands import read_overview
from zeroflaw.errors import ImageError, UsageError
from zeroflaw.images import shown
from zeroflaw.report import colours, drawing
from zeroflaw.report.colours import Pixels
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.regions import anomalous
from zeroflaw.runtime.scores import expit, logit, upsample

LONGEST = 768
_SHORTEST = 384  # small photos are enlarged to this, so that the writing has room
_EDGE = 12
_BAR = 16
_MARGIN = 96  # right of the photo: bar and numbers
_CAPTION = 34
_ROUND = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
_HIGH = 0.9  # above it the anchored scale slows down, so that strong flaws keep their differences


def anchored(values: NDArray[np.floating], threshold: float) -> NDArray[np.float64]:
    """Return a map on the scale that shows its threshold as 0.5: sigmoid(logit(map) - logit(threshold)).

    Above 0.9 the sigmoid, which would soon be 1 to the eye, goes on by the logarithm of the log-odds.

    Args:
        values: map in [0, 1], any shape.
        threshold: its smallest anomalous value.
    """
    tiny = 1e-7  # float32 knows nothing between 1 - 1e-7 and 1
    excess = logit(np.clip(values.astype(np.float64), tiny, 1 - tiny)) - logit(
        np.clip(threshold, tiny, 1 - tiny)
    )
    beyond = np.maximum(excess - logit(_HIGH), 0)
    slowed = 1 - (1 - _HIGH) / (1 + _HIGH * np.log1p(beyond))  # of the same slope where it takes over
    return np.asarray(np.where(beyond > 0, slowed, expit(excess)))


def overlay(image: Pixels, values: NDArray[np.floating], *, threshold: float | None = None) -> Pixels:
    """Return the photo ``(H, W, 3)`` with the map ``(h, w)`` laid over it, same size as the photo.

    Args:
        image: the photo, uint8.
        values: the map, in [0, 1].
        threshold: smallest value of the map that is anomalous; regions are outlined and the rest of the photo
            stays as it is. Without it the photo is grey below the map's colours.

    Raises:
        UsageError: the shapes are not those of a photo and a map, or the map is not finite.
    """
    if image.ndim != 3 or image.shape[2] != 3 or values.ndim != 2 or 0 in image.shape + values.shape:
        raise UsageError(f"wanted a photo (H, W, 3) and a map (h, w), got {image.shape} and {values.shape}")
    if not np.isfinite(values).all():
        raise UsageError("a map to draw must hold finite numbers; it has NaN or infinity")
    large = upsample(np.clip(values, 0, 1), (image.shape[0], image.shape[1]))
    if threshold is not None:
        return _anchored_overlay(image, large, threshold, image.shape[0] / values.shape[0])
    grey = (image @ np.array([0.299, 0.587, 0.114]))[:, :, None]
    # The cooler, the more of the photo shows through; light greys are held back so that yellow stays yellow.
    weight = 0.32 + 0.43 * large[:, :, None]
    mixed = (1 - weight) * (25 + 0.85 * grey) + weight * colours.colourise(large)
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def _anchored_overlay(image: Pixels, large: NDArray[np.float32], threshold: float, patch: float) -> Pixels:
    smooth = gaussian_filter(anchored(large, threshold), min(0.35 * patch, 0.04 * max(large.shape)))
    rising = np.clip((smooth - 0.46) / 0.24, 0, 1)
    # Thin in the middle, where the flaw is to be seen itself.
    weight = 0.45 * rising**2 * (3 - 2 * rising) * (1 - 0.45 * np.clip((smooth - 0.6) / 0.3, 0, 1))
    mixed = (1 - weight[:, :, None]) * image + weight[:, :, None] * colours.colourise(smooth)
    picture = np.asarray(np.rint(mixed), dtype=np.uint8)
    inside = anomalous(large, threshold)  # unsmoothed: the regions that are reported
    line, casing = outlines(inside, max(1, round(max(large.shape) / 250)))
    picture[casing] = colours.INK
    picture[line] = colours.OUTLINE
    return picture


def outlines(inside: NDArray[np.bool_], width: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a line around regions, ``width`` pixels wide, and a casing around that; both bool (H, W).

    They lie outside of the regions, so that a flaw of a few pixels is not hidden by its own outline.
    """
    line = binary_dilation(inside, _ROUND, iterations=width)
    casing = binary_dilation(line, _ROUND, iterations=(width + 1) // 2)
    return line & ~inside, casing & ~line


def panel(image: Pixels, values: NDArray[np.floating], *, threshold: float | None = None) -> Pixels:
    """Return the photo under its map as `overlay` does, its longer side between 384 and 768 pixels."""
    side = min(max(*image.shape[:2], _SHORTEST), LONGEST) if image.size else 0
    return overlay(drawing.scaled(image, side) if side else image, values, threshold=threshold)


def caption(
    drawn: Pixels,
    *,
    threshold: float | None = None,
    score: float | None = None,
    label: bool | None = None,
    title: str = "",
) -> Pixels:
    """Return a `panel` with a colour bar and a caption, uint8 ``(H, W, 3)``; arguments of `draw_heatmap`."""
    height, width = drawn.shape[:2]
    tall, wide = max(height, 160), max(width, 240)
    size = (wide + 2 * _EDGE + _MARGIN, tall + 2 * _EDGE + _CAPTION)
    sheet = Image.new("RGB", size, colours.PAPER)
    sheet.paste(Image.fromarray(drawn), (_EDGE + (wide - width) // 2, _EDGE + (tall - height) // 2))
    left = wide + 2 * _EDGE
    bar = (left, _EDGE + 6, left + _BAR, _EDGE + tall - 6)
    drawing.colour_bar(sheet, bar, anchored=threshold is not None)
    page, line, right = ImageDraw.Draw(sheet), size[1] - _EDGE - 6, float(size[0] - _EDGE)
    if label is not None:
        right -= drawing.verdict(page, (right, line), label, size=16) + 12
    if score is not None:
        text = f"score {drawing.number(score, 3)}"
        drawing.write(page, (right, line), text, size=16, anchor="rs")
        right -= drawing.width(text, 16) + 16
    drawing.write(page, (_EDGE, line), title, size=14, colour=colours.FAINT, anchor="ls", room=right - _EDGE)
    return np.asarray(sheet)


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
        threshold: smallest value of the map that is anomalous; see `overlay`.
        score: score of the whole photo, for the caption.
        label: True if flawed, False if not, None if undecided.
        title: name of the photo, for the caption.

    Raises:
        UsageError: see `overlay`.
    """
    drawn = panel(image, values, threshold=threshold)
    return caption(drawn, threshold=threshold, score=score, label=label, title=title)


def prediction_png(prediction: Prediction) -> bytes:
    """Return the photo of a prediction under its map as PNG; a grey area where the photo cannot be read."""
    try:
        photo = read_overview(prediction.source)
    except ImageError:
        photo = np.full((*prediction.size, 3), 150, np.uint8)
    drawn, stream = drawing.scaled(photo, min(max(photo.shape), LONGEST)), io.BytesIO()
    if prediction.map is not None:
        drawn = draw_heatmap(
            photo,
            prediction.map,
            threshold=prediction.map_threshold,
            score=prediction.score,
            label=prediction.label,
            title=shown(prediction.source),
        )
    drawing.write_png(stream, drawn)
    return stream.getvalue()
