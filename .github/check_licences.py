"""Refuse packages whose licence is not known to allow commercial use without giving away one's own source.

    python .github/check_licences.py       # of the environment that runs it

A licence is taken from a package's own metadata: the expression (PEP 639), else classifiers, else its text.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions

ALLOWED = re.compile(
    r"apache|\bmit\b|bsd|\bisc\b|\bpsf\b|python software foundation|zlib|cc0|unlicense|hpnd|\bbsl-"
    r"|cnri-python|historical permission|mozilla public|\bmpl-|public domain|\blgpl|lesser general public",
    re.IGNORECASE,
)  # LGPL and MPL: as packages of their own, which whoever has them can replace
FORBIDDEN = re.compile(r"\bgpl|\(gpl|affero|agpl|non-?commercial|-nc\b", re.IGNORECASE)
OWN = {"zeroflaw"}
KNOWN = {  # whose metadata name no licence, and where it was read instead
    "cuda-toolkit": "NVIDIA's terms, which allow use and redistribution with an application",
}


def licence(package: Distribution) -> str:
    """Return what the metadata of a package say of its licence, in one line."""
    said = package.metadata
    if expression := said.get("License-Expression"):
        return str(expression)
    named = [c.split(" :: ")[-1] for c in said.get_all("Classifier") or [] if c.startswith("License ::")]
    return "; ".join(named) or " ".join(str(said.get("License", "")).split())[:80]


def is_allowed(name: str, text: str) -> bool:
    """Whether all parts of a licence are allowed, or all of one of its alternatives ("A OR B")."""
    if name.lower() in OWN | KNOWN.keys() or name.lower().startswith("nvidia-"):
        return True
    choices = re.split(r"\s+or\s+", text, flags=re.IGNORECASE)
    return any(
        all(map(_is_part_allowed, re.split(r"\s+and\s+|; ", choice, flags=re.I))) for choice in choices
    )


def _is_part_allowed(text: str) -> bool:
    return bool(ALLOWED.search(text)) and not FORBIDDEN.search(text)


def main() -> None:
    """Print all licences, and leave with 1 if one is not allowed."""
    found = sorted({(str(p.metadata["Name"]), licence(p)) for p in distributions()})
    refused = [one for one in found if not is_allowed(*one)]
    for one in found:
        print(f"{'NO' if one in refused else '  '} {one[0]}: {one[1] or 'not said'}")
    sys.exit(f"{len(refused)} licences are not on the list" if refused else 0)


if __name__ == "__main__":
    main()
