"""The folded stem against a forward pass with the batch norms in place."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from training.stem_weights import fill_stem, read_weights, weights_path

from zeroflaw.towers.stem import Stem, StemConfig

REPEATS, STRIDES = (1, 3, 3, 4, 4), (1, 2, 2, 2, 1)


@pytest.fixture(scope="module")
def weights():
    try:
        return read_weights(weights_path())
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


def _conv(x, weight, stride=1, groups=1):
    size, sides = weight.shape[-1], x.shape[-2:]
    pads = [max((math.ceil(side / stride) - 1) * stride + size - side, 0) for side in sides]
    pads = [part for pad in reversed(pads) for part in (pad // 2, pad - pad // 2)]
    return F.conv2d(F.pad(x, pads), weight, None, stride, 0, 1, groups)


def _norm(x, weights, name):
    parts = [weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *parts, training=False, eps=1e-3)


def _block(x, weights, name, stride):
    y = x
    if f"{name}._expand_conv.weight" in weights:
        y = F.relu6(_norm(_conv(y, weights[f"{name}._expand_conv.weight"]), weights, f"{name}._bn0"))
    depthwise = weights[f"{name}._depthwise_conv.weight"]
    y = F.relu6(_norm(_conv(y, depthwise, stride, len(depthwise)), weights, f"{name}._bn1"))
    y = _norm(_conv(y, weights[f"{name}._project_conv.weight"]), weights, f"{name}._bn2")
    return x + y if x.shape == y.shape else y


def _stages(x, weights):
    x = F.relu6(_norm(_conv(x, weights["_conv_stem.weight"], 2), weights, "_bn0"))
    number, maps = 0, []
    for repeats, stride in zip(REPEATS, STRIDES, strict=True):
        for repeat in range(repeats):
            x = _block(x, weights, f"_blocks.{number}", 1 if repeat else stride)
            number += 1
        maps.append(x)
    return maps


def test_folded_stem_equals_the_network_with_batch_norm(weights):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    stem = fill_stem(Stem(StemConfig(), 8), weights)
    maps = _stages(images, weights)
    with torch.inference_mode():
        features = stem.features(images)
    assert features.shape == (2, 424, 4, 6)
    torch.testing.assert_close(features[:, -120:], maps[4], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(features[:, 216:304], maps[3], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(features[:, 72:120], F.avg_pool2d(maps[2], 2), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(features[:, 24:48], F.max_pool2d(maps[1], 4), atol=2e-4, rtol=1e-4)


def test_convolutions_are_frozen_and_the_embedding_is_not(weights):
    stem = fill_stem(Stem(StemConfig(), 8), weights)
    trained = {name.split(".")[0] for name, value in stem.named_parameters() if value.requires_grad}
    assert trained == {"reduction", "out"}
