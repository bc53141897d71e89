"""``zeroflaw convert``: published weights into a weights folder, published prompts into a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.output import PATH, quiet_option, say
from zeroflaw.errors import UsageError, needing

_FOR_WEIGHTS = ("config", "tokenizer", "name", "half")


@click.command()
@click.argument("source", type=PATH)
@click.argument("destination", type=PATH)
@click.option(
    "--config",
    metavar="FILE|NAME",
    help="What a bare file of weights is: an open_clip_config.json, a Hugging Face config.json, a name that "
    "'zeroflaw models' lists, or 'openai'.",
)
@click.option(
    "--tokenizer", type=PATH, metavar="PATH", help="tokenizer.json, or its folder, where SOURCE has none."
)
@click.option("--name", metavar="ARCHITECTURE/TAG", help="Name to record in the folder.")
@click.option("--licence", metavar="TEXT", help="Licence to record in the folder.")
@click.option("--half", is_flag=True, help="Store 16-bit numbers: half the size.")
@click.option(
    "--backbone",
    metavar="NAME",
    help="SOURCE holds prompts of AnomalyCLIP, learned on this CLIP: write a detector.",
)
@click.option("--overwrite", is_flag=True, help="Replace a folder of the same kind that is already there.")
@quiet_option
def convert(source: Path, destination: Path, backbone: str | None, quiet: bool, **options: Any) -> None:
    """Turn CLIP weights (OpenAI, open_clip or Hugging Face layout) in SOURCE into a weights folder.

    With --backbone, SOURCE is a published checkpoint of AnomalyCLIP's prompts (epoch_15.pth), and what is
    written is a detector. This is the only verb that opens pickled checkpoints, and it reads nothing but
    tensors from them.
    """
    with needing("zeroflaw convert"):  # its help can be read without
        from zeroflaw.detectors.anomalyclip.checkpoint import convert_prompts
        from zeroflaw.towers.importing import convert as convert_weights
    if backbone is None:
        convert_weights(source, destination, **options)
        say(f"weights are in {destination}; use them with --backbone local-dir:{destination}", quiet)
        return
    given = {name: options.pop(name) for name in _FOR_WEIGHTS}
    for flag in (name for name, value in given.items() if value not in (None, False)):
        raise UsageError(
            f"--{flag} is for weights, but --backbone says that {source} holds prompts; drop one"
        )
    convert_prompts(source, destination, backbone=backbone, **options)
    say(f"the detector is in {destination}; use it with --detector {destination}", quiet)
