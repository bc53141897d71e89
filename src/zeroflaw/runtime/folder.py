"""A saved detector: a folder of JSON, safetensors and a model card. Nothing in it is executed on load."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import numpy.typing as npt
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from zeroflaw._version import __version__
from zeroflaw.errors import DetectorError
from zeroflaw.files import require_own, write_bytes, write_files
from zeroflaw.parameters import Record
from zeroflaw.runtime.calibration import Calibration

SCHEMA = 2
CALIBRATION = "calibration.json"
FILES = {"config.json", "head.safetensors", "words.json", "README.md", CALIBRATION}
LARGEST_HEAD = 512 * 2**20  # bytes; no head of ours comes near it

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ReferenceSeen(Record):
    """Photos of good products that a detector was fitted on: how many, and SHA-256 of the pixels of each."""

    images: Annotated[int, Field(ge=1)]
    sha256_of_pixels: tuple[str, ...]


class AuxiliarySeen(Record):
    """Data set of other products that a detector learned from, with images by category and split.

    Published prompts say on which data set they were learned, but not on how many images.
    """

    dataset: str
    categories: dict[str, dict[str, Count]]


class Seen(Record):
    """Images that a detector was fitted on."""

    reference: ReferenceSeen | None = None
    auxiliary: AuxiliarySeen | None = None

    def __str__(self) -> str:
        parts = []
        if self.reference is not None:
            count = self.reference.images
            parts.append(f"{count} photo{'s' * (count != 1)} of good products")
        if self.auxiliary is not None:
            parts.append(f"the data set {self.auxiliary.dataset} ({', '.join(self.auxiliary.categories)})")
        return " and ".join(parts) or "none"


class Identity(Record):
    """The network that a detector was fitted on; ``fingerprint`` is over all that decides an embedding."""

    name: str
    sha256: str
    fingerprint: str
    revision: str | None = None


class Hashes(Record):
    """SHA-256 of the files of a detector."""

    head: Annotated[Digest, Field(alias="head.safetensors")]
    words: Annotated[Digest, Field(alias="words.json")]


class Config(Record):
    """``config.json`` of a saved detector."""

    schema_: Annotated[int, Field(alias="schema")]
    zeroflaw: str
    detector: str
    parameters: dict[str, Any]
    backbone: Identity
    scorer: dict[str, Any]
    seen: Seen
    sha256: Hashes


@dataclass
class SavedDetector:
    """The content of a detector folder.

    Attributes:
        detector: name of the detector's class.
        parameters: its parameters, as JSON values.
        backbone: the network it was fitted on.
        scorer: specification of its scorer, with its ``kind``.
        arrays: learned arrays by name, float32 or int64.
        words: all words used, by what they were used for.
        seen: images that it was fitted on.
        card: model card, Markdown.
        calibration: threshold and p-values, or None.
    """

    detector: str
    parameters: dict[str, Any]
    backbone: Identity
    scorer: dict[str, Any]
    arrays: dict[str, npt.NDArray[np.generic]]
    words: dict[str, Any]
    seen: Seen = field(default_factory=Seen)
    card: str = field(default="", repr=False)
    calibration: Calibration | None = None


class OldSchemaError(DetectorError):
    """A folder was written by a version whose folders are not read any more.

    Attributes:
        config: what its ``config.json`` holds.
    """

    def __init__(self, message: str, config: dict[str, Any]) -> None:
        super().__init__(message)
        self.config = config


def require_target(folder: str | Path) -> Path:
    """Return the folder as a path if a detector may be saved there: a new, an empty or a detector's folder.

    Raises:
        UsageError: see `zeroflaw.files.require_own`.
    """
    return require_own(Path(folder), "a detector", _written)[0]


def _written(folder: Path) -> set[str]:
    """Return the files that a saved detector has; none where there is none."""
    return set(FILES) if (folder / "config.json").is_file() else set()


def write_folder(folder: str | Path, saved: SavedDetector) -> None:
    """Write a detector folder; it appears whole or not at all.

    Raises:
        UsageError: something else is there.
        DetectorError: the folder cannot be written.
    """
    target = require_target(folder)
    head = save_arrays({name: np.asarray(value, order="C") for name, value in saved.arrays.items()})
    words = _json(saved.words)
    config = {
        "schema": SCHEMA,
        "zeroflaw": __version__,
        "detector": saved.detector,
        "parameters": saved.parameters,
        "backbone": saved.backbone.model_dump(),
        "scorer": saved.scorer,
        "seen": saved.seen.model_dump(exclude_none=True, mode="json"),
        "sha256": {"head.safetensors": _digest(head), "words.json": _digest(words)},
    }
    files = {
        "head.safetensors": head,
        "words.json": words,
        "README.md": saved.card.encode(),
        "config.json": _json(config),
    }
    if saved.calibration is not None:
        files[CALIBRATION] = _calibration(saved.calibration, _digest(head))
    write_files(target, files, "the detector", DetectorError)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_folder(folder: str | Path, *, calibrated: bool = True) -> SavedDetector:
    """Read and verify a detector folder; without its calibration where that is to be made anew.

    Raises:
        DetectorError: a file is missing, damaged or of another schema; the message names the file.
    """
    root = Path(folder)
    config = _read_config(root)
    parts = {}
    for name, wanted in config.sha256.model_dump(by_alias=True).items():
        parts[name] = _read(root / name)
        if (got := _digest(parts[name])) != wanted:
            raise DetectorError(
                f"{root / name} is damaged: sha256 {wanted} was wanted, {got} found; save the detector again"
            )
    try:
        arrays = load_arrays(parts["head.safetensors"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise DetectorError(
            f"{root / 'head.safetensors'} holds no arrays ({error}); save the detector again"
        ) from error
    for name, array in arrays.items():
        if array.dtype not in (np.float32, np.int64) or not np.isfinite(array).all():
            raise DetectorError(
                f"{root / 'head.safetensors'}: '{name}' must hold finite float32 or int64 numbers, got "
                f"{array.dtype}; save the detector again"
            )
    words = _object(parts["words.json"], root / "words.json")
    card = root / "README.md"
    text = _read(card).decode(errors="replace") if card.is_file() else ""
    return SavedDetector(
        config.detector,
        config.parameters,
        config.backbone,
        config.scorer,
        arrays,
        words,
        config.seen,
        text,
        _read_calibration(root, config) if calibrated else None,
    )


def write_calibration(folder: str | Path, calibration: Calibration) -> None:
    """Put a calibration beside a saved detector, in the place of an earlier one.

    Raises:
        DetectorError: there is no detector, or the file cannot be written.
    """
    root = Path(folder)
    data = _calibration(calibration, _read_config(root).sha256.head)
    try:
        write_bytes(root / CALIBRATION, data)
    except OSError as error:
        raise DetectorError(
            f"the calibration cannot be written to {root}: {error.strerror or error}; check its permissions"
        ) from error


def _calibration(calibration: Calibration, head: str) -> bytes:
    made = calibration.model_copy(update={"detector": head})
    return _json(made.model_dump(mode="json", by_alias=True, exclude_none=True))


def _read_calibration(root: Path, config: Config) -> Calibration | None:
    path = root / CALIBRATION
    if not path.is_file():
        return None
    found = Calibration.read(_object(_read(path), path), str(path), DetectorError)
    if found.detector != config.sha256.head:
        raise DetectorError(
            f"{path} was made with another detector than the one beside it; calibrate again with: zeroflaw "
            f"calibrate {root} --good GOOD-PHOTOS"
        )
    return found


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise DetectorError(f"a detector file was wanted at {path}, but there is none")
        if path.stat().st_size > LARGEST_HEAD:
            raise DetectorError(
                f"{path} is larger than the {LARGEST_HEAD >> 20} MiB that a detector's file may have"
            )
        return path.read_bytes()
    except OSError as error:
        raise DetectorError(f"a detector file was wanted at {path}: {error.strerror or error}") from error


def _object(data: bytes, path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON number")

    try:
        value = json.loads(data, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could not be written again
    except (ValueError, RecursionError) as error:
        raise DetectorError(f"{path} is not JSON: {error}; save the detector again") from error
    if not isinstance(value, dict):
        raise DetectorError(f"{path} must hold an object, got a {type(value).__name__}")
    return value


def _read_config(root: Path) -> Config:
    path = root / "config.json"
    if not path.is_file():
        state = "is a file" if root.is_file() else "has no config.json" if root.exists() else "does not exist"
        raise DetectorError(f"'{root}' is not a saved detector: it {state}")
    raw = _object(_read(path), path)
    if raw.get("schema") != SCHEMA:
        raise OldSchemaError(f"{path} has schema {raw.get('schema')!r}, and this version reads {SCHEMA}", raw)
    return Config.read(raw, str(path), DetectorError)
