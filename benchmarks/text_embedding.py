"""How much faster random-word prompts are embedded than by the plain 77-token way of ``transformers``.

All embed prompts with one set of seeded random weights in the shape of ViT-B/16+'s text tower, in one process
with one number of threads: the plain way and ours in float32, ours in bfloat16, too. Batches are timed in
turn, so that a change of the machine's load hits all.

    python benchmarks/text_embedding.py                 # all prompts both ways: slow
    python benchmarks/text_embedding.py --plain 1024    # the plain way on the first 1,024 prompts only,
    scaled up

Prompts are cut into tokens by CLIP's own merges where open_clip is installed or ``--merges`` names its file
(bpe_simple_vocab_16e6.txt.gz), else by the bundled model's tokenizer, whose pieces are shorter: more tokens
for both ways, and a smaller gain.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import platform
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

import zeroflaw
from zeroflaw.towers.backbone import alike
from zeroflaw.towers.configs import TextConfig
from zeroflaw.towers.model import TextTower
from zeroflaw.towers.tokenizer import END, START, Tokenizer
from zeroflaw.words import RandomWords, training_prompts

CONTEXT, VOCABULARY, WIDTH, HEADS, LAYERS, EMBED = 77, 49408, 640, 10, 12, 640
MINI = Path(zeroflaw.__file__).parent / "towers" / "mini"
MERGES = "bpe_simple_vocab_16e6.txt.gz"
CLIP_MERGES = 48_894  # as many lines of the file as CLIP's vocabulary has room for


def prompts(count: int) -> list[str]:
    """RWDA's training prompts: pairs with three random words of three to eight letters."""
    words = RandomWords().draw(count // 2, seed=0)
    normal, anomalous = training_prompts(words, articles="agree")
    return normal + anomalous


def find_merges() -> Path | None:
    """CLIP's merges, out of an installed open_clip; nothing of it is imported."""
    found = importlib.util.find_spec("open_clip")
    folders = list(found.submodule_search_locations or []) if found else []
    return next((Path(folder) / MERGES for folder in folders if (Path(folder) / MERGES).is_file()), None)


def open_tokenizer(merges: Path | None) -> Tokenizer:
    """CLIP's tokenizer from its merges, or the bundled one. Single bytes have other ids than in CLIP; no
    time.
    """
    if merges is None:
        return Tokenizer.read(MINI, context_length=CONTEXT)
    text = gzip.decompress(merges.read_bytes()).decode()
    pairs = text.split("\n")[1 : CLIP_MERGES + 1]
    letters = sorted(ByteLevel.alphabet())
    tokens = [
        *letters,
        *(f"{c}</w>" for c in letters),
        *(pair.replace(" ", "") for pair in pairs),
        START,
        END,
    ]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps({t: n for n, t in enumerate(tokens)}), "utf-8")
        (Path(folder) / "merges.txt").write_text("\n".join(pairs), "utf-8")
        return Tokenizer.read(Path(folder), context_length=CONTEXT)


