"""``zeroflaw watch``: judge the photos that a camera writes into a folder, as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zeroflaw.cli.options import (
    Number,
    batch_size_option,
    detector_options,
    history_options,
    reading_options,
    take_options,
)
from zeroflaw.cli.output import PATH, json_option, quiet_option
from zeroflaw.errors import InputError, UsageError, needing, printable

_DETECTOR = "A saved detector, or a kind of one."
_SECRET, _PASSWORD = "ZEROFLAW_WEBHOOK_SECRET", "ZEROFLAW_MQTT_PASSWORD"


@click.command()
@click.argument("folder", type=PATH, metavar="FOLDER")
@click.option("--detector", required=True, metavar="DIR|NAME", help=_DETECTOR)
@click.option("--name", metavar="NAME", help="What the folder is called in the history; its path by default.")
@click.option("-r", "--recursive", is_flag=True, help="Watch the folders below it, too.")
@click.option(
    "--settle",
    type=Number(0.05, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="A file that has not changed for so long is complete.",
)
@click.option(
    "--interval",
    type=Number(0.02, 3600),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks at the folder.",
)
@click.option("--once", is_flag=True, help="Judge what is there, and end.")
@click.option("--fail-on-anomaly", is_flag=True, help="With --once: exit with 1 if a photo is anomalous.")
@click.option("--move-to", type=PATH, metavar="DIR", help="Move photos to DIR/good, flawed or unjudged.")
@history_options
@click.option("--keep-pictures", is_flag=True, help="Copy photos into the history, for its page.")
@click.option("--webhook", metavar="URL", help="Post each verdict as JSON.")
@click.option(
    "--webhook-secret-file", type=PATH, metavar="FILE", help=f"Secret that signs posts; or {_SECRET}."
)
@click.option("--mqtt", metavar="URL", help="Publish each verdict: mqtt[s]://[USER@]HOST[:PORT]/TOPIC.")
@click.option(
    "--mqtt-password-file", type=PATH, metavar="FILE", help=f"Password of the broker's user; or {_PASSWORD}."
)
@click.option("--ca-file", type=PATH, metavar="FILE", help="Certificates to trust for https and mqtts.")
@click.option("--no-maps", is_flag=True, help="No maps and regions, which is faster.")
@detector_options
@batch_size_option
@json_option
@quiet_option
@reading_options
def watch(folder: Path, once: bool, fail_on_anomaly: bool, **options: Any) -> int:
    """Judge the photos that are written into FOLDER, each once, until SIGINT or SIGTERM.

    A line per verdict goes to stdout: JSON, or text on a terminal. Verdicts are kept in the history before
    they are told; a webhook or broker that is away gets them when it is back.
    """
    if fail_on_anomaly and not once:
        raise UsageError("--fail-on-anomaly is the exit code of a run that ends; use it with --once")
    if not folder.is_dir():
        raise InputError(f"there is no folder '{printable(folder)}' to watch; check the path")
    with needing("watching a folder", "serve"):
        from zeroflaw.cli.watching import Wishes, watch_folder
    chosen = take_options(options, None)
    return watch_folder(Wishes(folder=folder, once=once, fail_on_anomaly=fail_on_anomaly, **options), chosen)
