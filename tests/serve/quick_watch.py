"""``zeroflaw watch`` with a judge that takes no time, so that kills come at all moments of all else.

python tests/serve/quick_watch.py FOLDER --detector rwda ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from serving import prediction

from zeroflaw.cli import watching
from zeroflaw.cli.main import main
from zeroflaw.detectors import Needs
from zeroflaw.errors import ImageError
from zeroflaw.images import read_image
from zeroflaw.runtime.prediction import Prediction


class Judge:
    """Judges by brightness: dark pictures are flawed. Keeps what it is shown."""

    name = "brightness"
    needs = Needs(words=False)
    threshold_rule = "given"

    def __init__(self) -> None:
        self.shown: list[bytes] = []

    def get_params(self) -> dict[str, Any]:
        return {}

    def predict(
        self, images: Any, *, maps: bool = False, batch_size: int = 8, on_error: Any = None
    ) -> Iterator[Prediction]:
        for number, data in enumerate(images):
            self.shown.append(data)
            try:
                pixels = read_image(data, name=f"image {number}")
            except ImageError as error:
                on_error(error)
                continue
            yield prediction(float(128 - pixels.mean()), source=f"image {number}", size=pixels.shape[:2])


if __name__ == "__main__":
    watching.open_detector = lambda *given, **more: Judge()  # type: ignore[assignment]
    main(["watch", *sys.argv[1:]])
