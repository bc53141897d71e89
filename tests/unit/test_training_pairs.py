"""The generator of training pairs: determinism, shapes, masks, every kind of defect on texture and object."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="the generator of training pairs draws with OpenCV, which is not installed")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from training import pairs
from training.camera import Camera, random_camera
from training.defects import FLAWS, PART_KINDS, InvisibleDefectError, damage, visible_change
from training.objects import FAMILIES
from training.pairs import render_pair
from training.scenes import object_scene, texture_scene
from training.sources import Photos, load_photos
from training.textures import TEXTURES


def _photos() -> Photos:
    rng = np.random.default_rng(3)
    picture = rng.integers(60, 200, (60, 90, 3)).astype(np.uint8)
    return Photos((picture,), (picture,))


def _still(seed: int) -> Camera:
    """A camera that changes no tone, so that what is painted can be compared with what is marked."""
    camera = random_camera(np.random.default_rng(seed))
    return replace(
        camera, gamma=1.0, contrast=1.0, lift=0.0, gradient=0.0, grey=False, warmth=(1.0, 1.0, 1.0), noise=0.0
    )


@pytest.mark.parametrize("seed", range(6))
def test_pair_has_the_promised_shapes_and_a_mask(seed: int) -> None:
    pair = render_pair(seed, _photos())
    assert pair.clean.shape == pair.defective.shape == (240, 240, 3)
    assert pair.clean.dtype == pair.defective.dtype == np.uint8
    assert pair.mask.shape == (240, 240)
    assert pair.mask.dtype == np.bool_
    assert 8 <= pair.mask.sum() < 0.9 * pair.mask.size
    assert pair.kinds
    assert set(pair.kinds) <= set(FLAWS)
    assert pair.base in {"texture", "object", "photo"}


def test_the_same_seed_gives_the_same_pair_and_another_seed_another() -> None:
    first, again, other = render_pair(5, None), render_pair(5, None), render_pair(6, None)
    assert np.array_equal(first.clean, again.clean)
    assert np.array_equal(first.defective, again.defective)
    assert np.array_equal(first.mask, again.mask)
    assert first.kinds == again.kinds
    assert not np.array_equal(first.clean, other.clean)


def test_pairs_and_photos_travel_between_processes() -> None:
    photos = pickle.loads(pickle.dumps(_photos()))  # noqa: S301 - the test's own bytes
    pair = pickle.loads(pickle.dumps(render_pair(2, photos)))  # noqa: S301
    assert np.array_equal(pair.clean, render_pair(2, photos).clean)


@pytest.mark.parametrize("kind", sorted(FLAWS))
def test_every_defect_shows_on_a_texture_and_on_an_object(kind: str) -> None:
    rng = np.random.default_rng(17)
    for scene in (texture_scene(rng, None, "tiles"), object_scene(rng, "flange")):
        harm = damage(rng, scene, scene.image, _still(1), kind)
        assert harm.kind == kind
        assert np.isfinite(harm.picture).all()
        assert harm.picture.min() >= 0
        assert harm.picture.max() <= 255
        change = np.abs(harm.picture - scene.image).max(-1)
        assert harm.mask.sum() >= 12
        assert change[harm.mask].mean() > 5
        if kind not in ("warp", "split"):  # these move more than they harm
            assert change[~harm.mask].mean() < 0.5


@pytest.mark.parametrize("name", sorted(TEXTURES))
def test_textures_fill_the_picture(name: str) -> None:
    scene = texture_scene(np.random.default_rng(4), None, name)
    assert np.isfinite(scene.image).all()
    assert scene.image.min() >= 0
    assert scene.image.max() <= 255
    assert scene.image.std() > 0.3
    assert scene.ground is None


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_objects_leave_ground_around_them_and_redraw_alike(name: str) -> None:
    scene = object_scene(np.random.default_rng(8), name)
    assert 0.01 < scene.cover.mean() < 0.98
    assert scene.ground is not None
    assert np.isfinite(scene.image).all()
    assert np.abs(scene.with_parts(scene.parts) - scene.bare).max() < 1e-3


@pytest.mark.parametrize("kind", PART_KINDS)
def test_a_part_goes_wrong_and_the_others_stay(kind: str) -> None:
    rng = np.random.default_rng(24)
    scene = object_scene(rng, "board")
    harm = damage(rng, scene, scene.image, _still(2), kind)
    near = [
        harm.mask[max(0, int(p.y) - 3) : int(p.y) + 4, max(0, int(p.x) - 3) : int(p.x) + 4]
        for p in scene.parts
    ]
    touched = sum(bool(patch.any()) for patch in near)
    assert len(scene.parts) > 3
    assert touched <= 2


def test_nothing_changed_is_nothing_marked() -> None:
    picture = texture_scene(np.random.default_rng(1), None, "wood").image
    assert not visible_change(picture, picture).any()


def test_a_kind_that_cannot_show_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FLAWS, "nothing", lambda rng, scene, picture, spot: picture.copy())
    with pytest.raises(InvisibleDefectError, match="nothing"):
        render_pair(0, None, "nothing")
    with pytest.raises(KeyError):
        render_pair(0, None, "no such kind")


def test_turning_what_is_plain_cannot_show() -> None:
    rng = np.random.default_rng(17)
    scene = texture_scene(rng, None, "plain")
    with pytest.raises(InvisibleDefectError, match="part_turned on a plain"):
        damage(rng, scene, scene.image, _still(1), "part_turned")


def test_photos_are_read_from_a_folder_in_order(tmp_path: Path) -> None:
    pytest.importorskip(
        "skimage", reason="scikit-image, whose samples are among the sources, is not installed"
    )
    for index in range(2):
        Image.new("RGB", (300, 400), (40 * index, 90, 200)).save(tmp_path / f"{index}.png")
    photos = load_photos(tmp_path)
    assert [int(picture[0, 0, 0]) for picture in photos.pictures[-2:]] == [0, 40]
    assert min(photos.pictures[-1].shape[:2]) == 256
    assert photos.photo(np.random.default_rng(0)).shape == (240, 240, 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="none below"):
        load_photos(tmp_path / "empty")


def test_contact_sheet_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["pairs", "--count", "2", "--seed", "4", "-o", str(target)])
    pairs.main()
    with Image.open(target) as sheet:
        assert sheet.size == (3 * 3 * 240, 240)
