"""A report for people: one HTML file with photos, maps and a threshold to play with; it loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from zeroflaw._version import __version__
from zeroflaw.report import drawing
from zeroflaw.report.colours import Pixels
from zeroflaw.report.drawing import Span, Spool
from zeroflaw.report.heatmap import overlay
from zeroflaw.report.tables import VERDICTS, table_row
from zeroflaw.runtime.calibration import Calibration
from zeroflaw.runtime.prediction import Prediction

_FAR = 1e6
_SIDE = 400  # longest side of a picture
_MOST = 16_000  # bytes of a JPEG; two of them, a third longer as text, stay below 45 kB


@dataclass(frozen=True, slots=True)
class _Card:
    """A photo, as the template writes it."""

    name: str
    logit: float
    verdict: str | None
    share: float | None
    facts: str
    alt: str
    photo: Span
    heat: Span | None


@dataclass(frozen=True, slots=True)
class _Section:
    """A product: its photos, the most anomalous first, and the log-odds of good ones, rising."""

    name: str
    threshold: float | None
    sentence: str | None
    good: tuple[float, ...]
    cards: list[_Card]


Pictures = tuple[bytes, bytes | None]  # of a card: the photo, and the photo under its map, as JPEG


class Page(Spool):
    """Collects photos while a run goes on and writes them, product by product, when it is over.

    Pictures wait in a temporary file and are streamed into the page, so memory grows by a few hundred bytes a
    photo. Use as a context manager, which removes that file.

    Args:
        about: what the heading says of the run: detector, backbone.
        calibrations: calibration of each product; that of "" is taken for all others.

    Attributes:
        alarm: what to look at before anything else, or None; set it before the page is written.
    """

    def __init__(self, about: str, *, calibrations: Mapping[str, Calibration] | None = None) -> None:
        super().__init__()
        self.about = about
        self.alarm: str | None = None
        self.calibrations = dict(calibrations or {})
        self._cards: dict[str, list[_Card]] = {}
        self._judged: dict[str, tuple[float | None, str | None]] = {}
        self._refused: list[tuple[str, str]] = []

    def add(self, name: str, image: Pixels | Pictures, prediction: Prediction, *, product: str = "") -> None:
        """Take in a photo ``(H, W, 3)``, or its pictures, what is said about it, and the product it shows."""
        photo, heat = image if isinstance(image, tuple) else pictures_of(image, prediction)
        row = table_row(prediction)
        facts = f" · score {drawing.number(prediction.score, 3)} · log-odds {prediction.logit:.2f}"
        if prediction.p_value is not None:
            facts += f" · p {drawing.number(prediction.p_value, 3)}"
        count, share = row["regions"], row["largest_region_percent"]
        where = "" if count is None else f"{count or 'no'} region{'s' * (count != 1)}"
        if count:
            where += f", the largest {drawing.number(share, 1)} % of the photo"
        card = _Card(
            name=name,
            logit=prediction.logit,
            verdict=VERDICTS[prediction.label],
            share=share,
            facts=facts + f" · {where}" * bool(where),
            alt=f"heat map, {where}" if where else "heat map",
            photo=self.keep(photo),
            heat=None if heat is None else self.keep(heat),
        )
        self._cards.setdefault(product, []).append(card)
        self._judged.setdefault(product, (prediction.threshold_logit, prediction.threshold_from))

    def refuse(self, name: str, reason: str) -> None:
        """Note a photo that could not be judged."""
        self._refused.append((name, reason))

    def write(self, path: Path) -> Path:
        """Write the page and return its path."""
        environment = Environment(
            loader=PackageLoader("zeroflaw.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["digest"] = _digest
        stream = environment.get_template("report.html.j2").stream(
            title="Most anomalous photos first",
            about=f"{sum(map(len, self._cards.values()))} photos · {self.about}",
            alarm=self.alarm,
            sections=list(self._sections()),
            refused=self._refused,
            uri=self._uri,
            version=__version__,
        )
        stream.dump(str(path), encoding="utf-8")
        return path

    def _sections(self) -> Iterator[_Section]:
        for product, cards in sorted(self._cards.items()):
            threshold, sentence = self._judged[product]
            if threshold is not None:  # one that was given as score 0 or 1 is infinite
                threshold = min(max(threshold, -_FAR), _FAR)
            calibration = self.calibrations.get(product, self.calibrations.get(""))
            ranked = sorted(cards, key=lambda card: -card.logit)
            good = tuple(sorted(calibration.good)) if calibration else ()
            yield _Section(product or "Photos", threshold, sentence, good, ranked)

    def _uri(self, span: Span) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.kept(span)).decode()}"


def pictures_of(image: Pixels, prediction: Prediction, drawn: Pixels | None = None) -> Pictures:
    """Return the pictures of a card: a photo ``(H, W, 3)``, and it under its map if there is one.

    ``drawn`` is the photo under its map where it was drawn already (`zeroflaw.report.panel`).
    """
    photo, heat = drawing.scaled(image, _SIDE), None
    if prediction.map is not None:
        if drawn is None:
            drawn = overlay(photo, prediction.map, threshold=prediction.map_threshold)
        heat = drawing.jpeg(drawing.scaled(drawn, _SIDE), quality=85, most=_MOST)
    return drawing.jpeg(photo, quality=85, most=_MOST), heat


def _digest(script: str) -> str:
    """Return the SHA-256 of a script as a content security policy wants it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
