"""The command ``zeroflaw``: verbs, exit codes and errors in one sentence.

Exit codes: 0 done, 1 at least one image is anomalous (only with ``--fail-on-anomaly``), 2 usage, 3 something
given to read is wrong, 4 weights or a saved detector are missing or damaged, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import click

from zeroflaw._version import __version__
from zeroflaw.cli.benchmark import benchmark
from zeroflaw.cli.convert import convert
from zeroflaw.cli.corrupt import corrupt
from zeroflaw.cli.datasets import datasets
from zeroflaw.cli.detect import detect
from zeroflaw.cli.detectors import detectors
from zeroflaw.cli.evaluate import evaluate
from zeroflaw.cli.fit import fit
from zeroflaw.cli.models import models
from zeroflaw.cli.reproduce import reproduce
from zeroflaw.cli.samples import samples
from zeroflaw.errors import UsageError, ZeroflawError

INTERRUPTED = 130
UNREADABLE = 3


class _Group(click.Group):
    """A group that ends quietly when the reader of stdout, ``head`` say, has left."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; click itself would exit with 1, which means an anomaly here."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is still buffered would fail again at exit, so it goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="zeroflaw")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Find flaws in photos of products never seen before: no training images, only words."""
    logging.basicConfig(
        format="zeroflaw: %(levelname)s: %(message)s", level=logging.DEBUG if debug else logging.WARNING
    )


_ON_IMAGES = (detect, fit, evaluate, benchmark, reproduce)
_ABOUT = (datasets, detectors, models, convert, corrupt, samples)
for command in (*_ON_IMAGES, *_ABOUT):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("zeroflaw: interrupted", err=True)
        code = INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "zeroflaw"
        click.echo(f"{path}: {error.format_message().rstrip('.')}; see '{path} --help'", err=True)
        code = error.exit_code
    except ZeroflawError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"zeroflaw: {error}", err=True)
        code = error.exit_code
    except OSError as error:
        if "--debug" in arguments:
            raise
        where = f"{error.filename}: " if error.filename else ""
        click.echo(
            f"zeroflaw: {where}{error.strerror or error}; check the path and its permissions", err=True
        )
        code = UNREADABLE
    except MemoryError:
        click.echo("zeroflaw: there is not enough memory; use a smaller --batch-size", err=True)
        code = UsageError.exit_code
    sys.exit(code or 0)