def plain_tower() -> torch.nn.Module:
    """The text tower of ``transformers``, with seeded random weights."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        projection_dim=EMBED,
        max_position_embeddings=CONTEXT,
        hidden_act="gelu",
        eos_token_id=VOCABULARY - 1,
        bos_token_id=VOCABULARY - 2,
        pad_token_id=0,
    )
    tower: torch.nn.Module = CLIPTextModelWithProjection(config)
    return tower.eval()


def our_tower(plain: torch.nn.Module) -> TextTower:
    """The same weights in our tower, by way of the published Hugging Face layout."""
    theirs = plain.state_dict()
    config = TextConfig(
        context_length=CONTEXT,
        vocab_size=VOCABULARY,
        width=WIDTH,
        layers=LAYERS,
        heads=HEADS,
        mlp_width=4 * WIDTH,
    )
    tower = TextTower(config, EMBED)
    ours = {
        "token_embedding.weight": theirs["text_model.embeddings.token_embedding.weight"],
        "positions": theirs["text_model.embeddings.position_embedding.weight"],
        "ln_final.weight": theirs["text_model.final_layer_norm.weight"],
        "ln_final.bias": theirs["text_model.final_layer_norm.bias"],
        "projection": theirs["text_projection.weight"].T,
    }
    for block in range(LAYERS):
        old, new = f"text_model.encoder.layers.{block}.", f"blocks.{block}."
        for kind in ("weight", "bias"):
            qkv = [theirs[f"{old}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            ours[f"{new}attn.qkv.{kind}"] = torch.cat(qkv)
            ours[f"{new}attn.out.{kind}"] = theirs[f"{old}self_attn.out_proj.{kind}"]
            ours[f"{new}ln_1.{kind}"] = theirs[f"{old}layer_norm1.{kind}"]
            ours[f"{new}ln_2.{kind}"] = theirs[f"{old}layer_norm2.{kind}"]
            ours[f"{new}mlp.0.{kind}"] = theirs[f"{old}mlp.fc1.{kind}"]
            ours[f"{new}mlp.2.{kind}"] = theirs[f"{old}mlp.fc2.{kind}"]
    tower.load_state_dict(ours)
    return tower.eval()


@torch.inference_mode()
def embed_plainly(tower: torch.nn.Module, ids: Tensor, ends: Tensor) -> Tensor:
    """All 77 positions of every prompt, padded after the end."""
    full = torch.zeros(len(ids), CONTEXT, dtype=torch.long)
    full[:, : ids.shape[1]] = ids
    full[torch.arange(len(ids)), ends] = VOCABULARY - 1  # where their tower looks for the end
    return F.normalize(tower(input_ids=full).text_embeds, dim=-1)


@torch.inference_mode()
def embed_ours(tower: TextTower, ids: Tensor, ends: Tensor) -> Tensor:
    """Cut to the longest prompt, every common beginning computed once."""
    ids = ids.clone()
    ids[torch.arange(len(ids)), ends] = VOCABULARY - 1
    ids = ids[:, : int(ends.max()) + 1]
    found: Tensor = tower(ids, ends)
    return found


def measure(count: int, plain_count: int, batch: int, tokenizer: Tokenizer) -> dict[str, object]:
    """Time the ways and compare their embeddings."""
    ids, ends = tokenizer.encode(prompts(count))
    theirs = plain_tower()
    ours, half = our_tower(theirs), our_tower(theirs).bfloat16()
    batches = list(alike(ids, ends, batch))
    chosen = set(range(0, len(batches), max(1, count // max(plain_count, 1))))
    seconds = dict.fromkeys(("plain", "ours", "ours_on_the_same", "half", "half_on_the_same"), 0.0)
    plain_prompts, difference, cosine = 0, 0.0, 1.0
    embed_plainly(theirs, ids[:8], ends[:8])  # both ways are warm before the clock runs
    for tower in (ours, half):
        embed_ours(tower, ids[:8], ends[:8])
    for number, rows in enumerate(batches):
        start = time.perf_counter()
        found = embed_ours(ours, ids[rows], ends[rows])
        took = time.perf_counter() - start
        seconds["ours"] += took
        start = time.perf_counter()
        rounded = embed_ours(half, ids[rows], ends[rows])
        took_half = time.perf_counter() - start
        seconds["half"] += took_half
        cosine = min(cosine, float((found * rounded).sum(-1).min()))
        if number in chosen:
            start = time.perf_counter()
            wanted = embed_plainly(theirs, ids[rows], ends[rows])
            seconds["plain"] += time.perf_counter() - start
            seconds["ours_on_the_same"] += took
            seconds["half_on_the_same"] += took_half
            plain_prompts += len(rows)
            difference = max(difference, float((found - wanted).abs().max()))
    return {
        "prompts": count,
        "plain_prompts": plain_prompts,
        "tokens_mean": float(ends.float().mean() + 1),
        "seconds_ours": seconds["ours"],
        "seconds_ours_bfloat16": seconds["half"],
        "seconds_plain": seconds["plain"] * count / plain_prompts,
        "plain_measured_in_full": plain_prompts == count,
        "times_faster_on_the_same_prompts": seconds["plain"] / seconds["ours_on_the_same"],
        "times_faster_on_the_same_prompts_bfloat16": seconds["plain"] / seconds["half_on_the_same"],
        "largest_difference": difference,
        "least_cosine_bfloat16": cosine,
    }


def main() -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--plain", type=int, default=None, help="prompts for the plain way (all)")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--merges", type=Path, default=find_merges(), help=f"CLIP's {MERGES}")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tokenizer = open_tokenizer(given.merges)
    plain_count = given.prompts if given.plain is None else given.plain
    result = measure(given.prompts, plain_count, given.batch, tokenizer)
    result |= {
        "tokenizer": "CLIP" if given.merges else "mini",
        "threads": given.threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
