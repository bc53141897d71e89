"""A saved detector of words where torch, which its own module needs for fitting, is not installed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Self

from typing_extensions import override

from zeroflaw.detectors.base import BackboneDetector, Fitted
from zeroflaw.detectors.inputs import FitInputs
from zeroflaw.errors import UsageError
from zeroflaw.parameters import parameter_names, parameters
from zeroflaw.runtime.folder import SavedDetector
from zeroflaw.runtime.scorer import Scorer, TextScorer


@parameters
class SavedWords(BackboneDetector[TextScorer]):
    """Judges as the detector that was saved; it cannot be fitted."""

    scorer_class: ClassVar[type[Scorer]] = TextScorer

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.saved_parameters_: dict[str, Any] = {}

    @override
    def get_params(self) -> dict[str, Any]:
        return {**self.saved_parameters_, **super().get_params()}

    @override
    def _fit(self, backbone: Any, inputs: FitInputs) -> Fitted[TextScorer]:
        raise UsageError(f"fitting {self.name} needs torch; pip install 'zeroflaw[fit]'")

    @override
    def _fits(self, scorer: TextScorer, backbone: Any) -> bool:
        return all(head.width == backbone.embed_dim for head in scorer.heads.values())

    @classmethod
    @override
    def from_saved(cls, saved: SavedDetector, **overrides: Any) -> Self:
        own = {name: saved.parameters[name] for name in parameter_names(cls) if name in saved.parameters}
        found = super().from_saved(replace(saved, parameters=own), **overrides)
        found.saved_parameters_ = saved.parameters
        return found
