"""AnomalyCLIP: two prompts learned on a labelled data set of other products, and maps from a local path."""

from zeroflaw.detectors.anomalyclip.detector import AnomalyCLIP

__all__ = ["AnomalyCLIP"]
