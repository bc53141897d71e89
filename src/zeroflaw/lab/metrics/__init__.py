"""How good scores and maps are: exact image metrics, streaming pixel metrics, confidence intervals.

Label 0 is normal, 1 anomalous; higher scores mean more anomalous. Every metric is a :class:`Metric`: a value
between 0 and 1, or None with the reason why it is undefined; nothing here ever returns NaN.
"""

from zeroflaw.runtime.scores import upsample

from .curve import Metric
from .image import Interval, bootstrap_interval, image_aupr, image_auroc, image_f1max
from .pixel import PixelMetrics, PixelResult

__all__ = [
    "Interval",
    "Metric",
    "PixelMetrics",
    "PixelResult",
    "bootstrap_interval",
    "image_aupr",
    "image_auroc",
    "image_f1max",
    "upsample",
]
