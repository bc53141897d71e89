"""Model configurations as JSON: written plainly, read with suspicion.

Every number is held against a ceiling before anything of its size is made, so that a damaged or hostile file
fails at once.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch

from zeroflaw.errors import WeightsError, closest
from zeroflaw.runtime.preprocess import Preprocess
from zeroflaw.towers.model import CLIP, CLIPConfig, TextConfig

T = TypeVar("T")

_CEILING = 8192  # of any whole number that has none of its own; the largest published CLIP is 1664 wide
_LARGEST_LOGIT_SCALE = 20  # published weights have 4.6; the exponential of more would drown every difference
_CEILINGS = {"vocab_size": 1_000_000, "mlp_width": 65_536, "layers": 128, "repeats": 64, "context": 4096}


def to_json(config: CLIPConfig | TextConfig | Preprocess) -> dict[str, Any]:
    """Return a configuration as plain JSON values."""
    plain: dict[str, Any] = dataclasses.asdict(config)
    return plain


def read_config(raw: object) -> CLIPConfig:
    """Read the shape of both towers from JSON values.

    Raises:
        WeightsError: a key is missing, unknown, of the wrong type or absurd, or the numbers do not fit each
            other.
    """
    config = _read(CLIPConfig, raw, "model")
    check_config(config)
    return config


def read_preprocess(raw: object, config: CLIPConfig) -> Preprocess:
    """Read the preprocessing that goes with ``config`` from JSON values.

    Raises:
        WeightsError: as for `read_config`.
    """
    found = _read(Preprocess, raw, "preprocess")
    if found.image_size < config.vision.patch_size:
        raise WeightsError(
            f"preprocess.image_size must be at least one patch ({config.vision.patch_size} pixels), got "
            f"{found.image_size}"
        )
    if min(found.std) <= 0:
        raise WeightsError(f"preprocess.std must be above zero, got {found.std}; correct the file")
    return found


def check_config(config: CLIPConfig) -> None:
    """Hold every number against its ceiling, and against the others.

    Raises:
        WeightsError: a number is absurd or does not fit.
    """
    _read(CLIPConfig, to_json(config), "model")
    vision, text = config.vision, config.text
    for name, width, heads in (("vision", vision.width, vision.heads), ("text", text.width, text.heads)):
        if width % heads:
            raise WeightsError(
                f"model.{name}.width must be a multiple of its heads, got width {width} and {heads} heads"
            )
    if vision.image_size % vision.patch_size:
        raise WeightsError(
            f"model.vision.image_size must be a multiple of patch_size, got {vision.image_size} and "
            f"{vision.patch_size}"
        )


def empty_model(config: CLIPConfig) -> CLIP:
    """Build both towers without memory for their weights; no random number is drawn.

    Raises:
        WeightsError: no model can have this configuration.
    """
    check_config(config)
    try:
        with torch.device("meta"):
            return CLIP(config)
    except (ValueError, RuntimeError, IndexError) as error:
        raise WeightsError(
            f"the model configuration does not describe a model: {error}; correct it"
        ) from error


def build(config: CLIPConfig, state: Mapping[str, torch.Tensor], source: str) -> CLIP:
    """Fill both towers with weights, as float32 and frozen.

    Args:
        config: the shape that the weights must have.
        state: tensors under our names.
        source: where they come from, for messages.

    Raises:
        WeightsError: a tensor is missing, unexpected, of the wrong shape or type, or not finite.
    """
    model = empty_model(config)
    wanted = model.state_dict()
    _check_names(wanted.keys(), state.keys(), source)
    loaded = {name: _checked(name, state[name], tensor.shape, source) for name, tensor in wanted.items()}
    if float(loaded["logit_scale"]) > _LARGEST_LOGIT_SCALE:
        raise WeightsError(
            f"'logit_scale' in {source} must be a logarithm of at most {_LARGEST_LOGIT_SCALE}, got more"
        )
    model.load_state_dict(loaded, assign=True)
    return model.eval().requires_grad_(False)


def _check_names(wanted: Any, got: Any, source: str) -> None:
    for word, names in (("is missing", wanted - got), ("is not part of this model", got - wanted)):
        if names:
            first = sorted(names)[0]
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise WeightsError(
                f"the weights in {source} must match their configuration, but tensor '{first}'{more} {word}; "
                "use weights and configuration that belong together"
            )


def _checked(name: str, tensor: torch.Tensor, shape: torch.Size, source: str) -> torch.Tensor:
    if tensor.shape != shape or not tensor.is_floating_point():
        raise WeightsError(
            f"tensor '{name}' in {source} must be of real numbers with shape {tuple(shape)}, got "
            f"{tensor.dtype} {tuple(tensor.shape)}; use weights and configuration that belong together"
        )
    if not all(
        bool(torch.isfinite(end)) for end in torch.aminmax(tensor)
    ):  # one pass; NaN spreads to both ends
        raise WeightsError(
            f"tensor '{name}' in {source} must be finite, got NaN or infinity; fetch the weights again"
        )
    return tensor.to(torch.float32).contiguous()


def _read(kind: type[T], raw: object, path: str) -> T:
    if not isinstance(raw, Mapping):
        raise WeightsError(f"'{path}' must be a JSON object, got {_short(raw)}; correct the configuration")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in raw:
        if key not in fields:
            raise WeightsError(
                f"'{path}' has no key '{key}'{closest(str(key), fields)}; correct the configuration"
            )
    for name, field in fields.items():
        if name not in raw and field.default is dataclasses.MISSING:
            raise WeightsError(f"'{path}' must have a key '{name}', got none; correct the configuration")
    return kind(**{name: _value(hints[name], value, f"{path}.{name}") for name, value in raw.items()})


def _value(kind: Any, value: Any, path: str) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return None if value is None else _value(get_args(kind)[0], value, path)
    if dataclasses.is_dataclass(kind):
        return _read(kind, value, path)  # type: ignore[arg-type]
    if get_origin(kind) is tuple:
        return _tuple(kind, value, path)
    if not _fits(kind, value, _ceiling(path)):
        raise WeightsError(
            f"'{path}' must be {_words(kind, path)}, got {_short(value)}; correct the configuration"
        )
    return value


def _tuple(kind: Any, value: Any, path: str) -> tuple[Any, ...]:
    inner = get_args(kind)
    length = None if inner[-1] is Ellipsis else len(inner)
    if (
        not isinstance(value, (list, tuple))
        or len(value) > 64
        or (length is not None and len(value) != length)
    ):
        raise WeightsError(f"'{path}' must be a list of {length or 'up to 64'} values, got {_short(value)}")
    return tuple(_value(inner[0], item, path) for item in value)


def _fits(kind: Any, value: Any, ceiling: int) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is int:
        return type(value) is int and 1 <= value <= ceiling
    if kind is float:
        # A whole number may be too large for a float, so it is compared before it is converted.
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is kind


def _ceiling(path: str) -> int:
    return _CEILINGS.get(path.rpartition(".")[2], _CEILING)


def _words(kind: Any, path: str) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    names = {
        int: f"a whole number from 1 to {_ceiling(path)}",
        float: "a finite number",
        bool: "true or false",
    }
    return names.get(kind, "text")


def _short(value: object) -> str:
    return repr(value)[:60]
