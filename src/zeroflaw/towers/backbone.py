"""A loaded CLIP, ready to embed: towers, tokenizer, preprocessing, and a record of where they come from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from zeroflaw.errors import UsageError, WeightsError
from zeroflaw.runtime.features import FeatureRequest, Floats, ImageFeatures
from zeroflaw.runtime.preprocess import Pixels, Preprocess
from zeroflaw.runtime.scores import make_windows
from zeroflaw.runtime.tower import compared, compared_layers, in_passes, require_multiple
from zeroflaw.towers.cache import load_texts, save_texts, text_key
from zeroflaw.towers.catalogue import WeightsRecord
from zeroflaw.towers.configs import CLIPConfig, TextConfig
from zeroflaw.towers.local import LocalPath, local_features
from zeroflaw.towers.model import CLIP, TowerOutput
from zeroflaw.towers.patches import patch_width
from zeroflaw.towers.stem import Stem
from zeroflaw.towers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from zeroflaw.towers.mae import MAE

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DtypeName = Literal["float32", "bfloat16"]
Progress = Callable[[int, int], object]

_CACHE_FROM = 32  # prompts; fewer are embedded faster than a file is found worth keeping
_LARGEST_LOGIT_SCALE = 20  # published weights have 4.6; the exponential of more drowns every difference


@dataclass
class Bundle:
    """Weights, read and checked: a frozen float32 network and all that belongs to it.

    Attributes:
        model: the network.
        tokenizer: of a CLIP; None for an autoencoder.
        preprocess: images to pixels.
        record: where the weights come from.
        origin: SHA-256 of published files that ours were made from; see `zeroflaw.towers.folder`.
    """

    model: CLIP | MAE
    tokenizer: Tokenizer | None
    preprocess: Preprocess
    record: WeightsRecord
    origin: dict[str, str] = field(default_factory=dict)


@dataclass
class Loaded:
    """A network on a device.

    Attributes:
        record: name, licence, source, revision and SHA-256 of the weights.
        preprocess: images to pixels.
        device: where the network is.
        dtype: what it computes in.
    """

    record: WeightsRecord
    preprocess: Preprocess
    device: torch.device
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """Name of the weights."""
        return self.record.name

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights file as it was published."""
        return self.record.sha256 or ""

    @property
    def licence(self) -> str:
        """Licence of the weights, as their source states it."""
        return self.record.licence

    @property
    def revision(self) -> str | None:
        """Commit of the source that the weights come from, where there is one."""
        return self.record.revision


