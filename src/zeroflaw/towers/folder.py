"""Weights as folders: the one format that is read when a network is loaded.

A folder holds ``config.json`` (what it is, name, licence, source, revision, shape of the network,
preprocessing, SHA-256 of the other files), ``model.safetensors``, ``tokenizer.json`` (not for autoencoders)
and ``README.md``. JSON and safetensors only: nothing executes on load. Other layouts are brought into this
one by `zeroflaw.towers.importing`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import safetensors.torch
import torch
from pydantic import Field, JsonValue
from safetensors import SafetensorError
from torch import Tensor

from zeroflaw import files
from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.files import reason, sha256, whole_folder, write_json, write_text
from zeroflaw.parameters import Record
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.backbone import Bundle
from zeroflaw.towers.catalogue import Text, WeightsRecord
from zeroflaw.towers.configs import CLIPConfig, MAEConfig, from_json
from zeroflaw.towers.model import CLIP
from zeroflaw.towers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from zeroflaw.towers.mae import MAE

SCHEMA = 1
CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"

_LARGEST_JSON = 4 * 2**20  # bytes; no configuration comes near it
_NAMED = ("name", "licence", "source", "revision", "note")

_CARD = """# {name}

Weights for zeroflaw.

- Licence: {licence}
- Source: {source}
- Revision: {revision}
- SHA-256 of the weights: `{sha256}`

{note}
"""

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Described(Record):
    """What ``config.json`` says; ``origin`` holds digests of the published files, where those were others."""

    kind: str
    version: Literal[1] = Field(alias="schema")
    name: Text = ""
    licence: Text = "unknown"
    source: Text = "unknown"
    revision: Text | None = None
    note: Text = ""
    model: dict[str, JsonValue]
    preprocess: Preprocess
    sha256: dict[str, Digest]
    origin: dict[str, Digest] = Field(default_factory=dict)


def save_folder(
    folder: str | Path,
    model: CLIP | MAE,
    tokenizer: Tokenizer | None,
    preprocess: Preprocess,
    record: WeightsRecord,
    *,
    half: bool = False,
    card: str | None = None,
    origin: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> WeightsRecord:
    """Write a weights folder; it appears whole or not at all.

    Args:
        folder: where; it must not exist or be empty unless ``overwrite``.
        model: the network.
        tokenizer: of a CLIP; None for an autoencoder.
        preprocess: images to pixels.
        record: name, licence, source, revision and note.
        half: store float16 (read back as float32): half the size, with rounding of about 5e-4.
        card: text of README.md; one is written from the record if it is not given.
        origin: SHA-256 of published files, by the name of ours that holds the same: who reads the folder
            takes them for its identity. Not taken with ``half``, which changes the numbers.
        overwrite: replace a weights folder that is there.

    Returns:
        The record with the SHA-256 of the weights.

    Raises:
        UsageError: the folder is there and ``overwrite`` is off, it is no weights folder of ours or holds
            other files, or it cannot be written.
        WeightsError: a weight cannot be stored as finite float16.
    """
    target = Path(folder)
    kind = torch.float16 if half else torch.float32
    with _writing(target):
        _check_free(target, overwrite)
    state = {name: tensor.to("cpu", kind).contiguous() for name, tensor in model.state_dict().items()}
    _check_finite(state, f"{record.name} as {kind}")
    with _writing(target), whole_folder(target) as fresh:
        safetensors.torch.save_file(state, fresh / WEIGHTS, metadata={"format": "pt"})
        if tokenizer is not None:
            write_text(fresh / TOKENIZER, tokenizer.text)
        digests = {path.name: sha256(path) for path in sorted(fresh.iterdir())}
        others = {} if half else {n: d for n, d in (origin or {}).items() if d != digests[n]}
        record = record.model_copy(update={"sha256": others.get(WEIGHTS, digests[WEIGHTS])})
        write_text(fresh / CARD, card if card is not None else _CARD.format(**record.model_dump()))
        described = {
            "kind": model.kind,
            "schema": SCHEMA,
            **record.model_dump(include=set(_NAMED)),
            "model": dataclasses.asdict(model.config),
            "preprocess": dataclasses.asdict(preprocess),
            "sha256": digests,
        }
        write_json(fresh / CONFIG, described | ({"origin": others} if others else {}))
    return record


def _check_free(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise UsageError(
            f"the destination must be a new or empty folder, got {target}; choose another or overwrite it"
        )
    if not is_ours(target):
        raise UsageError(
            f"only a weights folder of zeroflaw may be overwritten, got {target}; choose another"
        )
    foreign = sorted({entry.name for entry in target.iterdir()} - {CONFIG, WEIGHTS, TOKENIZER, CARD})
    if foreign:
        raise UsageError(
            f"a weights folder that is overwritten may hold nothing else, got '{foreign[0]}' in {target}; "
            "move that away or choose another folder"
        )


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"the destination must be a folder that can be written, got {target}: {reason(error)}; choose "
            "another"
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say in one sentence what the operating system has against a path that was given.

    Raises:
        WeightsError: the path cannot be looked at: its name is too long, say, or it is not ours to read.
    """
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"{path} must be a path that can be read, got: {reason(error)}; check it"
        ) from error


