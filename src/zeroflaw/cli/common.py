"""Other names for `zeroflaw.cli.options`, `zeroflaw.cli.output` and `zeroflaw.cli.progress`."""

from zeroflaw.cli.options import (
    DetectorOptions,
    batch_size_option,
    detector_options,
    open_detector,
    take_options,
)
from zeroflaw.cli.output import prepare_output, say, tell_skipped
from zeroflaw.cli.progress import bars_shown, fit_bar, with_bar

__all__ = [
    "DetectorOptions",
    "bars_shown",
    "batch_size_option",
    "detector_options",
    "fit_bar",
    "open_detector",
    "prepare_output",
    "say",
    "take_options",
    "tell_skipped",
    "with_bar",
]
