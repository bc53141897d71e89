"""The command as a user runs it: what it prints, writes and returns, and how it refuses."""

from __future__ import annotations

import ast
import errno
import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from command import lines, picture, refused, run
from zeroflaw.cli import drawn
from zeroflaw.cli.main import VERBS, cli
from zeroflaw.errors import OutputError, UsageError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five pictures, one of them in a folder below."""
    for number, name in enumerate(("a.png", "b.jpg", "c d.png", "ü.png", "more/a.png")):
        picture(tmp_path / "photos" / name, number, size=(40, 60))
    return tmp_path / "photos"


@pytest.fixture
def backbone(tiny_backbone: Path) -> list[str]:
    """The flags that choose the tiny backbone and a short fit."""
    return ["--backbone", f"local-dir:{tiny_backbone}", "--set", "n_pairs=40", "--set", "epochs=2"]


def test_detect_writes_a_json_line_per_image(
    photos: Path, backbone: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("detect", photos, *backbone) == 0
    out, err = capsys.readouterr()
    rows = lines(out)
    assert [Path(row["source"]).name for row in rows] == ["a.png", "b.jpg", "c d.png", "a.png", "ü.png"]
    for row in rows:
        assert 0 <= row["score"] <= 1
        assert row["label"] is None
        assert set(row["scores"]) == {"prompt", "fnn"}
    assert "5 images in" in err


def test_exit_code_of_an_anomaly(photos: Path, backbone: list[str]) -> None:
    for flags, code in ((["--threshold", "0"], 1), (["--threshold", "1"], 0), ([], 2)):
        assert run("detect", photos, *backbone, *flags, "--fail-on-anomaly") == code
    assert run("detect", photos, *backbone, "--threshold", "0") == 0


def test_a_saved_detector_predicts_the_same_in_a_new_process(
    photos: Path, backbone: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "saved"
    assert run("fit", *backbone, "-o", saved, "--object", "metal nut", "-q") == 0
    assert run("detect", photos, "--detector", saved, "-q") == 0
    first = capfd.readouterr().out
    command = [sys.executable, "-m", "zeroflaw", "detect", str(photos), "--detector", str(saved), "-q"]
    second = subprocess.run(command, capture_output=True, check=True, env=None)
    for one, other in zip(lines(first), lines(second.stdout.decode()), strict=True):
        assert one["source"] == other["source"]
        assert one["logit"] == pytest.approx(other["logit"], abs=1e-5)
    config = json.loads((saved / "config.json").read_text())
    assert config["parameters"]["object"] == "metal nut"
    assert "metal nut" in json.loads((saved / "words.json").read_text())["example"]["normal"]
    assert "Images seen: none" in (saved / "README.md").read_text()
    # And a reader that leaves is no error.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_two_fits_with_one_seed_give_the_same_bytes(backbone: list[str], tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        assert run("fit", *backbone, "--seed", seed, "-o", tmp_path / name, "-q") == 0
    heads = [(tmp_path / name / "head.safetensors").read_bytes() for name in ("one", "two", "other")]
    assert heads[0] == heads[1] != heads[2]


def test_own_words_from_flags_and_from_a_file(backbone: list[str], tmp_path: Path) -> None:
    words = tmp_path / "words.toml"
    words.write_text('normal = ["intact"]\nanomalous = ["{} with a dent"]\ndictionary = ["river", "table"]\n')
    arguments = ["fit", *backbone, "--words", words, "--anomalous", "bent", "-o", tmp_path / "saved", "-q"]
    assert run(*arguments) == 0
    used = json.loads((tmp_path / "saved" / "words.json").read_text())
    assert used["vocabulary"]["normal"] == ["intact {}"]
    assert used["vocabulary"]["anomalous"] == ["bent {}"]  # flags win over the file
    assert set(" ".join(used["pairs"]).split()) == {"river", "table"}


def test_samples_replace_samples_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, given = tmp_path / "samples", ("samples", tmp_path / "samples", "-q")
    first = folder / "washer/test/good/000.png"
    assert run(*given) == 0
    before = first.read_bytes()
    refused(capsys, 2, "--overwrite", *given)
    assert run(*given, "--overwrite", "--seed", "1") == 0
    assert first.read_bytes() != before
    (folder / "thesis.txt").write_text("mine")
    refused(capsys, 2, "thesis.txt", *given, "--overwrite")
    assert (folder / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["detect"], 2, "PATH"),
        (["detect", "nowhere.png"], 3, "no file or folder 'nowhere.png'"),
        (["detect", "*.nothing"], 3, "matches no image"),
        (["detect", "{photo}", "--colour", "red"], 2, "No such option"),
        (["detect", "{photo}", "--detector", "rwdaa"], 2, "did you mean 'rwda'"),
        (["detect", "{photo}", "--detector", "./nowhere"], 4, "does not exist"),
        (["detect", "{photo}", "--detector", "{photo}"], 4, "is a file"),
        (["detect", "{photo}", "--backbone", "ViT-B-32/opnai"], 4, "did you mean"),
        (["detect", "{photo}", "--backbone", "local-dir:nowhere"], 4, "nowhere"),
        (["detect", "{photo}", "--device", "tpu"], 2, "device"),
        (["detect", "{photo}", "--threshold", "1.5"], 2, "from 0 to 1"),
        (["detect", "{photo}", "--seed", "-1"], 2, "seed"),
        (["detect", "{photo}", "--batch-size", "0"], 2, "batch-size"),
        (["detect", "{photo}", "--set", "n_pairs"], 2, "NAME=VALUE"),
        (["detect", "{photo}", "--set", "n_pears=3"], 2, "did you mean 'n_pairs'"),
        (["detect", "{photo}", "--set", "n_pairs=many"], 2, "whole number"),
        (["detect", "{photo}", "--set", "hidden=99999999"], 2, "hidden"),
        (["detect", "{photo}", "--set", "fusion=prompt=2,part=1"], 2, "fusion"),
        (["detect", "{photo}", "--object", ""], 2, "empty"),
        (["detect", "{photo}", "--normal", "fine", "--anomalous", "fine"], 2, "both"),
        (["detect", "{photo}", "--words", "nowhere.toml"], 2, "nowhere.toml"),
        (["fit"], 2, "--output"),
        (["fit", "-o", "x" * 300], 2, "cannot be written"),
        (["evaluate", "x" * 300], 3, "does not exist"),
        (["samples", "{photo}"], 2, "folder"),
        (["samples", "x" * 300], 2, "cannot be written to"),
        (["samples", "new", "--seed", "-1"], 2, "--seed"),
        (["detect", "x" * 300], 3, "xxx"),
        (["detect", "x" * 300 + "/*.png"], 3, "xxx"),
        (["detect", "{folder}", "-o", "x" * 300], 2, "cannot be written to"),
        (["fit", "--detector", "{photo}", "-o", "x"], 2, "kind of detector"),
        (["fit", "-o", "{photo}"], 2, "is a file; give a folder"),
        (["evaluate", "nowhere"], 3, "nowhere"),
        (["evaluate", "{folder}"], 3, "test"),
        (["fit", "-o", "{photo}/below"], 2, "cannot be written"),
        (["fit", "-o", "x", "--set", "window_sizes=9"], 2, "window size"),
        (["fit", "-o", "x", "--set", "map_from=patches"], 2, "agree with its text"),
        (["detect", "{photo}", "--set", "device=tpu"], 2, "device must be one of"),
        (["detect", "{photo}", "--set", "fusion=prompt=1e308,fnn=1e308"], 2, "1e-6 to 1e6"),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str],
    code: int,
    says: str,
    photos: Path,
    backbone: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [a.format(photo=photos / "a.png", folder=photos) for a in arguments]
    # Where the error is not about the backbone, the tiny one stands in for the bundled model.
    if filled[0] in ("detect", "fit", "evaluate") and not {"--backbone", "--detector"} & set(filled):
        filled[1:1] = backbone
    refused(capsys, code, says, *filled)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]


def test_help_is_light_and_names_every_verb() -> None:
    code = (
        "import sys\nfrom zeroflaw.cli.main import cli\ncli.main(['--help'], standalone_mode=False)\n"
        "print(sorted(m for m in sys.modules if m.startswith('zeroflaw') or m in ('torch', 'numpy', 'tqdm')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    *text, modules = done.stdout.splitlines()
    for verb, summary in VERBS.items():
        assert any(line.split() == [verb, *summary.split()] for line in text), verb
    loaded = {"errors", "_version", "cli", "cli.main", "cli.output"}
    assert set(ast.literal_eval(modules)) == {"zeroflaw", *(f"zeroflaw.{name}" for name in loaded)}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verb, "--help") == 0
    assert f"Usage: zeroflaw {verb}" in capsys.readouterr().out


# Exit codes: 0 to 4 are made above.


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (TypeError("a\x1b[31m\nb" * 99), 70, "fault of the program (TypeError: a\\x1b[31m\\nb"),
        (AssertionError(), 70, "fault of the program (AssertionError)"),
        (KeyboardInterrupt(), 130, "zeroflaw: interrupted"),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "not enough memory"),
        (RuntimeError("std::bad_alloc"), 2, "not enough memory"),
        (RuntimeError("a memory of photos"), 70, "fault of the program"),
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), 74, "to a.png (No space left on device)"),
        (OSError(errno.EACCES, "Permission denied", "a.png"), 3, "a.png: Permission denied; check"),
        (OSError("odd"), 3, "odd; check"),
        (UsageError("a\nb"), 2, "zeroflaw: a\\nb\n"),
        (OutputError("full"), 74, "zeroflaw: full"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_every_end_has_a_code_and_a_sentence(
    error: BaseException,
    code: int,
    says: str,
    debug: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(importlib.import_module("zeroflaw.cli.models").models, "callback", stop)
    assert run(*["--debug"] * debug, "models") == code
    err = capfd.readouterr().err
    assert says in err
    assert len(err) < 1000 or debug
    if not debug:
        assert len(err.strip().splitlines()) == 1
    assert ("Traceback" in err) == debug


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predict", "a.png"], "did you mean 'detect'?; see 'zeroflaw --help'"),
        (["detct", "a.png"], "did you mean 'detect'?"),
        (["{folder}"], "did you mean 'zeroflaw detect {folder}'?"),
        (["frobnicate"], "No such command 'frobnicate'; see"),
        (["detect", "a.png", "-o"], "see 'zeroflaw detect --help'"),
    ],
)
def test_hints(arguments: list[str], says: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*[argument.format(folder=photos) for argument in arguments]) == 2
    assert says.format(folder=photos) in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="redirections of a Unix shell")
@pytest.mark.parametrize(
    ("redirection", "code", "says"),
    [
        ("2>&-", 0, None),
        (">&- 2>&-", 74, None),
        (">&-", 74, "results could not be written to standard output (Bad file descriptor)"),
        (">/dev/full", 74, "results could not be written to standard output (No space left on device)"),
        ("<&- >/dev/null", 0, ""),
    ],
)
def test_closed_and_full_streams(redirection: str, code: int, says: str | None) -> None:
    command = f"{shlex.quote(sys.executable)} -m zeroflaw models {redirection}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    if says is not None:
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == bool(says)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full")
def test_a_full_disk_is_named(
    photos: Path,
    backbone: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        with Path("/dev/full").open("wb", buffering=0) as stream:
            stream.write(b"0")

    monkeypatch.setattr(drawn, "write_png", full)
    assert run("detect", photos, *backbone, "-o", tmp_path / "out", "-q") == 74
    assert f"to {tmp_path / 'out'} (No space left on device)" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


ARGUMENTS = {
    "detect": ("a.png",),
    "fit": ("-o", "out"),
    "calibrate": ("saved", "--good", "a.png"),
    "evaluate": ("root",),
    "benchmark": ("grid.toml",),
    "reproduce": ("poster", "--root", "root"),
    "export": ("rwda", "-o", "out"),
    "convert": ("weights", "out"),
    "corrupt": ("photos", "out", "--corruption", "brightness"),
    "samples": ("out",),
    "push": ("saved", "me/x"),
    "pull": ("me/x", "-o", "out"),
    "serve": ("saved",),
    "watch": ("photos", "--detector", "saved"),
    "history": ("export",),
}


@pytest.mark.parametrize("verb", VERBS)
def test_an_unforeseen_error_of_any_verb_is_a_fault_and_no_anomaly(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("saved", "root", "photos", "weights"):
        (tmp_path / name).mkdir()
    (tmp_path / "grid.toml").touch()
    command = getattr(importlib.import_module(f"zeroflaw.cli.{verb}"), verb)
    if isinstance(command, click.Group):
        (command,) = command.commands.values()

    def broken(**given: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(command, "callback", broken)
    refused(
        capsys, 70, "fault of the program (ZeroDivisionError: unforeseen)", verb, *ARGUMENTS.get(verb, ())
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize(
    ("name", "code", "says"), [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")]
)
def test_a_signal_waits_until_an_import_has_ended(name: str, code: int, says: str, tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(
        "import os, signal, time\n"
        f"for _ in range(3):\n    os.kill(os.getpid(), signal.{name})\n    time.sleep(0.05)\n"
        "print('imported', flush=True)\n"
    )
    script = (
        "import signal, time\nfrom zeroflaw.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # jobs in the background ignore it
        "def work(*_, **__):\n    import library\n    time.sleep(0.5)\n    print('went on')\n"
        "main.cli.main = work\nmain.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "imported\n")
    assert done.stderr == f"zeroflaw: {says}\n"


NUMBERS = [
    (verb, option)
    for verb in VERBS
    for option in cli.get_command(click.Context(cli), verb).params
    if isinstance(option.type, click.types.FloatParamType) and isinstance(option, click.Option)
]


@pytest.mark.parametrize(("verb", "option"), NUMBERS, ids=lambda one: getattr(one, "name", one))
def test_no_number_is_nan_or_endless(
    verb: str, option: click.Option, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in ("nan", "inf"):
        assert run(verb, f"{option.opts[0]}={value}") == 2
        said = capsys.readouterr().err
        bounded = value == "inf" and "is not in the range" in said
        assert bounded or f"'{value}' is not a finite number" in said


def test_threads_of_products_do_not_spin() -> None:
    script = (
        "import os, sys\nfrom zeroflaw.cli import main\nassert 'numpy' not in sys.modules\n"
        "print(os.environ['OPENBLAS_NUM_THREADS'], os.environ['GOMP_SPINCOUNT'])"
    )
    names = {"OPENBLAS_NUM_THREADS", "GOMP_SPINCOUNT"}
    for given, found in (({}, "1 1000"), ({"OPENBLAS_NUM_THREADS": "20"}, "20 1000")):
        environment = {key: value for key, value in os.environ.items() if key not in names} | given
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        assert done.stdout.strip() == found
