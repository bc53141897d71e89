"""The command ``zeroflaw``: its verbs, its exit codes, and errors in one sentence.

=====  ======================================================================================
 code  meaning
=====  ======================================================================================
    0  done; also when the reader of standard output, ``head`` say, has left
    1  at least one image is anomalous (only with ``--fail-on-anomaly``)
    2  usage: a flag, parameter or combination of them is wrong
    3  something given to read is wrong
    4  weights or a saved detector are missing or damaged
   70  a fault of the program
   74  results could not be written: a full disk, a closed standard output
  130  interrupted (SIGINT); 143 terminated (SIGTERM)
=====  ======================================================================================
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from typing_extensions import override

from zeroflaw._version import __version__
from zeroflaw.cli.output import say
from zeroflaw.errors import (
    InputError,
    OutputError,
    UsageError,
    ZeroflawError,
    closest,
    lacks_memory,
    missing_extra,
    printable,
)

FAULT, INTERRUPTED, TERMINATED = 70, 130, 143
# Threads of NumPy's matrix products (OpenBLAS) spin while they wait, on processors that others want; what is
# large is shared out in `zeroflaw.runtime.processors`. It is read when NumPy is imported, which is later.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Those of torch wait for one another by spinning, too: where other programs keep the processors busy, words
# were embedded in three minutes instead of a quarter of one. So short a spin costs nothing on free ones.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
_IMPORT, _SOON = "<frozen importlib._bootstrap>", 0.02  # seconds
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EBADF}

VERBS = {
    "detect": "Judge images: scores, verdicts, regions; with -o, a report.",
    "watch": "Judge photos as a camera writes them into a folder.",
    "fit": "Make a detector from good photos, or from words, and save it.",
    "calibrate": "Give a saved detector a threshold, from good or labelled photos.",
    "evaluate": "Measure detectors on a data set or on your own sorted photos.",
    "benchmark": "Run a grid of data sets, detectors, backbones and seeds.",
    "reproduce": "Measure a published table and print both side by side.",
    "datasets": "List the data sets and the layouts that can be read.",
    "detectors": "List the detectors, what they need, and published numbers.",
    "serve": "Serve detectors: a page for people, HTTP for machines, a history.",
    "history": "Export what a service or a watched folder has judged.",
    "models": "List the weights that can be used as a backbone.",
    "export": "Write a detector or a backbone as ONNX graphs, shown to agree.",
    "doctor": "Say what runs on this machine, how fast, and what is missing.",
    "push": "Put a saved detector on the Hugging Face hub.",
    "pull": "Fetch a saved detector from the Hugging Face hub.",
    "convert": "Turn published CLIP weights into a weights folder.",
    "corrupt": "Copy images under another light, focus or noise.",
    "samples": "Render a small set of products to try the tool on.",
}
"""The verbs and their summaries; each is a command of that name in the module `zeroflaw.cli.VERB`."""

_OTHER_WORDS = {"predict": "detect", "score": "detect", "infer": "detect", "train": "fit", "test": "evaluate"}


class _Verbs(click.Group):
    """A group that imports a verb's module when the verb runs or its help is asked for."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"zeroflaw.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            if Path(name).exists():
                hint = f"; did you mean 'zeroflaw detect {printable(name)}'?"
            else:
                near = _OTHER_WORDS.get(name)
                hint = f"; did you mean '{near}'?" if near else closest(name, VERBS)
            raise click.UsageError(f"No such command '{printable(name)}'{hint}", ctx)
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    @override
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would exit with 1, which means an anomaly here
            _drop_stdout()
            return 0


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="zeroflaw")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Find flaws in photos of products never seen before, without images of flaws."""
    logging.basicConfig(
        format="zeroflaw: %(levelname)s: %(message)s", level=logging.DEBUG if debug else logging.WARNING
    )
    if not debug:  # what these say of a damaged picture stands in the sentence about it
        for library in ("PIL", "tifffile"):
            logging.getLogger(library).setLevel(logging.CRITICAL)


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM came; what cleans up after an interrupt cleans up after this."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _fill_streams()
    try:
        with _stopped_by_signals():
            code = cli.main(arguments, prog_name="zeroflaw", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except BaseException as error:
        if isinstance(error, GeneratorExit | SystemExit):
            raise
        if "--debug" in arguments:
            traceback.print_exc()
        code, sentence = _in_words(error, arguments)
        say(sentence)
    sys.exit(code or 0)


def _in_words(error: BaseException, arguments: Sequence[str]) -> tuple[int, str]:
    """Return the exit code of an error, and the sentence that says it."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        if isinstance(error, _TerminatedError) or isinstance(error.__cause__, _TerminatedError):
            return TERMINATED, "zeroflaw: terminated"
        return INTERRUPTED, "zeroflaw: interrupted"
    if isinstance(error, click.ClickException):
        verb = [argument for argument in arguments if argument in VERBS][:1]
        context = getattr(error, "ctx", None)
        path = context.command_path if context else " ".join(["zeroflaw", *verb])
        return error.exit_code, f"{path}: {error.format_message().rstrip('.')}; see '{path} --help'"
    if isinstance(error, ZeroflawError):
        return error.exit_code, f"zeroflaw: {error}"
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.errno in _CANNOT_WRITE:
            _drop_stdout()
            where = error.filename or "standard output"
            return OutputError.exit_code, f"zeroflaw: results could not be written to {where} ({reason})"
        where = f"{error.filename}: " if error.filename else ""
        return InputError.exit_code, f"zeroflaw: {where}{reason}; check the path and its permissions"
    if isinstance(error, ModuleNotFoundError) and (said := missing_extra(error, "this command")):
        return UsageError.exit_code, f"zeroflaw: {said}"
    if lacks_memory(error):
        return UsageError.exit_code, "zeroflaw: there is not enough memory; use a smaller --batch-size"
    kind = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return FAULT, (
        f"zeroflaw: this is a fault of the program ({printable(kind)}); please report it with what "
        "'zeroflaw --debug VERB ...' says"
    )


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Raise `KeyboardInterrupt` at SIGINT and SIGTERM, but never inside an import.

    Libraries in C++ whose initialisation is interrupted say that they could not be initialised, or abort the
    process.
    """
    waiting: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code.co_filename != _IMPORT:
            frame = frame.f_back
        if frame is None:
            raise _TerminatedError if number == signal.SIGTERM else KeyboardInterrupt
        if not any(timer.is_alive() for timer in waiting):
            waiting[:] = [threading.Timer(_SOON, signal.raise_signal, [number])]
            waiting[0].daemon = True
            waiting[0].start()

    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as of a job in the background, which no keyboard reaches
                signal.signal(number, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fill_streams() -> None:
    """Put something in place of standard streams that are closed.

    Else the next file that is opened would get their numbers, and what is written to stdout would be lost
    without an error: here, writing to it fails, and stderr goes nowhere.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _drop_stdout() -> None:
    """Send what is still buffered nowhere: it would fail again at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:  # stdout is no file, in a test for example
        return
