"""``zeroflaw detectors``: the detectors that can be named."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def detectors(as_json: bool) -> None:
    """List the detectors, with what each needs before it can predict."""
    from zeroflaw.detectors import PRESETS

    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        kind = preset.kind()
        if as_json:
            row = {"name": name, "summary": preset.summary, "needs": str(kind.needs), "source": kind.source}
            click.echo(json.dumps(row, ensure_ascii=False))
        else:
            click.echo(f"{name:{width}}  {preset.summary}\n{'':{width}}  needs {kind.needs}; {kind.source}")