def is_ours(folder: Path) -> bool:
    """Tell whether a folder is in our format, whatever else may be wrong with it."""
    try:
        return str(read_json(folder / CONFIG).get("kind")).startswith("zeroflaw-")
    except WeightsError:
        return False


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON object; a WeightsError says what is wrong with it."""
    return files.read_json(path, _LARGEST_JSON, "the configuration", WeightsError)


def load_folder(path: str | Path, network: type[CLIP] | type[MAE] = CLIP) -> Bundle:
    """Read and check a weights folder.

    Args:
        path: of a folder in our format.
        network: what is wanted of it.

    Raises:
        WeightsError: something is missing, damaged or refused; the message says what and where.
    """
    folder = Path(path)
    file = str(folder / CONFIG)
    found = from_json(_Described, json.dumps(read_json(folder / CONFIG)), file)
    if found.kind != network.kind:
        raise WeightsError(f"{file} must be of a {network.kind}, got {found.kind[:40]!r}; give other weights")
    if found.sha256.keys() != ({WEIGHTS, TOKENIZER} if network is CLIP else {WEIGHTS}):
        raise WeightsError(f"{file} must give the sha256 of the other files; convert the weights again")
    kind: type[Any] = network.config_type
    config: CLIPConfig | MAEConfig = from_json(kind, json.dumps(found.model), f"{file}, model")
    for name, digest in found.sha256.items():
        check_digest(folder / name, digest)
    digests = {**found.sha256, **found.origin}
    tokenizer = None
    if isinstance(config, CLIPConfig):
        tokenizer = Tokenizer.read(folder, config.text.context_length, sha256=digests[TOKENIZER])
    facts = found.model_dump(include=set(_NAMED)) | {"name": found.name or folder.name}
    record = WeightsRecord(**facts, sha256=digests[WEIGHTS])
    state = read_tensors(folder / WEIGHTS)
    bundle = fill(config, state, tokenizer, found.preprocess, record, folder / WEIGHTS, network)
    bundle.origin = found.origin
    return bundle


def fill(
    config: CLIPConfig | MAEConfig,
    state: Mapping[str, Tensor],
    tokenizer: Tokenizer | None,
    preprocess: Preprocess,
    record: WeightsRecord,
    source: str | Path,
    network: type[CLIP] | type[MAE] = CLIP,
) -> Bundle:
    """Fill a network with weights, as float32 and frozen, and put what belongs to it beside it.

    Args:
        config: the shape that the weights must have.
        state: tensors under our names.
        tokenizer: of a CLIP.
        preprocess: images to pixels.
        record: where the weights come from.
        source: their file, for messages.
        network: its class.

    Raises:
        WeightsError: a tensor is missing, unexpected, of the wrong shape or type, or not finite; tokenizer or
            preprocessing belong to another network.
    """
    with torch.device("meta"):  # shapes are compared before memory is taken
        model = network(config)  # type: ignore[arg-type]
    _check_shapes(model.state_dict(), state, source)
    _check_finite(state, str(source))
    if tokenizer is not None and isinstance(config, CLIPConfig) and tokenizer.size > config.text.vocab_size:
        raise WeightsError(
            f"the tokenizer beside {source} must have at most {config.text.vocab_size} tokens, as the text "
            f"tower has, got {tokenizer.size}; use the tokenizer that belongs to the weights"
        )
    if preprocess.image_size < config.patch_size:
        raise WeightsError(
            f"preprocessing for {source} must have an image_size of at least one patch ({config.patch_size} "
            f"pixels), got {preprocess.image_size}; correct it"
        )
    loaded = {name: tensor.to(torch.float32).contiguous() for name, tensor in state.items()}
    model.load_state_dict(loaded, assign=True)
    return Bundle(model.eval().requires_grad_(False), tokenizer, preprocess, record)


def _check_shapes(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor], source: str | Path) -> None:
    odd = sorted(wanted.keys() ^ got.keys())
    if odd:
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        word = "is missing" if odd[0] in wanted else "is not part of this network"
        raise WeightsError(
            f"the weights in {source} must match their configuration, but tensor '{odd[0]}'{more} {word}; "
            "use weights and configuration that belong together"
        )
    for name, tensor in got.items():
        shape = wanted[name].shape
        if tensor.shape != shape or not tensor.is_floating_point():
            raise WeightsError(
                f"tensor '{name}' in {source} must be of real numbers with shape {tuple(shape)}, got "
                f"{tensor.dtype} {tuple(tensor.shape)}; use weights and configuration that belong together"
            )


def _check_finite(state: Mapping[str, Tensor], source: str) -> None:
    for name, tensor in state.items():
        if not torch.stack(torch.aminmax(tensor)).isfinite().all():  # NaN spreads to both ends
            raise WeightsError(
                f"tensor '{name}' of {source} must be finite, got NaN or infinity; fetch it again"
            )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; a WeightsError says what is wrong with it."""
    files.file_size(path, sys.maxsize, "the weights file", WeightsError)  # a pipe might never end
    try:
        return dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} must be a safetensors file, got: {reason(error)}; fetch it again"
        ) from error


def check_digest(path: Path, wanted: str) -> None:
    """Hold a file against its SHA-256.

    Raises:
        WeightsError: it is missing or differs.
    """
    got = digest_of(path)
    if got != wanted:
        raise WeightsError(
            f"{path} is damaged or was changed: sha256 {wanted} was wanted, got {got}; fetch it again"
        )


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, computed once for as long as its size and time do not change.

    Raises:
        WeightsError: it cannot be read.
    """
    size = files.file_size(path, sys.maxsize, "the weights file", WeightsError)
    with reading(path):
        return _digest(path, size, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, time: int) -> str:
    return sha256(path)
