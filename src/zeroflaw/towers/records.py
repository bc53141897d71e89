"""The weights that zeroflaw knows by name. Importing this costs nothing: `zeroflaw models` only prints it.

Names are ``architecture/tag`` as in open_clip. Facts (repositories, licences, activations, preprocessing,
shapes) are those of open_clip 3.3.0 and of the repositories' model cards. Two of them are traps:

- open_clip's own table sends ViT-B-16-plus-240 ``laion400m_e32`` to the repository of ``laion400m_e31``. A
  repository named after e32 is listed by timm (``vision_transformer.py``); this table uses it.
- OpenAI's weights need QuickGELU; with GELU they work, silently worse.

No revision or SHA-256 was known when this table was written, and none is invented: the first download takes
the newest revision, holds each file against the SHA-256 that the hub declares for it, and records commit and
SHA-256; every later load is held against that record (see `zeroflaw.towers.hub`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from zeroflaw.errors import WeightsError, closest

if TYPE_CHECKING:
    from zeroflaw.towers.model import CLIPConfig

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)

MINI = "mini"
LOCAL = "local-dir:"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a vision-transformer CLIP; both MLPs are four times as wide as their tower."""

    embed: int
    image: int
    patch: int
    vision: tuple[int, int, int]  # width, layers, heads
    text: tuple[int, int, int]
    context: int = 77
    vocabulary: int = 49408


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """What is known of one set of weights.

    Attributes:
        name: ``architecture/tag``, ``mini``, or the name that a folder gives itself.
        licence: as the source states it.
        source: hub repository, or where else the weights come from.
        revision: the source's commit; "main" before the first download, None where there is no such thing.
        sha256: of the weights file; None before the first download.
        activation: of both towers.
        shape: sizes of the towers, where they are known before the weights are read.
        mean, std: what pixels are normalised with; a configuration that comes with the weights goes before
            them.
        note: what a user should know.
    """

    name: str
    licence: str = "unknown"
    source: str = "unknown"
    revision: str | None = None
    sha256: str | None = None
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    shape: Shape | None = None
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    note: str = ""

    def config(self) -> CLIPConfig | None:
        """Return the towers' configuration, where it is known."""
        return None if self.shape is None else _config(self.shape, self.activation)


def _config(shape: Shape, activation: Literal["gelu", "quick_gelu"]) -> CLIPConfig:
    from zeroflaw.towers.model import (
        CLIPConfig,
        TextConfig,
        VisionConfig,
    )  # torch is imported only when it is needed

    (width, layers, heads), (text_width, text_layers, text_heads) = shape.vision, shape.text
    return CLIPConfig(
        embed_dim=shape.embed,
        vision=VisionConfig(
            image_size=shape.image,
            patch_size=shape.patch,
            width=width,
            layers=layers,
            heads=heads,
            mlp_width=4 * width,
            activation=activation,
        ),
        text=TextConfig(
            context_length=shape.context,
            vocab_size=shape.vocabulary,
            width=text_width,
            layers=text_layers,
            heads=text_heads,
            mlp_width=4 * text_width,
            activation=activation,
        ),
    )


_B32 = Shape(embed=512, image=224, patch=32, vision=(768, 12, 12), text=(512, 12, 8))
_B16 = Shape(embed=512, image=224, patch=16, vision=(768, 12, 12), text=(512, 12, 8))
_B16_PLUS = Shape(embed=640, image=240, patch=16, vision=(896, 12, 14), text=(640, 12, 10))
_L14 = Shape(embed=768, image=224, patch=14, vision=(1024, 24, 16), text=(768, 12, 12))
_L14_336 = Shape(embed=768, image=336, patch=14, vision=(1024, 24, 16), text=(768, 12, 12))
_H14 = Shape(embed=1024, image=224, patch=14, vision=(1280, 32, 16), text=(1024, 24, 16))

_OPENAI = "trained by OpenAI on 400 million undisclosed pairs"
_LAION400M = "trained by the open_clip authors on LAION-400M"
_LAION2B = "trained by LAION on LAION-2B (English)"


def _openai(name: str, repository: str, shape: Shape) -> WeightsRecord:
    return WeightsRecord(
        name=f"{name}/openai",
        licence="Apache-2.0 (repository card), MIT (original release)",
        source=f"timm/{repository}.openai",
        revision="main",
        activation="quick_gelu",
        shape=shape,
        note=_OPENAI,
    )


def _mit(name: str, source: str, shape: Shape, note: str) -> WeightsRecord:
    return WeightsRecord(name=name, licence="MIT", source=source, revision="main", shape=shape, note=note)


_ALL = (
    WeightsRecord(
        name=MINI,
        licence="Apache-2.0",
        source="bundled with zeroflaw",
        note="small, trained on synthetic defects; not a CLIP. Works offline",
    ),
    _mit(
        "ViT-B-16-plus-240/laion400m_e31",
        "timm/vit_base_patch16_plus_clip_240.laion400m_e31",
        _B16_PLUS,
        _LAION400M + "; 31 epochs; the weights of anomalib's WinCLIP",
    ),
    _mit(
        "ViT-B-16-plus-240/laion400m_e32",
        "timm/vit_base_patch16_plus_clip_240.laion400m_e32",
        _B16_PLUS,
        _LAION400M
        + "; 32 epochs; the repository is named by timm, not by open_clip; its content was not checked",
    ),
    _openai("ViT-B-32", "vit_base_patch32_clip_224", _B32),
    _openai("ViT-B-16", "vit_base_patch16_clip_224", _B16),
    _openai("ViT-L-14", "vit_large_patch14_clip_224", _L14),
    _openai("ViT-L-14-336", "vit_large_patch14_clip_336", _L14_336),
    _mit("ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", _B32, _LAION2B),
    _mit("ViT-B-16/laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", _B16, _LAION2B),
    replace(
        _mit("ViT-L-14/laion2b_s32b_b82k", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", _L14, _LAION2B),
        mean=_HALF,
        std=_HALF,
    ),
    _mit("ViT-H-14/laion2b_s32b_b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", _H14, _LAION2B),
)

REGISTRY: dict[str, WeightsRecord] = {record.name: record for record in _ALL}


def find_record(name: str) -> WeightsRecord:
    """Return the record of a name.

    Raises:
        WeightsError: there is none.
    """
    if name not in REGISTRY:
        raise WeightsError(
            f"a backbone must be one of the names that 'zeroflaw models' lists, or {LOCAL}FOLDER, got "
            f"'{name}'{closest(name, REGISTRY)}"
        )
    return REGISTRY[name]
