"""The public face of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import zeroflaw
from zeroflaw import errors

SOURCE = Path(zeroflaw.__file__).parent


def test_all_public_names_are_sorted_and_can_be_had() -> None:
    def order(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2), name

    assert zeroflaw.__all__ == sorted(zeroflaw.__all__, key=order)
    for name in zeroflaw.__all__:
        assert getattr(zeroflaw, name) is not None
        assert name == "__version__" or getattr(zeroflaw, name).__doc__, name
    assert set(dir(zeroflaw)) == set(zeroflaw.__all__)


def test_every_error_is_public() -> None:
    tree = {e.__name__ for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)}
    assert tree <= set(zeroflaw.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Detektor'"):
        _ = zeroflaw.Detektor


def test_nothing_in_the_package_unpickles_or_executes() -> None:
    """No pickle, no eval or exec, no torch.load without weights_only=True, no numpy files with objects."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                )
                assert not {m.split(".")[0] for m in modules} & {
                    "pickle",
                    "joblib",
                    "dill",
                    "shelve",
                    "yaml",
                }, path
            if isinstance(node, ast.Call):
                _check_call(ast.unparse(node.func), node, path)


def _check_call(name: str, node: ast.Call, path: Path) -> None:
    assert name not in ("eval", "exec", "torch.jit.load", "torch.hub.load"), path
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name == "torch.load":
        assert given.get("weights_only") == "True", path
    if name in ("np.load", "numpy.load"):
        assert given.get("allow_pickle") == "False", path
