"""Build the site: the pages of ``docs/``, and the reference out of docstrings and the command's options.

    python docs/make_site.py [FOLDER]

The pages that are made here lie in ``build/docs`` beside copies of the others; ``zensical.toml`` says how
they hang together. The site (``build/site``) is a folder of files that asks no other host for anything. A
link that leads nowhere ends the build.
"""

from __future__ import annotations

import dataclasses
import html
import importlib
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

import zeroflaw
from zeroflaw.cli.main import VERBS, cli
from zeroflaw.parameters import parameter_names

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "zensical.toml"
MODULES = ("zeroflaw.corruptions", "zeroflaw.lab.datasets", "zeroflaw.words")
"""Modules whose public names are part of the reference beside those of `zeroflaw`."""

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$")
_ANNOTATED = re.compile(r"Annotated\[((?:[^\[\]]|\[[^\[\]]*\])+?), Field\([^)]*\)\]")
_BOUNDS = {"ge": "≥ ", "gt": "> ", "le": "≤ ", "lt": "< ", "min_length": "length ≥ "}


def main(folder: Path) -> None:
    """Write pages and site below a folder.

    Raises:
        CalledProcessError: a link leads nowhere.
    """
    pages = folder / "build" / "docs"
    write_pages(pages)
    if folder != ROOT:
        shutil.copy(ROOT / CONFIG, folder / CONFIG)
    program = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(folder / CONFIG)]
    subprocess.run(program, check=True)


def write_pages(folder: Path) -> None:
    """Write all pages into a folder, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    made = folder / "reference"
    made.mkdir()
    (made / "command.md").write_text(command_page(), encoding="utf-8")
    (made / "python.md").write_text(python_page(), encoding="utf-8")


# The command ------------------------------------------------------------------------------------------------


def command_page() -> str:
    """Return the page of all verbs and their options."""
    parts = [
        "# Options of the command\n",
        "Out of the command itself, as `zeroflaw VERB --help` prints it. What is common to all verbs, exit "
        "codes and the files that are written: [the command](../command.md).\n",
    ]
    group = click.Context(cli, info_name="zeroflaw")
    for verb in VERBS:
        command = cli.get_command(group, verb)
        assert command is not None
        context = click.Context(command, info_name=verb, parent=group)
        usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
        rows = [found for option in command.get_params(context) if (found := option.get_help_record(context))]
        said = prose(inspect.cleandoc(command.help or ""))
        parts += [f"## {verb}\n\n```text\n{usage}\n```\n\n{said}\n", "| option | |", "| --- | --- |"]
        parts += [f"| {cell(f'`{names}`')} | {cell(prose(meaning))} |" for names, meaning in rows]
        parts.append("")
    return "\n".join(parts)


# Python -----------------------------------------------------------------------------------------------------


def python_page() -> str:
    """Return the page of all public names: those of `zeroflaw`, then those of its public modules."""
    parts = [
        "# Names in Python\n",
        "Out of the docstrings. Names in the first part are imported from `zeroflaw`; higher scores are more "
        "anomalous, always.\n",
    ]
    known = {name: getattr(zeroflaw, name) for name in zeroflaw.__all__ if not name.startswith("_")}
    kinds: dict[str, Callable[[Any], bool]] = {
        "Functions": inspect.isfunction,
        "Detectors": lambda value: issubclass(value, zeroflaw.Detector),
        "Errors": lambda value: issubclass(value, zeroflaw.ZeroflawError),
        "Values": inspect.isclass,
    }
    for title, belongs in kinds.items():
        names = [name for name, value in known.items() if belongs(value)]
        parts.append(f"## {title}\n")
        make = error if title == "Errors" else entry
        parts += [make(name, known.pop(name)) for name in names]
    for home in MODULES:
        module = importlib.import_module(home)
        parts += [f"## {home}\n", described((module.__doc__ or "").partition("\n\n")[0])]
        parts += [entry(name, getattr(module, name)) for name in module.__all__]
    return "\n".join(parts)


def error(name: str, value: type[zeroflaw.ZeroflawError]) -> str:
    """Return the entry of an error: what it is, and the exit code of the command."""
    parent = value.__mro__[1].__name__
    said = described(inspect.getdoc(value) or "")
    return f"### {name}\n\nA kind of `{parent}`; the command ends with {value.exit_code}. {said}"


def entry(name: str, value: Any) -> str:
    """Return the entry of a name: signature, parameters, docstring, public methods."""
    if inspect.isfunction(value):
        return f"### {name}\n\n{signature(name, value)}\n{described(inspect.getdoc(value) or '')}"
    if not inspect.isclass(value):
        return f"### {name}\n\n{_constant(value)}"
    said = described(inspect.getdoc(value) or "", skip="Attributes")
    parts = [f"### {name}\n", said, *_fields(value)]
    for called, method in _methods(value):
        doc = described(inspect.getdoc(method) or "")
        parts.append(f"#### {name}.{called}\n\n{signature(called, method)}\n{doc}")
    return "\n".join(parts)


def _constant(value: Any) -> str:
    """Describe what is neither function nor class: several values, a table, an alias of types."""
    if isinstance(value, tuple | range):
        return f"{len(value)} values: {', '.join(f'`{one}`' for one in value[:3])} …\n"
    if isinstance(value, Mapping):
        return f"A mapping of {len(value)} names.\n"
    return f"`{str(value).replace('typing.', '')}`\n"


def _methods(value: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods that a class has of its own; those of all detectors stand with `Detector`."""
    if issubclass(value, zeroflaw.Detector) and value is not zeroflaw.Detector:
        return
    for name, found in vars(value).items():
        method = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        if not name.startswith("_") and inspect.isfunction(method) and method.__doc__:
            yield name, method


