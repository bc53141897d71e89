"""``zeroflaw models``: the weights that can be used as a backbone."""

from __future__ import annotations

import click

from zeroflaw.cli.output import json_option, put, put_json
from zeroflaw.towers.catalogue import REGISTRY


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the backbones: the bundled mini model and the CLIP weights that can be downloaded."""
    width = max(map(len, REGISTRY))
    for name, record in REGISTRY.items():
        if as_json:
            put_json({"name": name, "source": record.source, "licence": record.licence, "note": record.note})
        else:
            put(f"{name:{width}}  {record.source}")
            put(f"{'':{width}}  {record.licence}; {record.note}")
