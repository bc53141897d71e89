"""Features of images: asked for, shared, joined; and that nothing behind them needs torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from zeroflaw.runtime.features import FeatureRequest, ImageFeatures


def features(images: int) -> ImageFeatures:
    random = np.random.default_rng(images)

    def array(*shape: int) -> np.ndarray:
        return random.random((images, *shape), dtype=np.float32)

    return ImageFeatures(
        array(4),
        (2, 3),
        {(2, 1): array(2, 4), (1, 1): array(6, 4)},
        array(6, 4),
        {1: array(6, 5), 2: array(6, 5)},
    )


def test_requests_are_united() -> None:
    one = FeatureRequest(windows=((3, 1), (2, 1)), layers=(2,))
    other = FeatureRequest(windows=((2, 1),), patches=True, layers=(1, 2), tile=True)
    assert one | other == FeatureRequest(((2, 1), (3, 1)), patches=True, layers=(1, 2), tile=True)
    assert one | FeatureRequest() == FeatureRequest(((2, 1), (3, 1)), layers=(2,))


def test_only_what_is_asked_for_is_kept() -> None:
    whole = features(3)
    bare = whole.only(FeatureRequest())
    assert (bare.windows, bare.patches, bare.layers, bare.grid) == ({}, None, {}, (2, 3))
    some = whole.only(FeatureRequest(windows=((2, 1),), layers=(2,), patches=True))
    assert (set(some.windows), set(some.layers)) == ({(2, 1)}, {2})
    assert some.patches is whole.patches
    assert len(some) == 3


def test_batches_are_joined_in_order() -> None:
    parts = [features(1), features(2)]
    joined = ImageFeatures.join(parts)
    assert len(joined) == 3
    np.testing.assert_array_equal(joined.image[1:], parts[1].image)
    np.testing.assert_array_equal(joined.windows[2, 1][:1], parts[0].windows[2, 1])
    np.testing.assert_array_equal(joined.layers[2][1:], parts[1].layers[2])
    assert joined.patches is not None
    assert ImageFeatures.join([part.only(FeatureRequest()) for part in parts]).patches is None


def test_what_a_line_runs_imports_no_torch() -> None:
    code = (
        "import pkgutil, sys, importlib, zeroflaw.runtime as r\n"
        "for m in pkgutil.iter_modules(r.__path__): importlib.import_module(f'zeroflaw.runtime.{m.name}')\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'tokenizers', 'matplotlib'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
