"""The public face of the package."""

from __future__ import annotations

import ast
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zeroflaw
from zeroflaw import Detector, Prediction, errors

SOURCE = Path(zeroflaw.__file__).parent


def test_all_public_names_are_sorted_and_can_be_had() -> None:
    assert zeroflaw.__all__ == sorted(zeroflaw.__all__)
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


def test_the_names_for_type_checkers_are_those_for_users() -> None:
    (block,) = (
        node for node in ast.parse((SOURCE / "__init__.py").read_text()).body if isinstance(node, ast.If)
    )
    imported = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == zeroflaw._MODULES


class Half(Detector):
    """Scores a picture by its mean, and is fitted always."""

    name = "half"
    is_fitted = True

    def fit(self, **_: Any) -> Half:
        return self

    def save(self, folder: str | Path) -> None:
        raise NotImplementedError

    def _predict_batch(self, images: list[Any], maps: bool) -> list[Prediction]:
        field = np.ones((2, 2), np.float32) if maps else None
        return [Prediction("", i.mean() / 255, i.mean() / 255, {}, i.shape[:2], map=field) for i in images]


def test_one_picture_gives_one_prediction_and_several_a_list(tmp_path: Path) -> None:
    grey = np.full((4, 4, 3), 51, np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(grey).save(path)
    for one in (grey, grey[..., 0], Image.fromarray(grey), path.read_bytes(), path, str(path)):
        prediction = zeroflaw.detect(one, detector=Half())
        assert isinstance(prediction, Prediction)
        assert prediction.score == 0.2
    for several in ([path], tmp_path, str(tmp_path / "*.png"), grey[None], [grey], (p for p in [str(path)])):
        (prediction,) = zeroflaw.detect(several, detector=Half())
        assert prediction.score == 0.2
    assert [p.source for p in zeroflaw.detect([path, grey], detector=Half())] == [str(path), "image 1"]
    with pytest.raises(errors.ImageError):
        zeroflaw.detect(b"no picture", detector=Half())


def test_each_item_of_a_list_has_a_prediction_of_its_own(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((4, 4, 3), 51, np.uint8)).save(tmp_path / name)
    names = [str(tmp_path / name) for name in ("b.png", "a.png", "b.png")]
    assert [p.source for p in zeroflaw.detect(names, detector=Half())] == names
    told: list[errors.ImageError] = []
    absent = [str(tmp_path / "absent.png"), "x" * 5000]
    found = zeroflaw.detect([names[0], *absent, str(tmp_path)], detector=Half(), on_error=told.append)
    assert [p.source for p in found] == [names[0], names[1], names[0]]  # of the folder, both
    assert len(told) == 2
    with pytest.raises(errors.InputError, match="there is no file or folder"):
        zeroflaw.detect([names[0], absent[0]], detector=Half())


@pytest.mark.parametrize("images", [None, 5, io.BytesIO(b"no picture")])
def test_what_is_no_picture_is_refused_with_what_one_is(images: Any) -> None:
    with pytest.raises(errors.UsageError, match=r"detect wants a picture .*got one (NoneType|int|BytesIO)"):
        zeroflaw.detect(images, detector=Half())


def test_predictions_print_short_compare_and_hash() -> None:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    one, other = zeroflaw.detect(pixels, detector=Half(), maps=True)
    assert "map=array" not in repr(one)
    assert one != other
    assert one == dataclasses.replace(other, source=one.source)
    assert one != dataclasses.replace(one, map=None)
    assert one != dataclasses.replace(one, map=np.zeros((2, 2), np.float32))
    assert one != 1
    assert len({one, other, dataclasses.replace(one)}) == 2


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
