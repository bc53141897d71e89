"""The generator of training pairs: determinism, shapes, masks, every kind of defect on texture and object."""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("cv2", reason="the generator of training pairs draws with OpenCV, which is not installed")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from training import pairs
from training.camera import Camera, random_camera
from training.canvas import Spot, along_grain
from training.defects import FLAWS, PART_KINDS, InvisibleDefectError, damage, visible_change
from training.objects import FAMILIES
from training.pairs import render_pair
from training.scenes import object_scene, photo_scene, texture_scene
from training.sources import FOLDS, Photos, find_kinds, load_photos, read_kinds, read_register, split_kinds
from training.structure import STRUCTURE
from training.textures import TEXTURES


def _photos() -> Photos:
    rng = np.random.default_rng(3)
    picture = rng.integers(60, 200, (60, 90, 3)).astype(np.uint8)
    return Photos({"cube": (picture,), "thing": (_thing(),)}, (picture,))


def _thing() -> NDArray[np.uint8]:
    """A brown disk on light ground."""
    rows, columns = np.mgrid[:256, :256]
    disk = (rows - 128) ** 2 + (columns - 120) ** 2 < 70**2
    return np.where(disk[..., None], np.array([120, 70, 40]), 225).astype(np.uint8)


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
    assert bool(pair.kinds) == (pair.mask.sum() >= 8)
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


def test_some_pairs_are_two_flawless_views() -> None:
    pairs_ = [render_pair(seed, _photos()) for seed in range(40)]
    calm = [pair for pair in pairs_ if not pair.kinds]
    assert 0 < len(calm) < 20
    assert not any(pair.mask.any() for pair in calm)
    assert all((pair.clean != pair.defective).any() for pair in calm)


def test_a_thing_is_told_from_even_ground_and_a_texture_is_not() -> None:
    rng = np.random.default_rng(0)
    photos = Photos(
        {"thing": (_thing(),), "noise": (rng.integers(0, 255, (99, 99, 3)).astype(np.uint8),)}, ()
    )
    inside, outside = (photo_scene(rng, photos, kind) for kind in ("thing", "noise"))
    assert inside.ground is not None
    assert inside.ground.mean() == pytest.approx(225, abs=3)
    assert 0.05 < inside.cover.mean() < 0.75
    assert outside.ground is None
    assert outside.cover.min() == 1


@pytest.mark.parametrize("name", sorted(STRUCTURE))
def test_flawless_structure_changes_a_picture_where_the_thing_is(name: str) -> None:
    cover = np.zeros((240, 240), np.float32)
    cover[60:180, 60:180] = 1
    grey = np.full((240, 240, 3), 128, np.float32)
    after = [STRUCTURE[name](np.random.default_rng(seed), grey, cover) for seed in range(8)]
    changed = np.max([np.abs(picture - grey).max(-1) for picture in after], 0)
    assert changed.max() > 5
    assert all(picture.min() >= 0 and picture.max() <= 255 for picture in after)
    if name not in ("hook", "shade"):  # come from outside
        assert changed[:50].max() < 1


def test_the_grain_of_stripes_runs_along_them() -> None:
    rows = np.mgrid[:240, :240][0]
    stripes = np.repeat((128 + 60 * np.sin(rows / 3))[..., None], 3, 2).astype(np.float32)
    angle = along_grain(stripes, Spot(120.0, 120.0, 5.0, np.zeros(3, np.float32)))
    assert abs(math.sin(angle)) < 0.02  # horizontal


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
        if kind not in ("warp", "split", "uneven", "film"):  # these change more than they harm
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


def _bank(folder: Path, kinds: Iterable[str]) -> Path:
    for number, kind in enumerate(kinds):
        (folder / kind).mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (300, 400), (40 * index, 9 * number, 200)).save(folder / kind / f"{index}.png")
    return folder


def test_photos_are_read_a_folder_a_kind_and_some_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip(
        "skimage", reason="scikit-image, whose samples are among the sources, is not installed"
    )
    kinds = ["cookie", "pcb", *(kind for kind in read_register() if kind.startswith("grocery_"))]
    photos = load_photos(_bank(tmp_path, kinds))
    trained, left_out = split_kinds(find_kinds(tmp_path), 0)
    assert set(photos.kinds) == {*trained, "sample"}
    assert sorted(trained + left_out) == sorted(kinds)
    assert "cookie" in left_out  # share-alike
    assert len(left_out) == 1 + math.ceil((len(kinds) - 1) / FOLDS)
    rest = [split_kinds(find_kinds(tmp_path), fold)[1] for fold in range(FOLDS)]
    assert set().union(*rest) == set(kinds)  # every kind is left out in some fold
    assert [int(picture[0, 0, 0]) for picture in photos.kinds[trained[0]]] == [0, 40]
    assert min(photos.kinds[trained[0]][1].shape[:2]) == 256
    assert photos.photo(np.random.default_rng(0), trained[0]).shape == (240, 240, 3)


def test_share_alike_sources_are_named_and_every_source_has_a_licence() -> None:
    register = read_register()
    assert all(source.origin and source.licence and source.attribution for source in register.values())
    assert {"cookie", "ball_screw", "surf_granite"} <= {
        kind for kind, source in register.items() if source.share_alike
    }


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (None, "wanted at least 8 folders of pictures, one a kind, got 0"),
        (("pcb", "cube"), "got 2"),
        ((*"abcdefgh", "pcb"), "got a; read its licence"),
    ],
)
def test_unusable_photo_folders_are_refused(
    tmp_path: Path, kinds: tuple[str, ...] | None, message: str
) -> None:
    if kinds is not None:
        _bank(tmp_path / "photos", kinds)
    with pytest.raises(ValueError, match=message):
        find_kinds(tmp_path / "photos")


def test_an_unreadable_photo_is_named(tmp_path: Path) -> None:
    _bank(tmp_path, ["pcb"])
    (tmp_path / "pcb" / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.jpg: wanted a readable image"):
        read_kinds(tmp_path, ["pcb"])


def test_contact_sheet_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["pairs", "--count", "2", "--seed", "4", "-o", str(target)])
    pairs.main()
    with Image.open(target) as sheet:
        assert sheet.size == (3 * 3 * 240, 240)
