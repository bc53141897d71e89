"""Every data set and layout that can be opened, and one way to open them all.

Nothing is downloaded: a licence is between whoever holds the images and whoever uses them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from zeroflaw.records import Dataset

from .aebad import open_aebad
from .btad import open_btad
from .elpv import open_elpv
from .folders import open_folders, open_table
from .kolektor import open_kolektor
from .loco import open_loco
from .mvtec import open_mvtec
from .sewerml import open_sewerml
from .visa import open_visa

_PCB = "printed circuit board"


@dataclass(frozen=True, slots=True)
class Layout:
    """A data set, or a layout for anybody's own images.

    Attributes:
        name: what to call it with ``layout=`` or ``--layout``.
        title: its name in print.
        picture: where files lie, one pattern a line.
        licence: of the images, short.
        source: where to get it.
        note: what to know before measuring on it.
        opens: lists it, given its folder.
        aliases: better words for a prompt, by category; they are used only on demand, because published
            numbers are of the literal names.
    """

    name: str
    title: str
    picture: tuple[str, ...]
    licence: str
    source: str
    note: str
    opens: Callable[[str | os.PathLike[str]], Dataset]
    aliases: Mapping[str, str] = field(default_factory=dict)


def _mvtec_as(layout: str) -> Callable[[str | os.PathLike[str]], Dataset]:
    return lambda root: replace(open_mvtec(root), layout=layout)


_OWN = "your images, your licence"
_NC = "CC BY-NC-SA 4.0"
_MVTEC = (
    "ROOT/CATEGORY/train/good/000.png",
    "ROOT/CATEGORY/test/{good,DEFECT}/000.png",
    "ROOT/CATEGORY/ground_truth/DEFECT/000_mask.png",
)

_ALL = (
    Layout(
        "mvtec-ad",
        "MVTec AD",
        _MVTEC,
        _NC,
        "https://www.mvtec.com/company/research/datasets/mvtec-ad",
        "15 products, 1,725 test images, masks; --layout mvtec-ad compares the counts with those published",
        _mvtec_as("mvtec-ad"),
    ),
    Layout(
        "visa",
        "VisA",
        (
            "ROOT/CLASS/Data/Images/{Normal,Anomaly}/000.JPG",
            "ROOT/CLASS/Data/Masks/Anomaly/000.png",
            "ROOT/split_csv/1cls.csv",
            "or ROOT/1cls/CLASS/{train,test,ground_truth}/... after the official conversion",
        ),
        "CC BY 4.0",
        "https://github.com/amazon-science/spot-diff",
        "12 products, 2,162 test images, masks; scored by the split 1cls.csv",
        open_visa,
        {
            "chewinggum": "chewing gum",
            "macaroni1": "macaroni",
            "macaroni2": "macaroni",
            **{f"pcb{number}": _PCB for number in (1, 2, 3, 4)},
        },
    ),
    Layout(
        "aebad",
        "AeBAD-S and AeBAD-V",
        (
            "ROOT/AeBAD_S/train/good/{background,illumination,view}/*.png",
            "ROOT/AeBAD_S/test/{good,DEFECT}/{same,background,illumination,view}/*.png",
            "ROOT/AeBAD_S/ground_truth/DEFECT/DOMAIN/*.png",
            "ROOT/AeBAD_V/train/good/VIDEO_train/*.jpg",
            "ROOT/AeBAD_V/test/{video1,video2,video3}/{good,anomaly}/*.jpg",
        ),
        "CC BY 4.0",
        "https://github.com/zhangzilongc/MMR",
        "blades of aeroengines under shifts of domain, each measured by itself; masks in AeBAD_S only",
        open_aebad,
    ),
    Layout(
        "sewerml",
        "Sewer-ML",
        ("ROOT/SewerML_Val.csv", "ROOT/SewerML_Train.csv", "ROOT/valid*/*.png", "ROOT/train*/*.png"),
        _NC,
        "https://vap.aau.dk/sewer-ml (on request)",
        "130,046 labelled images of sewer pipes, no masks; expect low numbers of any method",
        open_sewerml,
    ),
    Layout(
        "btad",
        "BTAD",
        (
            "ROOT/{01,02,03}/train/ok/*",
            "ROOT/{01,02,03}/test/{ok,ko}/*",
            "ROOT/{01,02,03}/ground_truth/ko/*",
        ),
        _NC,
        "https://avires.dimi.uniud.it/papers/btad/btad.zip",
        "3 products, 741 test images, masks; the products have no names and are called 'product' in prompts",
        open_btad,
    ),
    Layout(
        "mpdd",
        "MPDD",
        _MVTEC,
        _NC,
        "https://github.com/stepanje/MPDD",
        "6 metal parts, 458 test images, masks; --layout mpdd compares the counts with those published",
        _mvtec_as("mpdd"),
    ),
    Layout(
        "mvtec-loco",
        "MVTec LOCO AD",
        (
            "ROOT/CATEGORY/{train,validation}/good/000.png",
            "ROOT/CATEGORY/test/{good,logical_anomalies,structural_anomalies}/000.png",
            "ROOT/CATEGORY/ground_truth/{logical_anomalies,structural_anomalies}/000/000.png",
        ),
        _NC,
        "https://www.mvtec.com/company/research/datasets/mvtec-loco",
        "5 products, 1,568 test images, a folder of masks for each; its own metric sPRO is not computed",
        open_loco,
    ),
    Layout(
        "kolektorsdd",
        "KolektorSDD",
        ("ROOT/kos01/Part0.jpg", "ROOT/kos01/Part0_label.bmp"),
        _NC,
        "https://www.vicos.si/resources/kolektorsdd",
        "399 images of commutators, 52 of them cracked, masks; all are test images",
        open_kolektor,
    ),
    Layout(
        "elpv",
        "ELPV",
        ("ROOT/labels.csv", "ROOT/images/cell0001.png"),
        _NC,
        "pip install 'zeroflaw[elpv]', then: zeroflaw evaluate elpv",
        "1,508 good and 715 defective solar cells, no masks; 401 unsure ones are left out",
        open_elpv,
    ),
    Layout(
        "mvtec",
        "your own, in the layout of MVTec AD",
        _MVTEC,
        _OWN,
        "your own photos",
        "train and ground_truth may be absent",
        open_mvtec,
    ),
    Layout(
        "folder",
        "your own, sorted into folders",
        ("ROOT/good/*", "ROOT/ANY OTHER NAME/*", "or ROOT/CATEGORY/good/*, ..."),
        _OWN,
        "your own photos",
        "train/good and ground_truth/NAME may be beside them",
        open_folders,
    ),
    Layout(
        "csv",
        "your own, in a table",
        ("NAME.csv with the columns image, label and, if there are masks, mask",),
        _OWN,
        "your own photos",
        "paths are relative to the table; label is 0 or good, 1 or defective",
        open_table,
    ),
)
LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in _ALL}
