"""Whether a saved detector is used as it was made: its backbone, and how photos are read and cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.images import white_of_reading
from zeroflaw.runtime.folder import Identity, SavedDetector


def require_readable(saved: SavedDetector, overrides: Mapping[str, Any]) -> None:
    """Refuse to cut or read photos otherwise than those that a saved detector learned or was calibrated from.

    Raises:
        DetectorError: with what it was made with.
    """
    if saved.seen.reference is None and saved.calibration is None:
        return
    given = {"white": white_of_reading(), **overrides}
    for name, usual in (("tile", 0), ("white", None)):
        made = saved.parameters.get(name, usual)
        if given.get(name) is not None and given[name] != made:
            raise UsageError(
                f"the saved detector was made with {name} {made or 'none'}, and {given[name]:g} was given; "
                f"leave --{name} out, or make the detector anew with it"
            )


def check_identity(wanted: Identity, name: str, backbone: Any) -> None:
    """Compare the backbone ``name`` with the one that a detector was fitted on.

    Raises:
        DetectorError: it has other weights, or another configuration, preprocessing or tokenizer.
    """
    if backbone.sha256 != wanted.sha256:
        raise DetectorError(
            f"the detector was fitted on backbone '{wanted.name}' with sha256 {wanted.sha256}, but '{name}' "
            f"has {backbone.sha256}; use the weights it was fitted on, or fit it again"
        )
    if backbone.fingerprint != wanted.fingerprint:
        raise DetectorError(
            f"backbone '{name}' has the weights the detector was fitted on, but not its configuration, "
            "preprocessing and tokenizer; restore its folder, or fit the detector again"
        )
