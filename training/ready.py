"""Fit the detector that ships ready for the bundled model: ``python -m training.ready``."""

from __future__ import annotations

import click

from zeroflaw.detectors import make
from zeroflaw.detectors.presets import BUNDLED

NAME = "rwda"


@click.command()
def main() -> None:
    """Fit the default random-word detector on the bundled model and write it into the package."""
    make_ready()


def make_ready() -> None:
    """Fit and write; the folder replaces an earlier one."""
    make(NAME).fit().save(BUNDLED / NAME)
    click.echo(f"{NAME} is ready in {BUNDLED / NAME}")


if __name__ == "__main__":
    main()
