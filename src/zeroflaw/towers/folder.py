"""Weights as folders: our own format, written and read, and the published ones, read.

Ours holds ``config.json`` (schema, name, licence, source, revision, sizes of the towers, preprocessing,
SHA-256 of the other files), ``model.safetensors``, ``tokenizer.json`` and ``README.md``. JSON and safetensors
only: nothing executes on load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.files import sha256, whole_folder, write_json, write_text
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers import layouts
from zeroflaw.towers.backbone import Bundle
from zeroflaw.towers.model import CLIP, CLIPConfig
from zeroflaw.towers.records import WeightsRecord
from zeroflaw.towers.schema import build, read_config, read_preprocess, to_json
from zeroflaw.towers.tokenizer import Tokenizer

SCHEMA = 1
KIND = "zeroflaw-backbone"
CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"
OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")

_TEXTS = ("name", "licence", "source", "revision", "note")
_LARGEST_JSON = 4 * 2**20  # bytes; no configuration comes near it


def save_folder(
    folder: str | Path,
    model: CLIP,
    tokenizer: Tokenizer,
    preprocess: Preprocess,
    record: WeightsRecord,
    *,
    half: bool = False,
    card: str | None = None,
    overwrite: bool = False,
) -> WeightsRecord:
    """Write a weights folder; it appears whole or not at all.

    Args:
        folder: where; it must not exist or be empty unless ``overwrite``.
        model: the towers.
        tokenizer: theirs; see `Tokenizer.read`.
        preprocess: theirs.
        record: name, licence, source, revision and note.
        half: store float16 (read back as float32): half the size, with rounding of about 5e-4.
        card: text of README.md; one is written from the record if it is not given.
        overwrite: replace a weights folder that is there.

    Returns:
        The record with the SHA-256 of the weights.

    Raises:
        UsageError: the folder is there and ``overwrite`` is off, it is no weights folder of ours or holds
            other files, or it cannot be written.
        WeightsError: a weight cannot be stored as finite float16.
    """
    target = Path(folder)
    with _writing(target):
        _check_free(target, overwrite)
    kind = torch.float16 if half else torch.float32
    state = {
        name: tensor.detach().to("cpu", kind).contiguous() for name, tensor in model.state_dict().items()
    }
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise WeightsError(
            f"weights must be finite numbers as {kind}, got NaN or infinity; store them as float32"
        )
    with _writing(target), whole_folder(target) as fresh:
        safetensors.torch.save_file(state, fresh / WEIGHTS, metadata={"format": "pt"})
        write_text(fresh / TOKENIZER, tokenizer.text)
        saved = replace(record, sha256=sha256(fresh / WEIGHTS))
        write_text(fresh / CARD, card if card is not None else _card(saved, model))
        write_json(fresh / CONFIG, _config_json(model, preprocess, saved, sha256(fresh / TOKENIZER)))
    return saved


def _config_json(
    model: CLIP, preprocess: Preprocess, record: WeightsRecord, tokenizer: str
) -> dict[str, Any]:
    return {
        "kind": KIND,
        "schema": SCHEMA,
        **{key: getattr(record, key) for key in _TEXTS},
        "model": to_json(model.config),
        "preprocess": to_json(preprocess),
        "sha256": {WEIGHTS: record.sha256, TOKENIZER: tokenizer},
    }


def _card(record: WeightsRecord, model: CLIP) -> str:
    vision, text = model.config.vision, model.config.text
    return (
        f"# {record.name}\n\nWeights of an image and a text tower with one embedding space, for zeroflaw.\n\n"
        f"- Licence: {record.licence}\n- Source: {record.source}\n- Revision: {record.revision or 'none'}\n"
        f"- SHA-256 of {WEIGHTS}: `{record.sha256}`\n"
        f"- Image tower: {vision.layers} blocks, {vision.width} wide, {vision.image_size} px in patches of "
        f"{vision.patch_size} px, {vision.activation}\n"
        f"- Text tower: {text.layers} blocks, {text.width} wide, {text.context_length} tokens, "
        f"{text.activation}\n- Embedding: {model.config.embed_dim} wide\n\n{record.note}\n"
    )


def _check_free(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise UsageError(
            f"the destination must be a new or empty folder, got {target}; choose another or overwrite it"
        )
    if not _is_ours(target):
        raise UsageError(
            f"only a weights folder of zeroflaw may be overwritten, got {target} without such a {CONFIG}; "
            "choose another"
        )
    foreign = sorted({entry.name for entry in target.iterdir()} - {CONFIG, WEIGHTS, TOKENIZER, CARD})
    if foreign:
        raise UsageError(
            f"a weights folder that is overwritten may hold nothing else, got '{foreign[0]}' in {target}; "
            "move that away or choose another folder"
        )


def _is_ours(folder: Path) -> bool:
    try:
        return read_json(folder / CONFIG).get("kind") == KIND
    except WeightsError:
        return False


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"the destination must be a folder that can be written, got {target}: {_reason(error)}; choose "
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
            f"{path} must be a path that can be read, got: {_reason(error)}; check the path"
        ) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def load_folder(path: str | Path) -> Bundle:
    """Read and check a weights folder of ours, or of open_clip's or Hugging Face's layout.

    Raises:
        WeightsError: something is missing, damaged or refused; the message says what and where.
    """
    folder = Path(path)
    with reading(folder):
        return _load(folder)


def _load(folder: Path) -> Bundle:
    _check_is_folder(folder)
    raw = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if raw.get("kind") == KIND:
        return _load_ours(folder, raw)
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return _load_open_clip(folder)
    if raw.get("model_type") == "clip":
        return _load_hugging_face(folder, raw)
    raise WeightsError(
        f"a weights folder needs {CONFIG} of zeroflaw or of a Hugging Face CLIP, or {OPEN_CLIP_CONFIG}, "
        f"which say what the tensors are; {folder} has {_listing(folder)}; fetch the configuration too, or "
        "use 'zeroflaw convert'"
    )


def _check_is_folder(folder: Path) -> None:
    if folder.is_file():
        raise WeightsError(
            "weights must be a folder with configuration, tokenizer and preprocessing, got the bare file "
            f"{folder}; use the folder that it came in, or 'zeroflaw convert' with a configuration"
        )
    if not folder.is_dir():
        raise WeightsError(f"weights must be a folder that exists, got {folder}; check the path")


def _load_ours(folder: Path, raw: dict[str, Any]) -> Bundle:
    if raw.get("schema") != SCHEMA:
        raise WeightsError(
            f"{folder / CONFIG} must have schema {SCHEMA}, got {str(raw.get('schema'))[:40]}; use the "
            "version of zeroflaw that wrote it, or convert the weights again"
        )
    digests = raw.get("sha256")
    if not isinstance(digests, dict) or digests.keys() != {WEIGHTS, TOKENIZER}:
        raise WeightsError(
            f"{folder / CONFIG} must give the sha256 of {WEIGHTS} and {TOKENIZER}; convert the weights again"
        )
    config = read_config(raw.get("model"))
    preprocess = read_preprocess(raw.get("preprocess"), config)
    for name, digest in digests.items():
        check_digest(folder / name, str(digest))
    tokenizer = Tokenizer.read(folder, context_length=config.text.context_length)
    record = replace(WeightsRecord(name=folder.name), **_texts(raw))
    return _bundle(config, read_tensors(folder / WEIGHTS), tokenizer, preprocess, record, folder / WEIGHTS)


def _texts(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: str(raw[key])[:2000] for key in _TEXTS if raw.get(key) is not None}


def _load_open_clip(folder: Path) -> Bundle:
    config, preprocess = layouts.open_clip_config(read_json(folder / OPEN_CLIP_CONFIG))
    weights = folder / OPEN_CLIP_WEIGHTS
    if not weights.is_file():
        weights = _only_safetensors(folder)
    tokenizer = Tokenizer.read(folder, context_length=config.text.context_length)
    state = layouts.rename(read_tensors(weights))
    return _bundle(
        config, state, tokenizer, preprocess, _foreign_record(folder, "an open_clip folder"), weights
    )


def _load_hugging_face(folder: Path, raw: dict[str, Any]) -> Bundle:
    config, preprocess = hugging_face_settings(folder, raw)
    weights = folder / WEIGHTS if (folder / WEIGHTS).is_file() else _only_safetensors(folder)
    tokenizer = Tokenizer.read(folder, context_length=config.text.context_length)
    state = layouts.rename(read_tensors(weights))
    return _bundle(
        config, state, tokenizer, preprocess, _foreign_record(folder, "a Hugging Face folder"), weights
    )


def hugging_face_settings(folder: Path, raw: dict[str, Any]) -> tuple[CLIPConfig, Preprocess]:
    """Read what Hugging Face's ``config.json`` (``raw``) and the preprocessing file beside it say.

    Raises:
        WeightsError: one of them is missing, damaged or of a model that we do not build.
    """
    config = layouts.hugging_face_config(raw)
    described = next((folder / name for name in PREPROCESSORS if (folder / name).is_file()), None)
    if described is None:
        raise WeightsError(
            f"{' or '.join(PREPROCESSORS)} must lie in {folder}: preprocessing is never guessed; fetch that "
            "file too"
        )
    return config, layouts.hugging_face_preprocess(read_json(described), config)


def _foreign_record(folder: Path, source: str) -> WeightsRecord:
    return WeightsRecord(name=folder.resolve().name, source=source)


def _bundle(
    config: CLIPConfig,
    state: dict[str, Tensor],
    tokenizer: Tokenizer,
    preprocess: Preprocess,
    record: WeightsRecord,
    weights: Path,
) -> Bundle:
    if tokenizer.size > config.text.vocab_size:
        raise WeightsError(
            f"the tokenizer beside {weights} must have at most {config.text.vocab_size} tokens, as the text "
            f"tower has, got {tokenizer.size}; use the tokenizer that belongs to the weights"
        )
    model = build(config, state, str(weights))
    record = replace(record, sha256=digest_of(weights), activation=config.vision.activation)
    return Bundle(model, tokenizer, preprocess, record)


def _only_safetensors(folder: Path) -> Path:
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise WeightsError(
            f"one .safetensors file with the weights must lie in {folder}, got {_listing(folder)}; fetch "
            "it, or turn a pickled checkpoint into a folder with 'zeroflaw convert'"
        )
    return found[0]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        WeightsError: it is missing, damaged or something else.
    """
    try:
        return dict(safetensors.torch.load_file(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} must be a safetensors file, got: {error}; fetch it again") from error


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
    try:
        status = path.stat()
        return _digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise WeightsError(
            f"{path} must be a file that can be read, got: {error.strerror}; fetch it again"
        ) from error


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, time: int) -> str:
    return sha256(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON object.

    Raises:
        WeightsError: it is missing, too large, damaged or something else.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise WeightsError(
                f"{path} must be a small JSON file, got {path.stat().st_size} bytes; fetch it again"
            )
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} must be a JSON file, got: {error}; fetch it again") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} must hold a JSON object, got {type(value).__name__}; fetch it again")
    return value


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