@dataclass
class Backbone(Loaded):
    """Embeds images and texts. Frozen, without gradients; `TextTower.from_vectors` still passes them to its
    input. Embeddings always come back as float32.

    Attributes:
        model: both towers, on ``device`` in ``dtype``.
        tokenizer: prompts to token ids.
        preprocess: images to pixels; replace its ``image_size`` to run on another grid (positions are
            interpolated).
        logit_scale: what cosines are multiplied with to become logits, as learned (100 in published weights).
    """

    model: CLIP
    tokenizer: Tokenizer
    logit_scale: float = 100.0

    @classmethod
    def on(cls, bundle: Bundle, *, device: str = "auto", dtype: str = "float32") -> Backbone:
        """Move a bundle to a device.

        Raises:
            UsageError: the device is unknown or not there, or the type is not one of `DtypeName`.
            WeightsError: the bundle is not of a CLIP, or its learned scale is absurd.
        """
        place, kind = pick_device(device), pick_dtype(dtype)
        model, tokenizer, name = bundle.model, bundle.tokenizer, bundle.record.name
        if not isinstance(model, CLIP) or tokenizer is None:
            raise WeightsError(f"weights of a CLIP are needed, but {name} is an autoencoder; give others")
        if float(model.logit_scale.detach()) > _LARGEST_LOGIT_SCALE:
            raise WeightsError(
                f"'logit_scale' of {name} must be a logarithm of at most {_LARGEST_LOGIT_SCALE}, got more"
            )
        scale = float(model.logit_scale.detach().exp())  # before bfloat16 rounds it
        model = model.to(device=place, dtype=kind).eval().requires_grad_(False)
        return cls(bundle.record, bundle.preprocess, place, kind, model, tokenizer, scale)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides an embedding: weights, tokenizer, towers and preprocessing.

        Device and number type are left out: they change the last digits, not the meaning.
        """
        towers, pixels = _canonical(self.model.config), _canonical(self.preprocess)
        parts = [self.sha256, self.tokenizer.sha256, towers, pixels]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def embed_dim(self) -> int:
        """Width E of the embeddings."""
        return self.model.config.embed_dim

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns) of a preprocessed image."""
        side = self.preprocess.image_size // self.model.config.vision.patch_size
        return side, side

    @property
    def has_aligned_patches(self) -> bool:
        """Whether patch embeddings were trained to agree with the text; where not, windows make the maps."""
        return self.model.config.vision.patch_projection

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that the image tower sees."""
        return self.preprocess.image_size

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.model.config.vision.patch_size

    @property
    def layers(self) -> int:
        """Number of blocks of the image tower."""
        return self.model.config.vision.layers

    @property
    def width(self) -> int:
        """Width of the image tower's patch tokens."""
        return self.model.config.vision.width

    @property
    def patch_width(self) -> int:
        """How many numbers compare a patch with others."""
        return patch_width(self.model.config.vision)

    def with_image_size(self, image_size: int) -> Backbone:
        """Return the same towers for square images of another side.

        Raises:
            UsageError: the side is no multiple of the patch size.
        """
        require_multiple(self, image_size)
        return replace(self, preprocess=replace(self.preprocess, image_size=image_size))

    def embed(self, images: Sequence[Pixels], request: FeatureRequest) -> ImageFeatures:
        """Embed RGB images, uint8 (H, W, 3) of any sizes; see `zeroflaw.runtime.tower.ImageTower.embed`."""
        stem = self.model.config.vision.stem
        blocks, sizes = (
            compared_layers(self.layers, stem=stem is not None),
            () if stem is None else stem.sizes,
        )
        return in_passes(
            self,
            request,
            blocks,
            native=lambda layers: self.embed_images(
                images, windows=request.windows, patches=request.patches, layers=layers
            ),
            elsewhere=lambda size: self._tokens(images, size, blocks),
            compare=lambda tokens: compared([tokens[block] for block in blocks], sizes),
        )

    def _tokens(self, images: Sequence[Pixels], size: int, blocks: Sequence[int]) -> dict[int, Floats]:
        """Return patch tokens after some blocks, or a stem's features as block 0, at another input size."""
        vision, pixels = self.model.vision, self.with_image_size(size).pixels(images)
        with exact():
            if isinstance(vision.patch_embedding, Stem):
                found = {0: vision.patch_embedding.features(pixels).flatten(2).transpose(1, 2)}
            else:
                found = vision(pixels, layers=blocks).layers
        return {block: _array(part) for block, part in found.items()}

    def embed_images(
        self,
        images: Sequence[Pixels],
        *,
        windows: Sequence[tuple[int, int]] = (),
        patches: bool = False,
        layers: Collection[int] = (),
    ) -> ImageFeatures:
        """Embed RGB images, uint8 (H, W, 3) of any sizes, in one batch.

        Args:
            images: the batch; its memory is the caller's choice.
            windows: (size, stride) of each set of token windows to embed as well.
            patches: embed the patch tokens as well.
            layers: blocks, counted from 1, whose patch tokens to keep; 0 for a stem's own features.

        Returns:
            Features as float32 arrays; see `ImageFeatures`.

        Raises:
            UsageError: an image, window or block does not exist or does not fit.
        """
        vision = self.model.config.vision
        if any(not (vision.stem is None) <= block <= vision.layers for block in layers):
            raise UsageError(
                f"the blocks of {self.name} are counted from 1 to {vision.layers}, got {sorted(layers)}"
            )
        sets = [make_windows(self.grid, size, stride) for size, stride in windows]
        pixels = self.pixels(images)
        with exact():
            found = self.model.vision(pixels, windows=sets, patches=patches, layers=layers)
        return _arrays(found, windows)

    def embed_local(
        self, images: Sequence[Pixels], path: LocalPath, *, patches: bool = True
    ) -> ImageFeatures:
        """Embed RGB images and, along the local path, their patches (see `zeroflaw.towers.local`).

        Args:
            images: uint8 (H, W, 3) of any sizes, one batch.
            path: which blocks take the local path.
            patches: embed the patch tokens as well.

        Returns:
            Features as float32 arrays.

        Raises:
            UsageError: the path does not fit the image tower.
        """
        path.check(self.name, self.model.config.vision.layers)
        pixels = self.pixels(images)
        with exact():
            found = local_features(self.model.vision, pixels, path, patches=patches)
        return _arrays(found)

    def pixels(self, images: Sequence[Pixels]) -> Tensor:
        """Resize and normalise RGB images, uint8 (H, W, 3): (B, 3, S, S) on the device of the towers."""
        return torch.from_numpy(self.preprocess(images)).to(device=self.device, dtype=self.dtype)

    def embed_texts(
        self,
        texts: Sequence[str],
        *,
        normalise: bool = True,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> Tensor:
        """Embed prompts: float32 (N, E) on the CPU, in the order given.

        Equal prompts are computed once; batches hold prompts of like length and start, are cut to the longest
        of them, and compute their common start once. Long lists are kept in the disk cache
        (`zeroflaw.towers.cache`).

        Args:
            texts: prompts.
            normalise: scale every embedding to length one.
            batch_size: how many at a time.
            progress: called with (done, total) after every batch.

        Raises:
            WordsError: a prompt cannot be encoded; see `Tokenizer.encode`.
            UsageError: the batch size is below one.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {batch_size}")
        distinct = list(dict.fromkeys(texts))
        found = self._cached(distinct, normalise, batch_size, progress)
        if len(distinct) == len(texts):
            return found
        place = {text: number for number, text in enumerate(distinct)}
        return found[[place[text] for text in texts]]

    def _cached(
        self, texts: list[str], normalise: bool, batch_size: int, progress: Progress | None
    ) -> Tensor:
        if len(texts) < _CACHE_FROM:
            return self._embed(texts, normalise, batch_size, progress)
        tower = _canonical(self.model.config.text)
        identity = [self.sha256, self.tokenizer.sha256, tower, str(self.dtype), self.device.type]
        key = text_key(identity if normalise else [*identity, "not normalised"], texts)
        found = load_texts(key, (len(texts), self.embed_dim), normalised=normalise)
        if found is None:
            found = self._embed(texts, normalise, batch_size, progress)
            save_texts(key, found)
        return found

    def _embed(self, texts: list[str], normalise: bool, batch_size: int, progress: Progress | None) -> Tensor:
        ids, ends = self.tokenizer.encode(texts)
        found = torch.empty(len(texts), self.embed_dim)
        done = 0
        for rows in alike(ids, ends, batch_size):
            found[rows] = self._embed_ids(ids[rows], ends[rows], normalise)
            done += len(rows)
            if progress is not None:
                progress(done, len(texts))
        return found

    @torch.inference_mode()
    def _embed_ids(self, ids: Tensor, ends: Tensor, normalise: bool) -> Tensor:
        ids = ids[:, : int(ends.max()) + 1]
        found: Tensor = self.model.text(ids.to(self.device), ends.to(self.device), normalise=normalise)
        return found.float().cpu()


def _canonical(config: CLIPConfig | TextConfig | Preprocess) -> str:
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def pick_device(name: str) -> torch.device:
    """Resolve a device name; ``auto`` is CUDA, else MPS, else the CPU.

    Raises:
        UsageError: the name is unknown or the device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, works in there.items() if works))
    if not there.get(name, False):
        usable = ", ".join(device for device, works in there.items() if works)
        raise UsageError(f"the device must be auto or one that this machine has ({usable}), got '{name}'")
    return torch.device(name)


