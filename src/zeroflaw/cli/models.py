"""``zeroflaw models``: the weights that can be used as a backbone."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def models(as_json: bool) -> None:
    """List the backbones: the bundled mini model and the CLIP weights that can be downloaded."""
    from zeroflaw.towers.catalogue import REGISTRY

    width = max(map(len, REGISTRY))
    for name, record in REGISTRY.items():
        if as_json:
            row = {"name": name, "source": record.source, "licence": record.licence, "note": record.note}
            click.echo(json.dumps(row, ensure_ascii=False))
        else:
            click.echo(f"{name:{width}}  {record.source}\n{'':{width}}  {record.licence}; {record.note}")
