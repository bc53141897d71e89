"""The two towers of a CLIP, top to bottom in the order of the data.

Shapes in comments: B images or prompts, T tokens, C width, H heads, D width of a head, P patches, W windows,
E embedding. Every embedding that leaves `CLIP` has L2 norm one.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021;
windows after Jeong et al., "WinCLIP", CVPR 2023, section 4.2.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroflaw.errors import UsageError
from zeroflaw.runtime.scores import Windows
from zeroflaw.towers.configs import Activation, CLIPConfig, StackConfig, TextConfig, VisionConfig
from zeroflaw.towers.stem import Stem

Interpolation = Literal["bicubic", "bilinear"]


@dataclass
class TowerOutput:
    """What the image tower says about a batch.

    Attributes:
        image: embedding of the whole image, (B, E).
        windows: embeddings of token windows, one (B, W, E) per window set asked for.
        patches: embeddings of the patch tokens, (B, P, E), if asked for.
        layers: patch tokens after the blocks asked for, {block, counted from 1: (B, P, C)}, before
            ``ln_post``; 0 is a stem's own features, (B, P, K); of the local path (`zeroflaw.towers.local`)
            their embeddings, (B, P, E).
        grid: patches (rows, columns).
    """

    image: Tensor
    grid: tuple[int, int]
    windows: list[Tensor] = field(default_factory=list)
    patches: Tensor | None = None
    layers: dict[int, Tensor] = field(default_factory=dict)


class QuickGELU(nn.Module):
    """The sigmoid approximation of GELU that OpenAI's weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to every element."""
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def queries(self, x: Tensor) -> Tensor:
        """Project tokens (..., C) to queries only."""
        width = x.shape[-1]
        return F.linear(x, self.qkv.weight[:width], self.qkv.bias[:width])

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project tokens (..., C) to keys and values only."""
        width = x.shape[-1]
        keys, values = F.linear(x, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, -1)
        return keys, values

    def mix(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Let queries (B, Q, C) look at keys and values (B, T, C), head by head.

        ``mask`` is True where a query may look, broadcast to (B, H, Q, T).
        """
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, H, T, D)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return y.transpose(1, 2).flatten(2)  # (B, Q, C)


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, stack: StackConfig, activation: Activation = "gelu", eps: float = 1e-5) -> None:
        super().__init__()
        width = stack.width
        self.ln_1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, stack.heads)
        self.ln_2 = nn.LayerNorm(width, eps)
        act = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.mlp = nn.Sequential(nn.Linear(width, stack.mlp_width), act, nn.Linear(stack.mlp_width, width))

    def forward(self, x: Tensor, *, mask: Tensor | None = None, only: Tensor | None = None) -> Tensor:
        """Run the block.

        Args:
            x: tokens, (B, T, C).
            mask: True where a query may look, broadcast to (B, H, Q, T).
            only: one position per row, (B,); only that token is computed, (B, 1, C) comes back.
        """
        h = self.ln_1(x)
        keys, values = self.attn.keys_values(h)
        if only is not None:
            rows = torch.arange(x.shape[0], device=x.device)
            x, h = x[rows, only, None], h[rows, only, None]
        return self._finish(x, self.attn.mix(self.attn.queries(h), keys, values, mask=mask))

    def over_prefixes(self, x: Tensor, prefixes: Prefixes, *, ends: Tensor | None = None) -> Tensor:
        """Run the block, causally, on the distinct prefixes of prompts.

        Everything but the attention itself is computed once per prefix; only attention is spread over
        prompts.

        Args:
            x: last token of each prefix, (N, C).
            prefixes: which they are.
            ends: one position per prompt, (B,); only those tokens are computed, (B, C) comes back.
        """
        h = self.ln_1(x)
        keys, values = (part[prefixes.of] for part in self.attn.keys_values(h))  # (B, T, C)
        if ends is None:
            queries = self.attn.queries(h)[prefixes.of]
            y = self.attn.mix(queries, keys, values, causal=True).flatten(0, 1)[prefixes.first]  # (N, C)
        else:
            last = prefixes.of.gather(1, ends[:, None])  # (B, 1)
            until = torch.arange(keys.shape[1], device=x.device) <= ends[:, None]  # (B, T)
            x, queries = x[last[:, 0]], self.attn.queries(h[last])
            y = self.attn.mix(queries, keys, values, mask=until[:, None, None])[:, 0]
        return self._finish(x, y)

    def _finish(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.attn.out(y)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The distinct beginnings of a batch of prompts, a tree laid flat.

    A causal tower gives equal beginnings equal states, so each needs to be computed once, whatever the number
    of prompts that share it; and nothing is computed for padding.

    Attributes:
        ids: last token of each prefix, (N,).
        depths: its position, (N,).
        of: the prefix that ends at each position of each prompt, (B, T); after a prompt's end it means
            nothing.
        first: a place in the flattened (B, T) where each prefix stands, (N,).
    """

    ids: Tensor
    depths: Tensor
    of: Tensor
    first: Tensor

    @classmethod
    def find(cls, ids: Tensor, ends: Tensor) -> Prefixes:
        """Find the prefixes of prompts (B, T) whose last tokens stand at ``ends`` (B,)."""
        length = ids.shape[1]
        of, parent, found = torch.zeros_like(ids), torch.zeros_like(ends), []
        count = 0
        for depth in range(length):
            alive = (ends >= depth).nonzero()[:, 0]
            # A prefix is its parent and its last token; the product cannot overflow an int64.
            keys = parent[alive] * (int(ids.max()) + 1) + ids[alive, depth]
            distinct, place = torch.unique(keys, return_inverse=True)
            of[alive, depth] = count + place
            parent[alive] = place
            row = torch.full_like(distinct, len(ids)).scatter_reduce(0, place, alive, "amin")
            found.append((ids[row, depth], torch.full_like(row, depth), row * length + depth))
            count += len(distinct)
        tokens, depths, first = (torch.cat(part) for part in zip(*found, strict=True))
        return cls(tokens, depths, of, first)


class ConvPatches(nn.Module):
    """The patch embedding of a vision transformer: one convolution without overlap."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, patch_size, patch_size, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (B, 3, Y, X) into patch tokens (B, P, C)."""
        return self.conv(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class VisionTower(nn.Module):
    """Images to embeddings."""

    def __init__(self, config: VisionConfig, embed_dim: int) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.patch_embedding: nn.Module = (
            ConvPatches(width, config.patch_size) if config.stem is None else Stem(config.stem, width)
        )
        self.class_embedding = _parameter(width, scale=width**-0.5)
        self.positions = _parameter(1 + config.grid[0] * config.grid[1], width, scale=width**-0.5)
        self.ln_pre: nn.Module = nn.LayerNorm(width) if config.ln_pre else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, config.activation) for _ in range(config.layers))
        self.ln_post = nn.LayerNorm(width)
        self.projection = _parameter(width, embed_dim, scale=width**-0.5)
        self.patch_projection = (
            _parameter(width, embed_dim, scale=width**-0.5) if config.patch_projection else None
        )

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patches (rows, columns) of images (B, 3, Y, X)."""
        return images.shape[-2] // self.config.patch_size, images.shape[-1] // self.config.patch_size

    def tokens(self, images: Tensor, interpolation: Interpolation = "bicubic") -> Tensor:
        """Embed the patches and add their positions: (B, 3, Y, X) -> (B, P, C)."""
        positions = self.patch_positions(self.grid(images), interpolation)
        return self.patch_embedding(images) + positions  # type: ignore[no-any-return]

    def patch_positions(self, grid: tuple[int, int], interpolation: Interpolation = "bicubic") -> Tensor:
        """Position embeddings of a patch grid, (P, C), interpolated for other grids than the native one."""
        native = self.positions[1:]
        if grid == self.config.grid:
            return native
        square = native.T.unflatten(1, self.config.grid)[None].float()  # (1, C, rows, columns)
        resized = F.interpolate(square, size=grid, mode=interpolation, align_corners=False)
        return resized[0].flatten(1).T.to(native.dtype)

    def start(self, tokens: Tensor) -> Tensor:
        """Put the class token before patch tokens (B, P, C): (B, 1 + P, C), as the first block takes them."""
        first = (self.class_embedding + self.positions[0]).expand(tokens.shape[0], 1, -1)
        return self.ln_pre(torch.cat([first, tokens], 1))  # type: ignore[no-any-return]

    def class_only(self, tokens: Tensor) -> Tensor:
        """Embed the class token beside patch tokens (B, T, C); the last block is computed for the class token
        only.
        """
        x = self.start(tokens)
        for block in self.blocks[:-1]:
            x = block(x)
        x = self.blocks[-1](x, only=torch.zeros(x.shape[0], dtype=torch.long, device=x.device))
        return unit(self.ln_post(x[:, 0]) @ self.projection)

    def all_tokens(self, tokens: Tensor, layers: Collection[int]) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """Embed class and patch tokens, and keep the patch tokens after the blocks in ``layers`` (counted
        from 1).
        """
        x, kept = self.start(tokens), {}
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in layers:
                kept[number] = x[:, 1:]
        x = self.ln_post(x)
        projection = self.projection if self.patch_projection is None else self.patch_projection
        return unit(x[:, 0] @ self.projection), unit(x[:, 1:] @ projection), kept

    def window_embeddings(self, tokens: Tensor, windows: Windows, chunk: int = 512) -> Tensor:
        """Embed all windows of patch tokens (B, P, C): (B, W, E).

        Only the class token and the window's own tokens run, at most ``chunk`` windows at a time: longer
        batches leave the processor's cache and cost time.
        """
        index = torch.from_numpy(windows.index).to(tokens.device)
        gathered = tokens[:, index].flatten(0, 1)  # (B * W, size * size, C)
        parts = [self.class_only(part) for part in gathered.split(chunk)]
        return torch.cat(parts).reshape(len(tokens), len(index), -1)

    def forward(
        self,
        images: Tensor,
        *,
        windows: Sequence[Windows] = (),
        patches: bool = False,
        layers: Collection[int] = (),
    ) -> TowerOutput:
        """Embed images (B, 3, Y, X), already resized and normalised; see `TowerOutput`."""
        stem: dict[int, Tensor] = {}
        if 0 in layers:
            assert isinstance(self.patch_embedding, Stem)
            maps = self.patch_embedding.features(images)
            stem = {0: maps.flatten(2).transpose(1, 2)}
            tokens = self.patch_embedding.embed(maps) + self.patch_positions(self.grid(images))
        else:
            tokens = self.tokens(images)
        found = TowerOutput(image=tokens, grid=self.grid(images), layers=stem)
        if patches or any(layers):
            found.image, dense, kept = self.all_tokens(tokens, layers)
            found.layers = stem | kept
            found.patches = dense if patches else None
        else:
            found.image = self.class_only(tokens)
        found.windows = [self.window_embeddings(tokens, w) for w in windows]
        return found


class TextTower(nn.Module):
    """Token ids, or word vectors, to embeddings; causal, read at the end-of-text token."""

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        words = _parameter(config.vocab_size, config.width)
        self.token_embedding = nn.Embedding(config.vocab_size, config.width, _weight=words)
        self.positions = _parameter(config.context_length, config.width, scale=0.01)
        self.blocks = nn.ModuleList(Block(config, config.activation) for _ in range(config.layers))
        self.ln_final = nn.LayerNorm(config.width)
        self.projection = _parameter(config.width, embed_dim, scale=config.width**-0.5)

    def forward(self, ids: Tensor, ends: Tensor, *, normalise: bool = True) -> Tensor:
        """Embed prompts; beginnings that prompts have in common are computed once.

        Args:
            ids: token ids, (B, T); T may be any length up to the context, padding after the end is never
                looked at.
            ends: position of the end-of-text token in each row, (B,).
            normalise: scale embeddings to length one.
        """
        prefixes = Prefixes.find(ids, ends)
        x = self.token_embedding(prefixes.ids) + self.positions[prefixes.depths]  # (N, C)
        *blocks, last = self._blocks()
        for block in blocks:
            x = block.over_prefixes(x, prefixes)
        return self.project(last.over_prefixes(x, prefixes, ends=ends), normalise=normalise)

    def from_vectors(self, vectors: Tensor, ends: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        """Embed word vectors in place of token ids; gradients flow back to them, and to the deep tokens.

        Args:
            vectors: with start and end tokens, (B, T, C), without positions.
            ends: position of the end token in each row, (B,); what comes after it is never looked at.
            deep: learned tokens (N, C) that take the places 1 to N of every prompt before the blocks 2, 3,
                ...; the states that stood there are thrown away (AnomalyCLIP, ICLR 2024, section 3.1).

        Raises:
            UsageError: there are more deep tokens than blocks after the first, or they reach a prompt's end.
        """
        *blocks, last = self._blocks()
        longest = max(map(len, deep), default=0)
        if len(deep) > len(blocks) or longest >= max(1, int(ends.min())):
            raise UsageError(
                f"this text tower takes deep tokens for at most {len(blocks)} blocks and, for these prompts, "
                f"fewer than {int(ends.min())} a block, got {longest} for {len(deep)}; use fewer"
            )
        x = vectors + self.positions[: vectors.shape[1]]
        places = torch.arange(x.shape[1], device=x.device)
        causal, until_end = places <= places[:, None], places <= ends[:, None]  # (T, T), (B, T)
        x = blocks[0](x, mask=causal) if blocks else x
        for number, block in enumerate([*blocks[1:], last]):
            if number < len(deep):
                tokens = deep[number].to(x).expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], tokens, x[:, 1 + tokens.shape[1] :]], 1)
            if block is not last:
                x = block(x, mask=causal)
        return self.project(last(x, mask=until_end[:, None, None], only=ends)[:, 0])

    def _blocks(self) -> list[Block]:
        return list(self.blocks)  # type: ignore[arg-type]

    def project(self, x: Tensor, *, normalise: bool = True) -> Tensor:
        """Turn the states at the end-of-text tokens (B, C) into embeddings (B, E)."""
        found: Tensor = self.ln_final(x) @ self.projection
        return unit(found) if normalise else found.float()


class CLIP(nn.Module):
    """An image tower and a text tower with one embedding space."""

    kind: ClassVar = "zeroflaw-backbone"  # what a weights folder calls it
    config_type: ClassVar = CLIPConfig

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTower(config.vision, config.embed_dim)
        self.text = TextTower(config.text, config.embed_dim)
        # Natural logarithm of the inverse temperature; CLIP's training ends at log(100).
        self.logit_scale = nn.Parameter(torch.tensor(4.6052))


def _parameter(*shape: int, scale: float = 1.0) -> nn.Parameter:
    """Random numbers; none on the meta device, where drawing them imports PyTorch's compiler."""
    empty = torch.empty(shape)
    return nn.Parameter(empty if empty.is_meta else empty.normal_() * scale)


def unit(x: Tensor) -> Tensor:
    """Scale vectors (..., E) to L2 norm one, in float32."""
    return F.normalize(x.float(), dim=-1)
