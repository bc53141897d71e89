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
from pathlib import Path

import torch
from torch import Tensor

from zeroflaw.detectors.anomalyclip.detector import AnomalyCLIP
from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.files import file_size, sha256
from zeroflaw.runtime.folder import AuxiliarySeen, Seen, require_target
from zeroflaw.towers.backbone import Backbone, DeviceName
from zeroflaw.towers.importing import read_pickled
from zeroflaw.towers.weights import load_backbone

WRAPPER = "prompt_learner"
IMAGE_SIZE = 518  # of the published code
LARGEST = 256 * 2**20  # bytes; published files have a few MiB
LICENCE = (
    "MIT, as their repository states. They were learned on the test images of VisA (CC BY 4.0; folder "
    "9_12_4_multiscale) or of MVTec AD (CC BY-NC-SA 4.0; folder 9_12_4_multiscale_visa): take the latter for "
    "non-commercial, and measure neither on what it was learned from"
)
_PAIR = {"ctx_pos": "normal", "ctx_neg": "anomalous"}
_SIDES = ("pos", "neg")
_COPIED = ("tokenized_prompts", "token_prefix", "token_suffix")
_DEEP = "compound_prompts_text."
_UNUSED = re.compile(r"compound_prompt_projections\.\d+\.(weight|bias)")
_CLOSE = 1e-3  # float16 moves a number by a two-thousandth

State = Mapping[str, Tensor]


def convert_prompts(
    source: str | Path,
    folder: str | Path,
    *,
    backbone: str,
    device: DeviceName = "auto",
    licence: str | None = None,
    overwrite: bool = False,
) -> AnomalyCLIP:
    """Write a detector folder from a published checkpoint; images and maps are sized as in the authors' code.

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
    state = _read(path)
    network = load_backbone(backbone, device=device)
    prompts = _prompts(state, network, path)
    detector = AnomalyCLIP(
        backbone=backbone,
        device=device,
        image_size=IMAGE_SIZE,
        map_grid="pixels",
        n_ctx=len(prompts["normal"]),
        deep_depth=len(prompts) - 1,
        deep_tokens=len(prompts.get("deep.2", [0])),
    )
    detector._check_backbone(network)
    for side, text in zip(_SIDES, (detector.normal_words, detector.anomalous_words), strict=True):
        _check_copies(state, network, side, text, path)
    origin = {"file": path.name, "sha256": sha256(path), "licence": licence or LICENCE}
    unknown = {"VisA or MVTec AD, which the file does not say": dict[str, int]()}
    seen = Seen(auxiliary=AuxiliarySeen(dataset="that the prompts were learned on", categories=unknown))
    detector.become(network, detector.judging_by(network, prompts, origin=origin), seen)
    detector.save(target)
    return detector


def _read(path: Path) -> State:
    """Return the tensors of a published checkpoint that are of use, by their names there."""
    file_size(path, LARGEST, "checkpoint of AnomalyCLIP", WeightsError)
    raw = read_pickled(path)
    state = raw.get(WRAPPER) if isinstance(raw, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"a checkpoint of AnomalyCLIP holds tensors under '{WRAPPER}', but {path} does not; to convert "
            "the weights of a CLIP leave --backbone out"
        )
    found = {str(name): tensor for name, tensor in state.items() if not _UNUSED.fullmatch(str(name))}
    wanted = {f"{part}_{side}" for part in ("ctx", *_COPIED) for side in _SIDES}
    wanted |= {f"{_DEEP}{number}" for number in range(sum(name.startswith(_DEEP) for name in found))}
    if odd := sorted(wanted ^ set(found)):
        what = "lacks" if odd[0] in wanted else "holds the unknown"
        raise WeightsError(f"{path} is no checkpoint of AnomalyCLIP as published: it {what} '{odd[0]}'")
    return found


def _prompts(state: State, backbone: Backbone, path: Path) -> dict[str, Tensor]:
    """Return the learned tokens by our names, float32: of the CLIP's width, for one class, and finite."""
    width, prompts = backbone.model.config.text.width, dict[str, Tensor]()
    deep = {name: f"deep.{int(name.removeprefix(_DEEP)) + 2}" for name in state if name.startswith(_DEEP)}
    for names, ones in ((_PAIR, (1, 1)), (deep, ())):
        for theirs, ours in names.items():
            tokens = state[theirs]
            shape = *ones, *state[next(iter(names))].shape[-2:-1], width
            if tokens.shape != shape or 0 in shape:
                why = f"'{theirs}' has the shape {tuple(tokens.shape)}, not {shape}"
                raise _another_clip(path, backbone, why)
            if not tokens.is_floating_point() or not bool(torch.isfinite(tokens).all()):
                raise WeightsError(f"'{theirs}' of {path} must hold finite numbers; fetch the file again")
            prompts[ours] = tokens.detach().float().reshape(-1, width)
    return prompts


def _check_copies(state: State, backbone: Backbone, side: str, text: str, path: Path) -> None:
    """Compare the copies of token ids and word embeddings around the learned tokens with the backbone's."""
    ids, end = backbone.tokenizer.encode([text])
    wanted = ids[0, : int(end[0]) + 1]  # start, words, end: the learned tokens stand after the start
    own = backbone.model.text.token_embedding.weight.float().cpu()[wanted].flatten()
    after = state[f"ctx_{side}"].shape[2] + 1
    written, before, behind = (state[f"{part}_{side}"].flatten() for part in _COPIED)
    if not torch.equal(torch.cat([written[:1], written[after : after + len(wanted) - 1]]).long(), wanted):
        raise _another_clip(path, backbone, f"their token ids after the learned ones are not “{text}”")
    copied = torch.cat([before, behind])[: len(own)].float()
    if len(copied) != len(own) or not torch.allclose(copied, own, rtol=_CLOSE, atol=_CLOSE / 100):
        raise _another_clip(path, backbone, "the word embeddings copied into them are not its own")


def _another_clip(path: Path, backbone: Backbone, why: str) -> WeightsError:
    return WeightsError(
        f"the prompts of {path} were not learned on {backbone.name}: {why}; give the CLIP that they belong "
        "to (ViT-L-14-336/openai for the published ones)"
    )
