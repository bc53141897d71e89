"""A detector as one graph: it says what the detector says, and comes with all that a stranger needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import zeroflaw
from zeroflaw.detectors.base import BackboneDetector
from zeroflaw.errors import OutputError, UsageError
from zeroflaw.export import int8
from zeroflaw.export.detector import INT8, MODEL, RECORD, TOLERANCE, WITH_RESIZE, export_detector
from zeroflaw.export.place import require_place
from zeroflaw.export.tower import export_tower, singled
from zeroflaw.towers.weights import load_backbone


def pictures(count: int, seed: int = 2) -> list[np.ndarray]:
    """Soft pictures, as photos are."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return [np.asarray(Image.fromarray(one).resize((340, 300))) for one in small]


def flawed(count: int, seed: int = 2) -> list[np.ndarray]:
    """The same, each with a dark scratch somewhere: their maps have a clear peak."""
    random, found = np.random.default_rng(seed), []
    for photo in pictures(count, seed):
        y, x = random.integers(40, 250, 2)
        found.append(photo.copy())
        found[-1][y : y + 6, x : x + 40] = 15
    return found


def run(folder: Path, name: str, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
    return session.run(["logit", "scores", "map"], inputs)


def fitted(kind: str, tiny_backbone: Path) -> BackboneDetector:
    if kind == "rwda":
        found = zeroflaw.load("rwda")
        assert isinstance(found, BackboneDetector)
        return found
    if kind == "windows":  # of a CLIP without aligned patches
        return zeroflaw.ClipPair(
            backbone=f"local-dir:{tiny_backbone}", device="cpu", fusion="prompt_part"
        ).fit()
    words = {"backbone": f"local-dir:{tiny_backbone}", "device": "cpu", "words": "clip"}
    if kind == "memory of a clip":
        return zeroflaw.Memory(**words, roi="0,0 340,0 340,200 0,200").fit(reference=pictures(5))
    if kind.startswith("smaller"):  # than the tower's own size, which words alone look at
        weight = 0.0 if kind == "smaller without words" else 0.2
        return zeroflaw.Memory(**words, sizes=(32, 40), words_weight=weight).fit(reference=pictures(5))
    return zeroflaw.Memory().fit(reference=pictures(5))


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The usual detector as graphs, with one in 8 bits."""
    folder = tmp_path_factory.mktemp("exported") / "graph"
    detector = zeroflaw.load("rwda")
    assert isinstance(detector, BackboneDetector)
    export_detector(detector, folder, with_resize=True, int8=flawed(24))
    return folder


@pytest.mark.parametrize(
    "kind", ["rwda", "windows", "memory", "memory of a clip", "smaller", "smaller without words"]
)
def test_the_graph_says_what_the_detector_says(
    kind: str, tiny_backbone: Path, tmp_path: Path, bundled: Path
) -> None:
    detector, folder = fitted(kind, tiny_backbone), bundled
    if kind != "rwda":
        folder = tmp_path / "graph"
        export_detector(detector, folder, with_resize=True)
    record = json.loads((folder / RECORD).read_text())
    assert record["tolerance"]["measured"] <= TOLERANCE
    assert ("pixels" in record["inputs"]) == (kind != "smaller without words")
    assert ("threshold" in record) == (detector.threshold_rule is not None)
    if (said := record.get("threshold")) is not None:
        assert said["map_score"] == pytest.approx(1 / (1 + np.exp(-said["map"])))  # in the unit of the map
        assert said["map_score"] == next(iter(detector.predict(pictures(1)))).map_threshold

    # The test pictures, as a program in another language would check itself.
    vectors = record["vectors"]
    inputs = {
        name: np.fromfile(folder / said["file"], np.uint8).reshape(said["shape"])
        for name, said in vectors["inputs"].items()
    }
    found = run(folder, MODEL, **inputs)
    for one, name in zip(found, ("logit", "scores", "map"), strict=True):
        np.testing.assert_allclose(one, np.array(vectors[name]), atol=TOLERANCE)

    # What 8 bits may round: layers of the tower, and neither heads nor memories.
    graph = singled(onnx.load(folder / MODEL)).graph
    sizes = {weight.name: weight.dims for weight in graph.initializer}
    rounded = [node for node in int8.of_tower(graph) if node.op_type in int8.ROUNDED]
    assert len(rounded) >= 2 * 3  # of each block, at the least
    assert all(sizes[node.input[1]][1] > 1 and "judge" not in node.input[1] for node in rounded)

    # Other pictures, of any size, with the resizing inside.
    photos = pictures(2, seed=3)
    predictions = list(detector.predict(photos, maps=True))
    logits, scores, maps = run(folder, WITH_RESIZE, image=np.stack(photos))
    np.testing.assert_allclose(logits, [p.logit for p in predictions], atol=0.3)
    named = [[p.scores[name] for name in record["outputs"]["scores"]["names"]] for p in predictions]
    np.testing.assert_allclose(scores, named, atol=0.1)
    assert maps.shape == np.stack([p.map for p in predictions if p.map is not None]).shape


def test_the_graph_that_resizes_says_by_how_much_it_differs(bundled: Path) -> None:
    """It rounds where Pillow does, and what it records is no less than pictures of other sizes show."""
    said = json.loads((bundled / RECORD).read_text())["with_resize"]
    assert {1e-3 < said[name] < 0.2 for name in ("differs_by", "map_differs_by")} == {True}
    detector, random = zeroflaw.load("rwda"), np.random.default_rng(7)
    for photo in [*pictures(2), *flawed(2), random.integers(0, 256, (288, 384, 3), np.uint8)]:
        logit, _, drawn = run(bundled, WITH_RESIZE, image=photo[None])
        (expected,) = detector.predict([photo], maps=True)
        assert abs(logit[0] - expected.logit) < said["differs_by"]
        assert np.abs(drawn[0] - expected.map).max() < 0.02  # 0.06 without rounding between the directions


def as_inputs(folder: Path, photos: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    side = json.loads((folder / RECORD).read_text())["inputs"]["pixels"]["shape"][1]
    small = [np.asarray(Image.fromarray(photo).resize((side, side))) for photo in photos]
    return [{"pixels": np.stack(small[start : start + 5])} for start in range(0, len(small), 5)]


def test_eight_bits_say_of_photos_what_was_said_before(bundled: Path) -> None:
    found = json.loads((bundled / RECORD).read_text())["int8"]["compared_on_photos"]
    assert found["photos"] == 24
    (inputs,) = as_inputs(bundled, flawed(5, seed=4))
    one, other = (run(bundled, name, **inputs) for name in (MODEL, INT8))
    assert 0 < np.abs(one[2] - other[2]).mean() < int8.MAPS
    again = int8.compare(
        (bundled / MODEL).read_bytes(), (bundled / INT8).read_bytes(), as_inputs(bundled, flawed(24))
    )
    assert again.same_peak == pytest.approx(found["same_peak"], abs=0.05)
    assert again.maps == pytest.approx(found["maps"], abs=0.002)
    assert again.ranks == pytest.approx(found["ranks"], abs=0.01)


def test_eight_bits_that_say_something_else_are_refused(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convolutions in 8 bits ruin the maps, really."""
    monkeypatch.setattr(int8, "ROUNDED", ("MatMul", "Conv"))
    exact = (bundled / MODEL).read_bytes()
    with pytest.raises(
        OutputError, match=r"in \d+\.\d% of 20 photos, maps differ by .* export without --int8"
    ):
        int8.checked_int8(exact, as_inputs(bundled, flawed(20)))


def test_eight_bits_need_photos_that_tell(bundled: Path) -> None:
    exact, photos = (bundled / MODEL).read_bytes(), pictures(1)
    with pytest.raises(UsageError, match="at least 20 photos, got 3"):
        int8.compare(exact, exact, as_inputs(bundled, photos * 3))
    with pytest.raises(UsageError, match=r"all photos .* have the same score"):
        int8.compare(exact, exact, as_inputs(bundled, photos * 20))
    equal = int8.compare(exact, exact, as_inputs(bundled, flawed(20)))
    assert (equal.same_peak, equal.maps, equal.logit, equal.is_enough) == (1, 0, 0, True)


@pytest.mark.parametrize(
    ("changes", "enough"),
    [({}, True), ({"same_peak": 0.94}, False), ({"maps": 0.06}, False), ({"ranks": 0.98}, False)],
)
def test_eight_bits_must_keep_peaks_maps_and_ranks(changes: dict[str, float], enough: bool) -> None:
    found = int8.Agreement(photos=20, same_peak=0.95, maps=0.05, ranks=0.99, logit=3.0)
    assert replace(found, **changes).is_enough == enough


def test_what_cannot_be_one_graph_is_refused(tmp_path: Path) -> None:
    tiled = zeroflaw.load("rwda", tile=64)
    assert isinstance(tiled, BackboneDetector)
    with pytest.raises(UsageError, match="tiles of 64 pixels"):
        export_detector(tiled, tmp_path / "out")
    with pytest.raises(UsageError, match="a mutual detector cannot be one graph"):
        export_detector(zeroflaw.Mutual().fit(), tmp_path / "graph")
    assert not (tmp_path / "graph").exists()


def test_a_folder_of_somebody_else_stays(
    tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = zeroflaw.load("rwda")
    assert isinstance(detector, BackboneDetector)
    theirs = tmp_path / "photos"
    theirs.mkdir()
    (theirs / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"precious\.txt, which was not written by an earlier run"):
        export_detector(detector, theirs)
    (theirs / "precious.txt").rename(theirs / "README.md")
    with pytest.raises(UsageError, match=r"README\.md, which was not written by an earlier run"):
        export_tower(load_backbone("mini", device="cpu"), theirs)
    with pytest.raises(UsageError, match=r"README\.md is a file; give a folder for graphs"):
        export_detector(detector, theirs / "README.md")
    monkeypatch.chdir(theirs)
    with pytest.raises(UsageError, match="current folder"):
        export_detector(detector, Path())
    assert [path.read_text() for path in theirs.iterdir()] == ["mine"]
    require_place(bundled)  # which an earlier export wrote
