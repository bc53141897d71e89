"""What decides between towers: painted flaws on kinds that were left out, and real ones."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("cv2", reason="the extra 'train' is not installed")
pytest.importorskip("skimage", reason="the extra 'train' is not installed")

from training import __main__ as whole
from training import decide
from training.decide import Figures

from zeroflaw.images import read_image


class Oracle:
    """Calls what is red anomalous: its logit is the share of red, its map is where the red is."""

    def fit(self):
        return self

    def predict(self, pictures, maps):
        assert maps
        for picture in pictures:
            pixels = np.asarray(picture if isinstance(picture, np.ndarray) else read_image(picture))
            red = (pixels[..., 0] > 200) & (pixels[..., 1:].max(-1) < 60)
            heat = red.astype(np.float32)
            yield SimpleNamespace(
                logit=float(red.mean()), map=heat, size=red.shape, resized_map=lambda heat=heat: heat
            )


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos" / "cookie"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(60, 180, (80, 90, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "photos"


def test_pairs_of_a_kind_are_flawed_photographs_and_repeat(photos):
    first, again = (decide.painted_pairs(photos, "cookie", 3) for _ in range(2))
    assert all(pair.kinds and pair.base == "photo" and pair.mask.any() for pair in first)
    assert all((a.defective == b.defective).all() for a, b in zip(first, again, strict=True))


def test_weights_are_measured_once_and_written_as_a_table(photos, tmp_path, monkeypatch):
    real = tmp_path / "real" / "set" / "tile" / "test"
    for kind, colour in (("good", (90, 90, 90)), ("hole", (255, 0, 0))):
        (real / kind).mkdir(parents=True)
        Image.new("RGB", (60, 60), colour).save(real / kind / "0.png")
    work, weights = tmp_path / "work", tmp_path / "weights"
    (work / "features").mkdir(parents=True)
    (work / "features" / "made_of.json").write_text(
        json.dumps({"generator": "g" * 64, "trained": [], "left_out": ["cookie"]})
    )
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"weights")
    made = []
    monkeypatch.setattr(decide, "make", lambda name, backbone: made.append(backbone) or Oracle())
    listed = decide.open_dataset
    monkeypatch.setattr(decide, "open_dataset", lambda name: [] if name == "elpv" else listed(name))
    for _ in range(2):
        said = CliRunner().invoke(
            decide.main,
            [
                *("--photos", str(photos), "--real", str(tmp_path / "real"), "--work", str(work)),
                *("--weights", f"seed0={weights}", "-o", str(tmp_path / "decided.md")),
            ],
        )
        assert said.exit_code == 0, said.output
    assert made == [f"local-dir:{weights}"]  # the second time it is read
    table = (tmp_path / "decided.md").read_text()
    assert "| tile | 1 / 1 | 1.000 |" in table
    assert "| **mean, left out** | 16 / 16 |" in table
    assert (work / decide.MIDDLE).read_text() == "seed0"


def _rows(image: float, peak: float = 0.5) -> dict[str, list[Figures]]:
    return {part: [Figures(part, 1, 1, image, None, None, peak)] for part in ("left out", "real")}


@pytest.mark.parametrize(
    ("images", "wanted"),
    [((0.7, 0.9, 0.8), "2"), ((0.6, 0.7), "0"), ((0.5,), "0"), ((4, 3, 2, 1), "2")],
)
def test_the_tower_of_median_worth_is_chosen(images, wanted):
    assert decide.middle({str(n): [_rows(image)] for n, image in enumerate(images)}) == wanted


def test_seeds_of_one_recipe_are_one_block_of_mean_and_spread():
    def run(first: float, second: float, pixel: float | None) -> dict[str, list[Figures]]:
        rows = [Figures("a", 1, 2, first, pixel, None, 0.5), Figures("b", 1, 2, second, None, None, 0.5)]
        return {"left out": rows}

    found = {
        "one": [run(0.9, 0.8, 0.7)],
        "three": [run(x, 0.61, p) for x, p in ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8))],
    }
    head, _, mean, lowest, a, b = decide.table(found).splitlines()
    assert head.count("|") == a.count("|") == lowest.count("|") == 11
    assert "| 0.850 | 0.700 | – | 0.500 | 0.605 ± 0.050 | 0.700 ± 0.100 | – | 0.500 ± 0.000 |" in mean
    assert "0.800 (b)" in lowest
    assert "0.600 (a)" in lowest
    assert "| a | 1 / 2 | 0.900 | 0.700 | – | 0.500 | 0.600 ± 0.100 | 0.700 ± 0.100 |" in a
    assert "| b | 1 / 2 | 0.800 | – | – | 0.500 | 0.610 ± 0.000 | – |" in b


@pytest.mark.parametrize("given", ["mix", "mix=", "mix=nowhere"])
def test_weights_that_are_none_are_refused(photos, given):
    said = CliRunner().invoke(decide.main, ["--photos", str(photos), "--weights", given])
    assert said.exit_code == 2
    assert f"got '{given}'" in said.output


def test_a_work_folder_without_pairs_is_refused(photos, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    given = ["--photos", str(photos), "--work", str(tmp_path), "--weights", f"mix={tmp_path}"]
    said = CliRunner().invoke(decide.main, given)
    assert said.exit_code == 1
    assert "holds no pairs" in said.output


def test_the_command_says_what_is_wrong_with_the_photos_before_it_begins(tmp_path):
    said = CliRunner().invoke(whole.main, ["--photos", str(tmp_path / "none"), "--work", str(tmp_path / "w")])
    assert said.exit_code == 1
    assert "wanted at least 8 folders of pictures" in said.output
    assert not (tmp_path / "w").exists()