def pick_dtype(name: str) -> torch.dtype:
    """Resolve ``float32`` or ``bfloat16``.

    Raises:
        UsageError: it is something else.
    """
    if name not in get_args(DtypeName):
        raise UsageError(f"the number type must be one of {', '.join(get_args(DtypeName))}, got '{name}'")
    return torch.float32 if name == "float32" else torch.bfloat16


def alike(ids: Tensor, ends: Tensor, size: int) -> Iterator[Tensor]:
    """Yield row numbers in batches of prompts that begin alike, so that they share beginnings."""
    columns = ids.numpy().T
    order = np.lexsort((ends.numpy(), *columns[::-1]))
    for start in range(0, len(order), size):
        yield torch.from_numpy(order[start : start + size])


@contextmanager
def exact() -> Iterator[None]:
    """No gradients; and convolutions on CUDA, which round to TF32 unless told otherwise, keep to float32."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _arrays(found: TowerOutput, windows: Sequence[tuple[int, int]] = ()) -> ImageFeatures:
    return ImageFeatures(
        image=_array(found.image),
        grid=found.grid,
        windows={key: _array(part) for key, part in zip(windows, found.windows, strict=True)},
        patches=None if found.patches is None else _array(found.patches),
        layers={block: _array(part) for block, part in found.layers.items()},
    )


def _array(tensor: Tensor) -> Floats:
    return tensor.float().cpu().numpy()