def _fields(value: type) -> Iterator[str]:
    """Yield a table of the parameters or attributes of a class; their texts may be those of its bases."""
    texts: dict[str, str] = {}
    kinds: dict[str, Any] = {}
    for base in (base for base in reversed(value.__mro__) if base.__module__.startswith("zeroflaw")):
        said = _split(inspect.cleandoc(base.__dict__.get("__doc__") or ""))
        texts |= dict(_items(said.get("Attributes", "")))
        kinds |= inspect.get_annotations(base)
    if dataclasses.is_dataclass(value):
        defaults = {field.name: field.default for field in dataclasses.fields(value)}
        names = parameter_names(value) if issubclass(value, zeroflaw.Detector) else tuple(defaults)
    else:
        names, defaults = tuple(texts), {}
    if not names:
        return
    yield "| name | type | default | |\n| --- | --- | --- | --- |"
    for name in names:
        default = defaults.get(name, dataclasses.MISSING)
        shown = "" if default is dataclasses.MISSING else cell(f"`{_short(default)}`")
        meaning = cell(prose(texts.get(name, "")))
        yield f"| `{name}` | {kind_of(str(kinds.get(name, '')))} | {shown} | {meaning} |"
    yield ""


def _short(value: object) -> str:
    text = repr(getattr(value, "default", value))  # pydantic keeps it in an object of its own
    return text if len(text) <= 60 else f"{text[:56]} …"


def kind_of(annotation: str) -> str:
    """Return an annotation for a table: its bounds in words behind it."""
    bounds = [f"{_BOUNDS[k]}{v}" for k, v in re.findall(r"(\w+)=([\w.+-]+)", annotation) if k in _BOUNDS]
    bare = annotation
    while _ANNOTATED.search(bare):  # the inner one first, where one holds another
        bare = _ANNOTATED.sub(r"\1", bare)
    bare = bare.removeprefix("<class '").removesuffix("'>")
    said = cell(f"`{bare}`") if bare else ""
    return f"{said} {', '.join(bounds)}".strip()


class _Bare(str):
    """An annotation that is printed without quotation marks."""

    __slots__ = ()
    __repr__ = str.__str__


def signature(name: str, function: Any) -> str:
    """Return a block with the signature of a function."""
    found = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=_bare(parameter.annotation))
        for parameter in found.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    text = f"{name}{found.replace(parameters=parameters, return_annotation=_bare(found.return_annotation))}"
    if len(text) > 90:
        inside, _, end = text.removeprefix(f"{name}(").rpartition(")")
        lines = re.split(r", (?=\*|\w+:|\w+ =)", inside)
        text = "\n".join([f"{name}(", *(f"    {line}," for line in lines), f"){end}"])
    return f"```python\n{text}\n```\n"


def _bare(annotation: Any) -> Any:
    return _Bare(annotation) if isinstance(annotation, str) else annotation


# Docstrings -------------------------------------------------------------------------------------------------


def described(docstring: str, skip: str = "") -> str:
    """Return a docstring as Markdown: its text, and its sections as lists."""
    parts = []
    for title, text in _split(docstring).items():
        if not title:
            parts.append(prose(text))
        elif title != skip:
            items = list(_items(text))
            lines = [f"- `{name}`: {prose(said)}" for name, said in items] if items else [prose(text)]
            parts.append(f"**{title}**\n\n" + "\n".join(lines))
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _split(docstring: str) -> dict[str, str]:
    """Return the sections of a docstring by their titles; the text before them has none."""
    found: dict[str, list[str]] = {"": []}
    title = ""
    for line in docstring.splitlines():
        if match := _SECTION.match(line):
            title = match[1]
            found[title] = []
        else:
            found[title].append(line)
    return {name: inspect.cleandoc("\n".join(lines)) for name, lines in found.items()}


def _items(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and texts of a section; nothing where it is one text."""
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if re.match(r"[`*\w.]+(, [`*\w.]+)*: ", line)]
    if not starts or starts[0] != 0:
        return
    for start in starts:
        name, _, first = lines[start].partition(": ")
        rest = takewhile(lambda line: line.startswith(" ") or not line, lines[start + 1 :])
        yield name.strip("`"), " ".join([first, *(line.strip() for line in rest)]).strip()


def prose(text: str) -> str:
    """Return text of a docstring as Markdown: one kind of code marks, nothing that is HTML."""
    marked = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    return "".join(
        part if part.startswith("`") else html.escape(part, quote=False).replace("*", "\\*")
        for part in re.split(r"(`[^`]*`)", marked)
    )


def cell(text: str) -> str:
    """Return text that may stand in a cell of a table; in code a stroke parts no cells, and is shown."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT)
