"""Published AnomalyCLIP prompts to a detector folder.

A published checkpoint (``checkpoints/9_12_4_multiscale*/epoch_15.pth`` of zqhang/AnomalyCLIP) holds the
prompt learner alone: ``{"prompt_learner": state_dict}``. In it, for 12 learned tokens, nine text blocks with
4 tokens each, a text tower 768 wide and a context of 77:

- ``ctx_pos``, ``ctx_neg`` (1, 1, 12, 768): before the words for normal ("pos") and for anomalous;
- ``compound_prompts_text.0`` to ``.7`` (4, 768): tokens for the text blocks 2 to 9;
- ``token_prefix_pos``, ``token_prefix_neg`` (1, 1, 1, 768) and ``token_suffix_pos``, ``token_suffix_neg``
  (1, 1, 64, 768): the word embeddings around them, copied from the CLIP. They are compared with the
  backbone's, which shows whether the prompts belong to it;
- ``tokenized_prompts_pos``, ``tokenized_prompts_neg`` (1, 1, 77): token ids, compared likewise;
- ``compound_prompt_projections.N.weight`` and ``.bias``: never used, and not taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zeroflaw.detectors.anomalyclip import AnomalyCLIP
from zeroflaw.detectors.anomalyclip_prompts import Prompts
from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.files import sha256
from zeroflaw.runtime.folder import require_target
from zeroflaw.towers.folder import reading
from zeroflaw.towers.importing import read_pickled
from zeroflaw.towers.weights import load_backbone

if TYPE_CHECKING:
    from zeroflaw.towers.backbone import Backbone

WRAPPER = "prompt_learner"
IMAGE_SIZE = 518  # of the published code
LARGEST = 256 * 2**20  # bytes; published files have a few MiB
LICENCE = (
    "MIT, as their repository states. They were learned on the test images of VisA (CC BY 4.0; folder "
    "9_12_4_multiscale) or of MVTec AD (CC BY-NC-SA 4.0; folder 9_12_4_multiscale_visa): take the latter for "
    "non-commercial, and measure neither on what it was learned from"
)
_UNKNOWN_SET = {
    "dataset": "that the prompts were learned on",
    "categories": {"VisA or MVTec AD, which the file does not say": {}},
}

_DEEP = re.compile(r"compound_prompts_text\.(\d+)")
_UNUSED = re.compile(r"compound_prompt_projections\.\d+\.(weight|bias)")
_FIXED = ("token_prefix", "token_suffix", "tokenized_prompts")
_CLOSE = 1e-3  # float16 moves a number by a two-thousandth


@dataclass(frozen=True)
class PublishedPrompts:
    """What a checkpoint says.

    Attributes:
        prompts: the learned tokens, float32.
        fixed: the copies of word embeddings and token ids, by their published names.
    """

    prompts: Prompts
    fixed: dict[str, Tensor]

    def check(self, backbone: Backbone, words: tuple[str, str], path: Path) -> None:
        """Compare the copies of word embeddings and token ids with the backbone's.

        Raises:
            WeightsError: the prompts were learned on another CLIP, or end in other words.
        """
        width, theirs = backbone.model.config.text.width, self.prompts.normal.shape[1]
        if width != theirs:
            raise _another_clip(path, backbone, f"their tokens are {theirs} wide and its own {width}")
        for side, text in zip(("pos", "neg"), words, strict=True):
            ids, end = backbone.tokenizer.encode([text])
            wanted = ids[0, : int(end[0]) + 1]  # start, words, end: the learned tokens stand after the start
            table = backbone.model.text.token_embedding.weight.float().cpu()
            written, copied = self._around(side, len(wanted) - 1)
            if not torch.equal(written.long(), wanted):
                why = f"their token ids after the learned ones are not “{text}”"
                raise _another_clip(path, backbone, why)
            if not torch.allclose(copied.float(), table[wanted], rtol=_CLOSE, atol=_CLOSE / 100):
                raise _another_clip(path, backbone, "the word embeddings copied into them are not its own")

    def _around(self, side: str, after: int) -> tuple[Tensor, Tensor]:
        """Token ids (T,) and word embeddings (T, C) of the start and of ``after`` tokens after the learned
        ones; fewer where the file has fewer.
        """
        ids = self.fixed[f"tokenized_prompts_{side}"][0, 0]
        start = len(self.prompts.normal) + 1
        before, behind = (self.fixed[f"{name}_{side}"][0, 0] for name in ("token_prefix", "token_suffix"))
        return torch.cat([ids[:1], ids[start : start + after]]), torch.cat([before, behind[:after]])


def convert_prompts(
    source: str | Path,
    folder: str | Path,
    *,
    backbone: str,
    device: str = "auto",
    licence: str | None = None,
    overwrite: bool = False,
) -> AnomalyCLIP:
    """Write a detector folder from a published checkpoint.

    Args:
        source: the file, ``epoch_15.pth``.
        folder: the folder to write.
        backbone: the CLIP that the prompts were learned on: ``ViT-L-14-336/openai`` for the published ones,
            or the same weights under any name that `zeroflaw.load_backbone` takes.
        device: where to run.
        licence: of the prompts; what is known of the published ones if not given.
        overwrite: replace a detector that is there.

    Returns:
        The detector that was written.

    Raises:
        UsageError: the folder is taken, or the backbone cannot have the local path or the image size.
        WeightsError: the file is damaged or something else, or the prompts belong to another CLIP.
    """
    path, target = Path(source), require_target(folder)
    if (target / "config.json").exists() and not overwrite:
        raise UsageError(f"{folder} already holds a detector; give another folder or --overwrite")
    published = read_prompts(path)
    prompts = published.prompts
    detector = AnomalyCLIP(
        backbone=backbone,
        device=device,
        image_size=IMAGE_SIZE,
        n_ctx=len(prompts.normal),
        deep_depth=len(prompts.deep) + 1,
        deep_tokens=len(prompts.deep[0]) if prompts.deep else 1,
    )
    network = load_backbone(backbone, device=device)  # type: ignore[arg-type]
    published.check(network, detector.words, path)
    origin = {"file": path.name, "sha256": sha256(path), "licence": licence or LICENCE}
    origin["text"] = (
        f"the checkpoint {path.name} (sha256 `{origin['sha256']}`). Licence: {origin['licence']}."
    )
    detector.adopt(network, prompts, origin=origin, seen={"auxiliary": _UNKNOWN_SET})
    detector.save(target)
    return detector


def _another_clip(path: Path, backbone: Backbone, why: str) -> WeightsError:
    return WeightsError(
        f"the prompts of {path} were not learned on {backbone.name}: {why}; give the CLIP that they belong "
        "to (ViT-L-14-336/openai for the published ones)"
    )


def read_prompts(path: Path) -> PublishedPrompts:
    """Read a published checkpoint.

    Raises:
        WeightsError: it is damaged, or holds something else than such prompts; the message names what.
    """
    with reading(path):
        if not path.is_file():
            raise WeightsError(f"a checkpoint of AnomalyCLIP was wanted, but {path} is no file")
        if path.stat().st_size > LARGEST:
            raise WeightsError(
                f"a checkpoint of AnomalyCLIP has a few MiB, but {path} has more than {LARGEST >> 20}; name "
                "the file of the prompts alone"
            )
    raw = read_pickled(path)
    state = raw.get(WRAPPER) if isinstance(raw, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"a checkpoint of AnomalyCLIP holds tensors under '{WRAPPER}', but {path} does not; to convert "
            "the weights of a CLIP leave --backbone out"
        )
    return _published({str(name): tensor for name, tensor in state.items()}, path)


def _published(state: dict[str, Tensor], path: Path) -> PublishedPrompts:
    deep = sorted(int(found[1]) for name in state if (found := _DEEP.fullmatch(name)))
    wanted = {f"{name}_{side}" for name in ("ctx", *_FIXED) for side in ("pos", "neg")}
    wanted |= {f"compound_prompts_text.{number}" for number in range(len(deep))}
    got = {name for name in state if not _UNUSED.fullmatch(name)}
    if odd := sorted(wanted ^ got):
        what = "lacks" if odd[0] in wanted else "holds the unknown"
        raise WeightsError(f"{path} is no checkpoint of AnomalyCLIP as published: it {what} '{odd[0]}'")
    shape = tuple(state["ctx_pos"].shape)
    if len(shape) != 4 or shape[:2] != (1, 1) or not shape[2] or not shape[3]:
        raise WeightsError(
            f"'ctx_pos' of {path} must have the shape (1, 1, tokens, width), got {shape}; prompts for "
            "several classes or states are not read"
        )
    _check_shapes(state, path, shape[2], shape[3], deep)
    learned = {name: _numbers(state[name], name, path) for name in wanted if not name.startswith(_FIXED)}
    prompts = Prompts(
        normal=learned["ctx_pos"][0, 0],
        anomalous=learned["ctx_neg"][0, 0],
        deep=[learned[f"compound_prompts_text.{number}"] for number in deep],
    )
    return PublishedPrompts(prompts, {name: state[name] for name in wanted if name.startswith(_FIXED)})


def _check_shapes(state: Mapping[str, Tensor], path: Path, length: int, width: int, deep: list[int]) -> None:
    context = state["tokenized_prompts_pos"].shape[-1] if state["tokenized_prompts_pos"].ndim else 0
    shapes: dict[str, tuple[int, ...]] = {}
    for side in ("pos", "neg"):
        shapes[f"ctx_{side}"] = (1, 1, length, width)
        shapes[f"token_prefix_{side}"] = (1, 1, 1, width)
        shapes[f"token_suffix_{side}"] = (1, 1, context - 1 - length, width)
        shapes[f"tokenized_prompts_{side}"] = (1, 1, context)
    if deep:
        tokens = state["compound_prompts_text.0"].shape[0] if state["compound_prompts_text.0"].ndim else 0
        shapes |= {f"compound_prompts_text.{number}": (tokens, width) for number in deep}
    for name, shape in shapes.items():
        if tuple(state[name].shape) != shape or 0 in shape:
            raise WeightsError(
                f"'{name}' of {path} has shape {tuple(state[name].shape)}, which does not fit {length} "
                f"learned tokens of width {width} in a context of {context} (wanted: {shape})"
            )


def _numbers(tensor: Tensor, name: str, path: Path) -> Tensor:
    if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"'{name}' of {path} must hold finite numbers; fetch the file again")
    return tensor.detach().float().contiguous()
